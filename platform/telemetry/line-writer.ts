import { writeSync } from "node:fs";
import type { DestinationStream } from "pino";

/** What is kept of lines that their reader hasn't taken. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;
const FULL_PAUSE_MS = 20;
/** At the end of the process, a reader that takes nothing for so long is left. */
const LAST_PAUSE_MS = 500;

/**
 * Standard output, where each line is written before anything else happens, so that the last one before a crash is there. A reader
 * that takes its time holds nothing up: lines are kept for it, and above a bound dropped, of which `onDropped` tells once it reads
 * again. Once nobody reads any more, all are.
 */
export function standardOutput(onDropped: (lines: number) => void): DestinationStream {
  // Looking at it is what makes a pipe one that says when it is full; before that, writing to one waits.
  const { fd } = process.stdout;
  const kept: Buffer[] = [];
  let keptBytes = 0;
  let dropped = 0;
  let isRead = true;
  let retry: NodeJS.Timeout | undefined;

  /** Writes what it can, and tells whether that was anything. */
  const flush = (): boolean => {
    const before = keptBytes;
    for (let first = kept[0]; first !== undefined; first = kept[0]) {
      try {
        const written = writeSync(fd, first);
        keptBytes -= written;
        if (written === first.length) kept.shift();
        else kept[0] = first.subarray(written);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EAGAIN") break;
        isRead = false;
        kept.length = 0;
        keptBytes = 0;
      }
    }
    return keptBytes < before;
  };

  const retryLater = (): void => {
    retry ??= setTimeout(() => {
      retry = undefined;
      flush();
      if (kept.length > 0) return retryLater();
      const told = dropped;
      dropped = 0;
      if (told > 0) onDropped(told);
    }, FULL_PAUSE_MS).unref();
  };

  process.on("exit", () => {
    const pause = new Int32Array(new SharedArrayBuffer(4));
    for (let idleMs = 0; kept.length > 0 && idleMs < LAST_PAUSE_MS; idleMs = flush() ? 0 : idleMs + FULL_PAUSE_MS)
      Atomics.wait(pause, 0, 0, FULL_PAUSE_MS);
  });
  return {
    write(line) {
      if (!isRead) return;
      const bytes = Buffer.from(line);
      if (keptBytes + bytes.length > KEPT_BYTES_MAX && kept.length > 0) {
        dropped += 1;
        return;
      }
      kept.push(bytes);
      keptBytes += bytes.length;
      // Behind what is kept, it is written when that is.
      if (retry === undefined) flush();
      if (kept.length > 0) retryLater();
    },
  };
}
