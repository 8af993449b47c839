import type { ParseArgsOptionsConfig } from "node:util";
import { type PlatformSettings, settingPrefixes } from "#platform/config/platform-settings.ts";
import { type Environment, readSettings, unknownSettings } from "#platform/config/settings.ts";
import { createLog } from "#platform/telemetry/create-log.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { settingsTable } from "./systems.ts";

/** The options by which a command line overrides settings. */
export const settingOptions = {
  port: { type: "string" },
  "grpc-port": { type: "string" },
  host: { type: "string" },
  "public-url": { type: "string" },
  data: { type: "string" },
} as const satisfies ParseArgsOptionsConfig;

/** The option of commands that need the data folder alone. */
export const dataOption = { data: settingOptions.data } as const;

/** Reads the settings and makes the log that they ask for; a name that looks like a slip is logged. Throws SettingsError. */
export async function openSettings(flags: Environment): Promise<{ settings: PlatformSettings; log: Log }> {
  const settings = readSettings(process.env, settingsTable, flags);
  const log = await createLog({ level: settings.logLevel, format: settings.logFormat });
  for (const message of unknownSettings(process.env, settingsTable, settingPrefixes)) log.warn(message);
  return { settings, log };
}
