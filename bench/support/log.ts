import { pino } from "pino";
import type { Log } from "#platform/telemetry/log.ts";

/** Warnings and worse, on standard error: standard output belongs to the figures. */
export const benchLog = (): Log => pino({ level: "warn" }, pino.destination(2));
