import { readNetwork } from "#platform/edge/networks.ts";
import { parseDuration } from "./duration.ts";
import type { SettingType } from "./setting-types.ts";

/** So many requests in any window. */
export type RequestLimit = { readonly requests: number; readonly windowMs: number };

const WINDOW_MS_MAX = 24 * 3_600_000;

/** `1200/60s`; `off`: none. */
export const requestLimit: SettingType<RequestLimit | "off"> = {
  must: "requests/window, as 1200/60s (s, m or h; a day at the most), or off",
  parse(value) {
    if (value === "off") return value;
    const [, digits, window = ""] = /^([1-9]\d{0,8})\/(\w+)$/.exec(value) ?? [];
    const windowMs = parseDuration(window);
    return digits === undefined || windowMs === undefined || windowMs > WINDOW_MS_MAX ? undefined : { requests: Number(digits), windowMs };
  },
  show: (value) => (value === "off" ? value : `${value.requests}/${value.windowMs / 1000}s`),
};

/** Addresses and networks, in their written form. */
export const networks: SettingType<readonly string[]> = {
  must: "IP addresses or networks such as 10.0.0.0/8, with commas between",
  parse(value) {
    const list = value.split(",").map(readNetwork);
    return list.every((network) => network !== undefined) ? list : undefined;
  },
  show: (list) => list.join(","),
};

/** Origins of web pages, each exactly. */
export const origins: SettingType<readonly string[]> = {
  must: "origins such as https://app.example.com, without a path, with commas between; not *",
  parse(value) {
    const list = value.split(",").map((part) => part.trim());
    return list.every(isOrigin) ? list : undefined;
  },
  show: (list) => list.join(",") || "-",
};

const isOrigin = (text: string): boolean => /^https?:\/\//.test(text) && URL.canParse(text) && new URL(text).origin === text;
