import type { Client } from "pg";
import { pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import { endSession } from "#platform/postgres/session.ts";
import type { Log } from "#platform/telemetry/log.ts";

const CHANNEL = "polis_wakeups";

/**
 * Tells the other processes that there is something to do, over one session with PostgreSQL: NOTIFY takes a lock of the whole
 * server at commit, so it is never part of a transaction, and many wake-ups share one. All of it is a matter of speed: who
 * waits for a wake-up looks by itself now and then.
 */
export type Wakeups = {
  /** Wakes those in other processes who listen to `subject` (no comma in it), soon. */
  notify(subject: string): void;
  /** Calls `wake` when another process notifies, and after the session was lost for a while. */
  on(subject: string, wake: () => void): void;
  close(): Promise<void>;
};

export type WakeupsOptions = {
  /** Opens a direct session (no pooler between that lends it to others). */
  readonly connect: () => Promise<Client>;
  readonly log: Log;
  readonly timings: EventTimings;
};

export function openWakeups({ connect, log, timings }: WakeupsOptions): Wakeups {
  const self = crypto.randomUUID();
  const listeners = new Map<string, (() => void)[]>();
  const subjects = new Set<string>();
  const closing = new AbortController();
  let session: Client | undefined;
  let timer: NodeJS.Timeout | undefined;

  const hear = (payload: string | undefined): void => {
    const [from, ...heard] = (payload ?? "").split(",");
    if (from === self) return;
    for (const subject of heard) for (const wake of listeners.get(subject) ?? []) wake();
  };

  const send = (): void => {
    timer = undefined;
    const payload = [self, ...subjects].join(",");
    subjects.clear();
    session
      ?.query("SELECT pg_notify($1, $2)", [CHANNEL, payload])
      .catch((error: unknown) => log.debug({ err: error }, "a wake-up was lost"));
  };

  const listen = async (): Promise<void> => {
    for (let failures = 0; !closing.signal.aborted; ) {
      const { promise: ended, resolve } = Promise.withResolvers<void>();
      const end = (): void => resolve();
      closing.signal.addEventListener("abort", end, { once: true });
      let client: Client | undefined;
      try {
        client = await connect();
        client.once("end", end);
        client.once("error", end);
        client.on("error", (error) => log.debug({ err: error }, "the session for wake-ups was lost"));
        client.on("notification", (message) => hear(message.payload));
        await client.query(`LISTEN ${CHANNEL}`);
        session = client;
        failures = 0;
        // What was notified while nobody listened is not told again.
        for (const wakes of listeners.values()) for (const wake of wakes) wake();
        await ended;
      } catch (error) {
        failures += 1;
        log.warn({ err: error }, "no session for wake-ups; events between processes wait for the slow poll");
      } finally {
        session = undefined;
        closing.signal.removeEventListener("abort", end);
        if (client !== undefined) await endSession(client, timings.partingMs);
      }
      if (!closing.signal.aborted) await pause(growingPauseMs(Math.max(failures, 1), timings), closing.signal);
    }
  };
  const listening = listen();

  return {
    notify(subject) {
      subjects.add(subject);
      timer ??= setTimeout(send, timings.notifyEveryMs);
    },
    on(subject, wake) {
      listeners.set(subject, [...(listeners.get(subject) ?? []), wake]);
    },
    async close() {
      clearTimeout(timer);
      closing.abort();
      await listening;
    },
  };
}
