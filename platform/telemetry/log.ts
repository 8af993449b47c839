import type { Logger } from "pino";

/** A structured logger; every part gets one with its own fields (`log.child({ service: "orders" })`). */
export type Log = Pick<Logger, "trace" | "debug" | "info" | "warn" | "error" | "fatal"> & { child(fields: Record<string, unknown>): Log };
