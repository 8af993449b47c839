import type { Log } from "#platform/telemetry/log.ts";

const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
// Where a supervisor signals the whole group, bin/node.js hands its own on as well: that is still the first.
const SAME_SIGNAL_MS = 300;
/** What isn't finished by then is ended: longer than all that a process waits for. */
const STOP_MS_MAX = 60_000;

type Stopping = {
  /** What a signal waits for; one that has come already begins it now. */
  stopWith(stop: () => Promise<void>): void;
  /** The first signal has come. */
  readonly isAsked: boolean;
};

/**
 * Ends the process on a signal: the first one waits for `stop` (given when there is something to stop; before that it is
 * waited for), a second one ends it at once. The end of bin/node.js, however sudden, counts as a first one.
 */
export function stopOnSignals(log: Log): Stopping {
  const { promise: stopKnown, resolve: stopWith } = Promise.withResolvers<() => Promise<void>>();
  let firstMs: number | undefined;

  const onSignal = (signal: keyof typeof EXIT_CODES | "disconnect"): void => {
    const nowMs = performance.now();
    if (firstMs === undefined) {
      firstMs = nowMs;
      log.info({ signal }, "stopping");
      setTimeout(() => {
        log.fatal(`what is in flight isn't finished after ${STOP_MS_MAX / 1000} s; ended as it is`);
        process.exit(1);
      }, STOP_MS_MAX).unref();
      stopKnown
        .then((stop) => stop())
        .then(
          () => {
            log.info("stopped");
            process.exit(0);
          },
          (error: unknown) => {
            log.fatal({ err: error }, "stopped with an error");
            process.exit(1);
          },
        );
    } else if (signal !== "disconnect" && nowMs - firstMs > SAME_SIGNAL_MS) {
      log.warn({ signal }, "ended at once");
      process.exit(EXIT_CODES[signal]);
    }
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
  process.on("disconnect", () => onSignal("disconnect"));
  return {
    stopWith,
    get isAsked() {
      return firstMs !== undefined;
    },
  };
}
