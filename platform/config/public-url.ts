import { url } from "#platform/config/setting-types.ts";
import { setting } from "#platform/config/settings.ts";

/** Where clients find us; the same in every process. */
export const publicUrl = setting({
  name: "POLIS_PUBLIC_URL",
  flag: "public-url",
  type: url("http", "https"),
  default: "http://127.0.0.1:8080",
  text: "where clients reach the gateway, as https://api.example.com, the same in every process: who issues tokens, as they say themselves; with https, browsers are told to come by nothing else (HSTS)",
});
