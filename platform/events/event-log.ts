import type { EventRecord } from "#platform/events/record.ts";

/** Past this an event's payload is refused, on every engine: 256 KiB. */
export const PAYLOAD_BYTES_MAX = 256 * 1024;

export const RECORDS_A_BATCH = 512;

/**
 * No event lies in a log for longer than its retention and this: consumers know what they have handled for so long, and would have
 * to handle it again afterwards.
 */
export const PAST_RETENTION_MS = 24 * 3_600_000;

export type Topic = { readonly name: string; readonly partitions: number; readonly retentionMs: number };

/**
 * Where events of all services lie, in topics and partitions: tables in PostgreSQL (postgres-log.ts), or Kafka. Two records
 * of one topic with the same key lie in the same partition, in the order in which they were published.
 */
export type EventLog = {
  /** The running PostgreSQL server in which the log lies, where it does: what shares its write-ahead log may commit without waiting for the disk. */
  readonly serverId: string | undefined;
  /** Makes topics that aren't there, and sets their retention. Throws where one is there with another number of partitions. */
  ensureTopics(topics: readonly Topic[]): Promise<void>;
  /**
   * Appends records in order and resolves when they are kept. `durable: false` doesn't wait for the disk. Throws
   * RecordRefusedError for a record that will never be taken; nothing, or some of the others, may have been appended then.
   */
  publish(records: readonly EventRecord[], options?: { readonly durable?: boolean }): Promise<void>;
  /** Joins a group, which is made where it isn't there and starts from the earliest record. One subscription of a group a process. */
  subscribe(options: SubscribeOptions): Promise<Subscription>;
  /** What every group has still before it. */
  lag(): Promise<Lag[]>;
  /** Ends all subscriptions and connections. */
  close(): Promise<void>;
};

export type SubscribeOptions = {
  readonly group: string;
  readonly topics: readonly string[];
  /** Handles a batch; once it resolves, the group's position is past the batch. When it throws, the batch comes again after a pause. */
  readonly handle: (batch: FetchedBatch) => Promise<void>;
  /** A partition was given to this member; `assignment.signal` fires when it is taken away or the subscription stops. */
  readonly assigned?: (assignment: Assignment) => void;
  /** At most about so many records a batch; RECORDS_A_BATCH unless said. */
  readonly maxRecords?: number;
};

/** A partition in the hands of one member of a group. */
export type Assignment = {
  readonly group: string;
  readonly topic: string;
  readonly partition: number;
  /** Resolves where the log takes this member for the partition's holder after the call; throws FencedError where another is. */
  readonly confirm: () => Promise<void>;
  readonly signal: AbortSignal;
};

/** Records of one partition, in their order, without gaps. */
export type FetchedBatch = {
  readonly assignment: Assignment;
  readonly records: readonly EventRecord[];
  /** The offset of the last record. */
  readonly lastOffset: bigint;
};

export type Subscription = {
  /** Lets what is in flight end, commits its position and leaves the group. */
  stop(): Promise<void>;
};

export type Lag = { readonly group: string; readonly topic: string; readonly partition: number; readonly events: bigint };

/** A group as somebody sees it who doesn't run it. */
export type GroupStatus = {
  readonly group: string;
  /** Events that it has still before it, in all its partitions. */
  readonly lag: bigint;
  /** Processes that run it now. */
  readonly members: number;
};

/** The groups of the log. */
export type Groups = {
  /** All of them, by name. */
  list(): Promise<GroupStatus[]>;
  /** Forgets a group for good. Throws while a member of it is alive, and where there is none of the name. */
  drop(group: string): Promise<void>;
};

/** The log will never take this record. */
export class RecordRefusedError extends Error {
  override readonly name = "RecordRefusedError";
  readonly record: EventRecord;

  constructor(record: EventRecord, message: string) {
    super(`${record.type} ${record.eventId}: ${message}`);
    this.record = record;
  }
}

/** Another member holds the partition: nothing was written. */
export class FencedError extends Error {
  override readonly name = "FencedError";
}
