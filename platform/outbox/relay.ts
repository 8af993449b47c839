import { type EventLog, RecordRefusedError } from "#platform/events/event-log.ts";
import type { EventRecord } from "#platform/events/record.ts";
import { atMost, makeBell, pause, unlessAborted } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import type { Wakeups } from "#platform/events/wakeups.ts";
import {
  deleteRows,
  LeaseLostError,
  lockLease,
  type OutboxRow,
  outboxDepth,
  releaseLease,
  renewLease,
  takeLease,
  takeNextRows,
} from "#platform/outbox/outbox.ts";
import { deleteParked, keepParked, type Parked, parkedByKey, parkRecords, readAskedFor } from "#platform/outbox/parked.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

export type RelayOptions = {
  readonly service: string;
  /** The service's own database. */
  readonly database: Database;
  readonly log: EventLog;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: EventTimings;
  /** Without it, a relay in another process learns of events by its slow poll. */
  readonly wakeups?: Wakeups | undefined;
};

export type Relay = {
  /** Called after a commit with events. */
  wake(): void;
  /** Ends after what is in flight and releases the lease. */
  stop(): Promise<void>;
};

/**
 * Carries a service's events from its outbox to the log, in order. Of all relays of an outbox one works, the one with the
 * lease; when it dies or freezes, another takes over once the lease has ended. Publish, then delete: what is in between when
 * a relay dies is published twice, and inboxes know it.
 *
 * The deletion never waits for the disk: one that is lost is a repeat. The append doesn't either where log and outbox share a
 * server, for then the deletion stands behind it in the same write-ahead log; and a relay that lives through a crash of the
 * server has lost its lease by it.
 */
export function startRelay(options: RelayOptions): Relay {
  const { service, timings, logger, wakeups } = options;
  const bell = makeBell();
  const stopping = new AbortController();
  const hurrying = new AbortController();
  let leads = false;
  const gauges = {
    events: options.metrics.gauge("polis_outbox_events", "Events that wait in a service's outbox", ["service"]),
    age: options.metrics.gauge("polis_outbox_age_seconds", "Age of the oldest event in a service's outbox", ["service"]),
    parked: options.metrics.gauge("polis_outbox_parked", "Events that the log refused, and those that wait behind them", ["service"]),
  };
  wakeups?.on(`outbox ${service}`, bell.ring);

  const measure: Measure = {
    depth({ events, ageSeconds }) {
      gauges.events.set({ service }, events);
      gauges.age.set({ service }, ageSeconds);
    },
    parked: (events) => gauges.parked.set({ service }, events),
  };

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const lease = makeLease(options);
      const taken = await lease.take().catch((error: unknown) => {
        logger.debug({ err: error }, "the outbox is away");
        return false;
      });
      if (!taken) {
        await pause(timings.outboxHeartbeatMs, stopping.signal);
        continue;
      }
      leads = true;
      try {
        await relayRounds(options, { lease, bell, stopping: stopping.signal, hurrying: hurrying.signal, measure });
      } catch (error) {
        logger.warn({ err: error }, "the outbox's lease was lost");
      } finally {
        leads = false;
        for (const gauge of Object.values(gauges)) gauge.remove({ service });
        await lease.release();
      }
    }
  };
  const running = run();

  return {
    wake() {
      if (leads) bell.ring();
      else wakeups?.notify(`outbox ${service}`);
    },
    async stop() {
      stopping.abort();
      bell.ring();
      await atMost(timings.partingMs, running);
      hurrying.abort();
      await running;
    },
  };
}

type Lease = {
  readonly token: string;
  take(): Promise<boolean>;
  /** Throws LeaseLostError once the lease may have ended: judged by a clock that doesn't jump, from before the last renewal. */
  assertHeld(): void;
  release(): Promise<void>;
};

function makeLease({ database, timings, logger }: RelayOptions): Lease {
  const token = crypto.randomUUID();
  let heldUntil = 0;
  let timer: NodeJS.Timeout | undefined;
  const renew = async (): Promise<void> => {
    const sentAt = performance.now();
    try {
      heldUntil = (await renewLease(database, token, timings.outboxLeaseMs)) ? sentAt + timings.outboxLeaseMs : 0;
    } catch (error) {
      logger.debug({ err: error }, "the outbox's lease wasn't renewed");
    }
  };
  return {
    token,
    async take() {
      const sentAt = performance.now();
      if (!(await takeLease(database, token, timings.outboxLeaseMs))) return false;
      heldUntil = sentAt + timings.outboxLeaseMs;
      timer = setInterval(() => void renew(), timings.outboxHeartbeatMs);
      return true;
    },
    assertHeld() {
      if (performance.now() >= heldUntil) throw new LeaseLostError("the outbox's lease has ended");
    },
    async release() {
      if (timer === undefined) return;
      clearInterval(timer);
      await releaseLease(database, token).catch((error: unknown) => logger.debug({ err: error }, "the outbox's lease ends by itself"));
    },
  };
}

type Work = {
  readonly lease: Lease;
  readonly bell: ReturnType<typeof makeBell>;
  readonly stopping: AbortSignal;
  /** A log that hasn't answered yet isn't waited for: what was to be published stays in the outbox. */
  readonly hurrying: AbortSignal;
  readonly measure: Measure;
};

