import { type DestinationStream, type Level, type Logger, pino } from "pino";
import { standardOutput } from "./line-writer.ts";
import type { Log } from "./log.ts";
import { masked } from "./mask.ts";

export type LogOptions = {
  readonly level: Level | "silent";
  /** `auto` is `pretty` where standard output is a terminal. */
  readonly format: "auto" | "json" | "pretty";
  /** Where lines go; standard output unless said. */
  readonly destination?: DestinationStream;
};

/**
 * The log of a process: a JSON object a line (`time`, `level`, `msg`, the fields), or lines for a reader. What `masked` hides never
 * gets here.
 */
export async function createLog({ level, format, ...options }: LogOptions): Promise<Log> {
  const onDropped = (lines: number): void => root.warn({ lines }, "lines of this log were dropped, as nobody read them");
  const destination = options.destination ?? standardOutput(onDropped);
  const pretty = format === "pretty" || (format === "auto" && process.stdout.isTTY === true);
  const root: Logger = pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: (error: unknown) => error },
      formatters: {
        level: (label) => ({ level: label }),
        log: maskedFields,
      },
    },
    pretty ? await forReaders(destination) : destination,
  );
  // pino's formatters see a line's fields, not those of a child; children inherit what stands here.
  const { child } = root;
  root.child = function maskedChild(this: Logger, fields, options) {
    return child.call(this, maskedFields(fields), options);
  } as typeof child;
  const log: Log = root;
  return log;
}

const maskedFields = (fields: object) => masked(fields) as Record<string, unknown>;

/** pino-pretty is loaded only where somebody reads. */
async function forReaders(destination: DestinationStream): Promise<DestinationStream> {
  const { prettyFactory } = await import("pino-pretty");
  const pretty = prettyFactory({ colorize: process.stdout.isTTY === true, translateTime: "SYS:HH:MM:ss.l", ignore: "pid" });
  return { write: (line) => void destination.write(pretty(line) ?? "") };
}
