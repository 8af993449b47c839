import type { DescService } from "@bufbuild/protobuf";
import type { Clock } from "#platform/clock.ts";
import type { ApplyItems } from "#platform/events/apply.ts";
import { type ConsumerGroup, makePartitionWork, type PartitionWork } from "#platform/events/consumer-group.ts";
import type { Consumer } from "#platform/events/define-consumer.ts";
import { drainParked } from "#platform/events/drain-parked.ts";
import type { Assignment, EventLog } from "#platform/events/event-log.ts";
import { topicsOf } from "#platform/events/event-types.ts";
import { makeFailureBook } from "#platform/events/failure-book.ts";
import { handleBatch } from "#platform/events/handle-batch.ts";
import { pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import { countParked } from "#platform/inbox/dead-letters.ts";
import { inboxGroup } from "#platform/inbox/inbox.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Equipment } from "#platform/resource.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

export type ConsumerOptions = {
  /** `payments.on-order-created`. */
  readonly group: string;
  readonly service: string;
  readonly consumer: Consumer;
  /** The service's own, with inbox/migrations. */
  readonly database: Database;
  readonly equipment: Equipment;
  readonly apply: ApplyItems;
  readonly log: EventLog;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly clock: Clock;
  readonly timings: EventTimings;
  /** The way to a peer that `prepare` calls. */
  readonly transportFor: (service: DescService) => Transport;
};

export type RunningConsumer = {
  /** Ends after what is in flight. */
  stop(): Promise<void>;
};

/** Joins the consumer's group and handles events until it is stopped. Throws where the contract or the log refuses. */
export async function startConsumer(options: ConsumerOptions): Promise<RunningConsumer> {
  const { consumer, log, timings, metrics } = options;
  const topics = topicsOf(consumer.handlers.map((handler) => handler.schema));
  // The publisher may start later than its reader.
  await log.ensureTopics(topics);
  const group: ConsumerGroup = {
    ...options,
    name: options.group,
    id: await inboxGroup(options.database, options.group),
    handlers: new Map(consumer.handlers.map((handler) => [handler.schema.typeName, handler])),
    failures: makeFailureBook(timings, options.clock),
    handled: metrics.counter("polis_consumer_handled_total", "Events by what became of them", ["group", "outcome"]),
    paused: metrics.gauge("polis_consumer_paused", "1 while events of a partition wait for a neighbour", ["group", "topic", "partition"]),
  };
  const works = new Map<Assignment, PartitionWork>();
  const drains = new Set<Promise<void>>();
  const workOf = (assignment: Assignment): PartitionWork => {
    const known = works.get(assignment);
    if (known !== undefined) return known;
    const work = makePartitionWork(group, assignment);
    works.set(assignment, work);
    return work;
  };
  const subscription = await log.subscribe({
    group: options.group,
    topics: topics.map((topic) => topic.name),
    assigned(assignment) {
      const { topic, partition } = assignment;
      const draining = keepDraining(group, workOf(assignment)).finally(() => {
        works.delete(assignment);
        group.paused.remove({ group: group.name, topic, partition: String(partition) });
        drains.delete(draining);
      });
      drains.add(draining);
    },
    handle: (batch) => {
      const { topic, partition } = batch.assignment;
      const links = batch.records.map((record) => record.traceparent);
      const span = group.tracer.start(`consume ${group.name}`, links[0], { topic, partition, events: links.length }, links.slice(1));
      return handleBatch(group, workOf(batch.assignment), batch).then(
        () => span.end(),
        (error: unknown) => {
          span.end(error);
          throw error;
        },
      );
    },
  });
  const counting = keepCounting(group, metrics);
  return {
    async stop() {
      await subscription.stop();
      await Promise.all(drains);
      await counting.stop();
    },
  };
}

/** Drains the partition's parked events for as long as this member holds it. */
async function keepDraining(group: ConsumerGroup, work: PartitionWork): Promise<void> {
  const { timings, logger } = group;
  const { signal } = work.assignment;
  const soonMs = Math.min(timings.parkedPollMs, ...timings.retryPausesMs);
  for (let failures = 0; !signal.aborted; ) {
    let waitMs = timings.parkedPollMs;
    try {
      const { progressed, retrying } = await work.exclusive(() => drainParked(group, work));
      if (progressed) waitMs = 0;
      else if (retrying) waitMs = soonMs;
      failures = 0;
    } catch (error) {
      failures += 1;
      logger.debug({ err: error, failures }, "parked events wait");
      waitMs = growingPauseMs(failures, timings);
    }
    if (waitMs > 0) await pause(waitMs, signal);
  }
}

/** Counts parked events, now and then. */
function keepCounting(group: ConsumerGroup, metrics: Metrics): RunningConsumer {
  const { database, timings, logger } = group;
  const gauge = metrics.gauge("polis_dead_letters", "Parked events of a group", ["group", "state"]);
  const stopping = new AbortController();
  const count = async (): Promise<void> => {
    const counts = await countParked(database, group.id);
    for (const [state, events] of Object.entries(counts)) gauge.set({ group: group.name, state }, events);
  };
  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await count().catch((error: unknown) => logger.debug({ err: error }, "parked events weren't counted"));
      await pause(timings.deadLetterCountMs, stopping.signal);
    }
  };
  const running = run();
  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
