import { writeSync } from "node:fs";
import type { DestinationStream } from "pino";

/** What is kept of lines that their reader hasn't taken. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;
const FULL_PAUSE_MS = 20;
const BLOCK_BYTES = 64 * 1024;
const WRITTEN_AT_ONCE = 256 * 1024;
/** At the end of the process, what is kept has so long to be taken. */
const LAST_MS_MAX = 1_000;

/**
 * Standard output, where each line is written before anything else happens, so that the last one before a crash is there. A reader
 * that takes its time holds nothing up: lines are kept for it, and above a bound dropped, of which `onDropped` tells once it reads
 * again. Once nobody reads any more, all are.
 */
export function standardOutput(onDropped: (lines: number) => void): DestinationStream {
  // Looking at it is what makes a pipe one that says when it is full; before that, writing to one waits.
  const { fd } = process.stdout;
  let kept: Buffer[] = [];
  /** Of `kept`, those before it have been written. */
  let next = 0;
  let keptBytes = 0;
  let dropped = 0;
  let isRead = true;
  let retry: NodeJS.Timeout | undefined;

  const forgetAll = (): void => {
    kept = [];
    next = 0;
    keptBytes = 0;
  };

  /** Writes some of what is kept, so that a long backlog holds nothing else up, and tells whether that was anything. */
  const flush = (): boolean => {
    const before = keptBytes;
    while (next < kept.length && before - keptBytes < WRITTEN_AT_ONCE) {
      const lines = [kept[next] as Buffer];
      for (let bytes = lines[0]?.length ?? 0; next + lines.length < kept.length && bytes < BLOCK_BYTES; ) {
        const line = kept[next + lines.length] as Buffer;
        lines.push(line);
        bytes += line.length;
      }
      const block = lines.length === 1 ? (lines[0] as Buffer) : Buffer.concat(lines);
      let written: number;
      try {
        written = writeSync(fd, block);
      } catch (error) {
        // Full, or for now without a disk: what comes of that is told when it takes lines again. Without a reader it never will.
        isRead = !["EPIPE", "EBADF"].includes((error as NodeJS.ErrnoException).code ?? "");
        if (!isRead) forgetAll();
        break;
      }
      keptBytes -= written;
      if (written === block.length) next += lines.length;
      else {
        next += lines.length - 1;
        kept[next] = block.subarray(written);
      }
    }
    // Now and then: to move up each time would take as long as the backlog is.
    if (next === kept.length) forgetAll();
    else if (next > kept.length / 2) {
      kept = kept.slice(next);
      next = 0;
    }
    return keptBytes < before;
  };

  const retryLater = (): void => {
    retry ??= setTimeout(() => {
      retry = undefined;
      flush();
      if (keptBytes > 0) return retryLater();
      const told = dropped;
      dropped = 0;
      if (told > 0) onDropped(told);
    }, FULL_PAUSE_MS).unref();
  };

  process.on("exit", () => {
    const pause = new Int32Array(new SharedArrayBuffer(4));
    const untilMs = performance.now() + LAST_MS_MAX;
    while (keptBytes > 0 && performance.now() < untilMs) if (!flush()) Atomics.wait(pause, 0, 0, FULL_PAUSE_MS);
  });
  return {
    write(line) {
      if (!isRead) return;
      const bytes = Buffer.from(line);
      if (keptBytes + bytes.length > KEPT_BYTES_MAX && keptBytes > 0) {
        dropped += 1;
        return;
      }
      kept.push(bytes);
      keptBytes += bytes.length;
      // Behind what is kept, it is written when that is.
      if (retry === undefined) flush();
      if (keptBytes > 0) retryLater();
    },
  };
}
