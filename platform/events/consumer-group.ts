import type { DescService } from "@bufbuild/protobuf";
import type { Counter, Gauge } from "prom-client";
import type { Clock } from "#platform/clock.ts";
import type { ApplyItems } from "#platform/events/apply.ts";
import type { EventHandler, EventMessage } from "#platform/events/define-consumer.ts";
import type { Assignment } from "#platform/events/event-log.ts";
import { readEvent, storableKey } from "#platform/events/event-types.ts";
import type { FailureBook } from "#platform/events/failure-book.ts";
import type { EventRecord } from "#platform/events/record.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import { type Fence, raiseFence } from "#platform/inbox/fence.ts";
import { inboxId } from "#platform/inbox/inbox.ts";
import { parkedKeys } from "#platform/inbox/parking.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Equipment } from "#platform/resource.ts";
import type { Transport } from "#platform/rpc/transport.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Tracer } from "#platform/telemetry/tracing.ts";

/** A running consumer of one service, in one process. */
export type ConsumerGroup = {
  /** `payments.on-order-created`. */
  readonly name: string;
  /** Its number in the consumer's database. */
  readonly id: number;
  readonly service: string;
  readonly handlers: ReadonlyMap<string, EventHandler>;
  /** The consumer's own. */
  readonly database: Database;
  readonly equipment: Equipment;
  readonly apply: ApplyItems;
  readonly transportFor: (service: DescService) => Transport;
  readonly logger: Log;
  readonly tracer: Tracer;
  readonly clock: Clock;
  readonly timings: EventTimings;
  readonly failures: FailureBook;
  readonly handled: Counter<"group" | "outcome">;
  readonly paused: Gauge<"group" | "topic" | "partition">;
};

/** A partition in this process's hands, with what it knows of its parked events. */
export type PartitionWork = {
  readonly assignment: Assignment;
  /** Known once `exclusive` runs something. */
  readonly fence: Fence;
  /** Keys that have parked events; at least those, since others may remove some, and nobody else adds any. */
  readonly parked: Set<string>;
  /** The one key that was taken aside to see whether others fare better (failure-book.ts). */
  aside: string | undefined;
  /** Runs one thing after the other: fresh events and the drain of parked ones never overlap. */
  exclusive<T>(run: () => Promise<T>): Promise<T>;
};

/** An event that is being handled. */
export type Entry = {
  readonly record: EventRecord;
  readonly inboxId: string;
  readonly handler: EventHandler;
  /** Decoded and validated, or why it can't be. */
  readonly read: { readonly event: EventMessage } | { readonly error: unknown };
};

export function makeEntry(fetched: EventRecord, handler: EventHandler): Entry {
  // What the event tells is in its payload; the record's key is only there to keep its order.
  const record = { ...fetched, key: storableKey(fetched.key) };
  const id = inboxId(record);
  try {
    return { record, inboxId: id, handler, read: { event: readEvent(handler.schema, record) } };
  } catch (error) {
    return { record, inboxId: id, handler, read: { error } };
  }
}

/** Takes up a partition: shuts out whoever held it before, then learns what is parked. */
export function makePartitionWork({ id, database }: ConsumerGroup, assignment: Assignment): PartitionWork {
  const { topic, partition } = assignment;
  let fence: Fence | undefined;
  const parked = new Set<string>();
  let last: Promise<unknown> = Promise.resolve();
  return {
    assignment,
    get fence() {
      if (fence === undefined) throw new Error(`nobody has shut out the former holder of ${topic}/${partition}`);
      return fence;
    },
    parked,
    aside: undefined,
    exclusive(run) {
      const result = last
        .catch(() => undefined)
        .then(async () => {
          if (fence === undefined) {
            const raised = await raiseFence(database, { groupId: id, topic, partition }, assignment.confirm);
            for (const key of await parkedKeys(database, raised)) parked.add(key);
            fence = raised;
          }
          return run();
        });
      last = result;
      return result;
    },
  };
}
