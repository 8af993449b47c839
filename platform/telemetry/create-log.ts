import { writeSync } from "node:fs";
import { type DestinationStream, type Level, type Logger, pino } from "pino";
import type { Log } from "./log.ts";
import { masked } from "./mask.ts";

const FULL_PAUSE_MS = 5;

export type LogOptions = {
  readonly level: Level | "silent";
  /** `auto` is `pretty` where standard output is a terminal. */
  readonly format: "auto" | "json" | "pretty";
  /** Where lines go; standard output unless said. */
  readonly destination?: DestinationStream;
};

/**
 * The log of a process: a JSON object a line (`time`, `level`, `msg`, the fields), or lines for a reader. Lines are written at
 * once, so that the last one before a crash is there. What `masked` hides never gets here.
 */
export async function createLog({ level, format, destination = writtenAtOnce(1) }: LogOptions): Promise<Log> {
  const pretty = format === "pretty" || (format === "auto" && process.stdout.isTTY === true);
  const root = pino(
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

/**
 * Where each line is written before anything else happens. Once nobody reads any more, lines are dropped: pino's own destination
 * then tries for ever when the process wants to end.
 */
function writtenAtOnce(fd: number): DestinationStream {
  let isRead = true;
  return {
    write(line) {
      for (let rest = Buffer.from(line); isRead && rest.length > 0; ) {
        try {
          rest = rest.subarray(writeSync(fd, rest));
        } catch (error) {
          // A pipe that is full, as it may be made not to wait.
          if ((error as NodeJS.ErrnoException).code === "EAGAIN")
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_PAUSE_MS);
          else isRead = false;
        }
      }
    },
  };
}

/** pino-pretty is loaded only where somebody reads. */
async function forReaders(destination: DestinationStream): Promise<DestinationStream> {
  const { prettyFactory } = await import("pino-pretty");
  const pretty = prettyFactory({ colorize: process.stdout.isTTY === true, translateTime: "SYS:HH:MM:ss.l", ignore: "pid" });
  return { write: (line) => void destination.write(pretty(line) ?? "") };
}
