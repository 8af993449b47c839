import { pino } from "pino";
import type { Log } from "#platform/telemetry/log.ts";

type Line = { readonly msg: string; readonly err?: { readonly message: string }; readonly [field: string]: unknown };

/** A log from a level on, warnings unless said, and what was logged there; an error's message ends in those of its causes. */
export function loggedLines(level: "warn" | "error" = "warn"): { readonly log: Log; readonly logged: readonly Line[] } {
  const logged: Line[] = [];
  const log = pino({ level }, { write: (line: string) => void logged.push(JSON.parse(line)) }) as unknown as Log;
  return { log, logged };
}