type Measure = {
  depth(depth: { readonly events: number; readonly ageSeconds: number }): void;
  parked(events: number): void;
};

/**
 * Rounds until the relay is stopped or its lease lost; what else goes wrong is tried again after a pause that grows. What a round
 * published is deleted with the reading of the next.
 */
async function relayRounds(options: RelayOptions, { lease, bell, stopping, hurrying, measure }: Work): Promise<void> {
  const { database, timings, logger } = options;
  let parkedKeys: Set<string> | undefined;
  let published: readonly bigint[] = [];
  let lookedAt = Number.NEGATIVE_INFINITY;
  for (let failures = 0; !stopping.aborted || published.length > 0; ) {
    lease.assertHeld();
    const done = published;
    // Only once: after a failure the log may have lost what it took, and must get it again.
    published = [];
    try {
      if (performance.now() - lookedAt >= timings.outboxPollMs) {
        lookedAt = performance.now();
        measure.depth(await outboxDepth(database));
        if (parkedKeys?.size !== 0) {
          // There may be more.
          if (await unlessAborted(retryParkedRows(options, lease), hurrying)) lookedAt = Number.NEGATIVE_INFINITY;
          // Read again in any case: somebody may have removed rows by hand.
          parkedKeys = undefined;
        }
      }
      parkedKeys ??= await readParkedKeys(database, measure);
      const rows = await takeNextRows(database, done, lease.token);
      if (stopping.aborted) return;
      if (rows.length === 0) await bell.wait(timings.outboxPollMs);
      else published = await unlessAborted(relayRound(options, lease, rows, parkedKeys), hurrying);
      failures = 0;
    } catch (error) {
      if (error instanceof LeaseLostError) throw error;
      failures += 1;
      // Something parked may have left for all that.
      parkedKeys = undefined;
      logger.warn({ err: error, failures }, "events wait in the outbox");
      await pause(growingPauseMs(failures, timings), stopping);
    }
  }
}

const keyOf = ({ topic, key }: Pick<EventRecord, "topic" | "key">): string => `${topic} ${key}`;

/** The topics and keys of everything that is parked. */
async function readParkedKeys(database: Database, measure: Measure): Promise<Set<string>> {
  const parked = await parkedByKey(database);
  measure.parked(parked.reduce((sum, { events }) => sum + events, 0));
  return new Set(parked.map(keyOf));
}

/** Publishes rows; returns those that are still to be deleted. */
async function relayRound(
  options: RelayOptions,
  lease: Lease,
  rows: readonly OutboxRow[],
  parkedKeys: Set<string>,
): Promise<readonly bigint[]> {
  const { database } = options;
  const records = rows.flatMap((row) => row.records);
  const parked = await publishOrPark(options, records, parkedKeys);
  const ids = rows.map((row) => row.id);
  if (parked.length === 0) return ids;
  await database.transaction(async (tx) => {
    await lockLease(tx, lease.token);
    // Last, since it says that the transaction needn't wait for the disk; but this one moves events, and must.
    await tx.commit([...parkRecords(parked), deleteRows(ids, lease.token), { text: "SET LOCAL synchronous_commit = on" }]);
  });
  for (const { record } of parked) parkedKeys.add(keyOf(record));
  return [];
}

/** Publishes what the log takes, and returns what is to be parked: what it refuses, and what follows under the same key. */
async function publishOrPark(
  { database, log, logger }: RelayOptions,
  records: readonly EventRecord[],
  parkedKeys: ReadonlySet<string>,
): Promise<Parked[]> {
  const durable = log.serverId !== database.serverId;
  const causes = new Map<EventRecord, string | undefined>();
  for (const record of records) if (parkedKeys.has(keyOf(record))) causes.set(record, undefined);
  for (;;) {
    const rest = records.filter((record) => !causes.has(record));
    if (rest.length === 0) break;
    try {
      await log.publish(rest, { durable });
      break;
    } catch (error) {
      if (!(error instanceof RecordRefusedError)) throw error;
      const refused = rest.indexOf(error.record);
      if (refused < 0) throw error;
      logger.error({ err: error, eventId: error.record.eventId, topic: error.record.topic }, "the log refused an event; it is parked");
      for (const record of rest.slice(refused)) if (keyOf(record) === keyOf(error.record)) causes.set(record, undefined);
      causes.set(error.record, error.message);
    }
  }
  return records.filter((record) => causes.has(record)).map((record) => ({ record, cause: causes.get(record) }));
}

/** Publishes parked events whose keys somebody has asked for, some at a time, each key in order; false where nobody has. */
async function retryParkedRows({ database, log, logger }: RelayOptions, lease: Lease): Promise<boolean> {
  const asked = await readAskedFor(database);
  const stuck = new Set<string>();
  for (const row of asked) {
    const { record } = row;
    if (stuck.has(keyOf(record))) continue;
    lease.assertHeld();
    let done = deleteParked(row);
    try {
      await log.publish([record]);
    } catch (error) {
      if (!(error instanceof RecordRefusedError)) throw error;
      logger.error({ err: error, eventId: record.eventId }, "the log refused a parked event again");
      stuck.add(keyOf(record));
      done = keepParked(row, error.message);
    }
    await database.transaction(async (tx) => {
      await lockLease(tx, lease.token);
      await tx.commit([done]);
    });
  }
  return asked.length > 0;
}
