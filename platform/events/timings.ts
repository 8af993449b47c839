/** Every time and pause of events on their way, in milliseconds, so that a test or a slow network can have its own. */
export type EventTimings = {
  /** A relay's lease on its outbox: how long a dead one holds events back. */
  readonly outboxLeaseMs: number;
  /** How often a relay renews its lease, and how often another tries to take it. */
  readonly outboxHeartbeatMs: number;
  /** How often a relay looks into its outbox without being woken. */
  readonly outboxPollMs: number;
  /** How long a member of consumer groups counts as alive after its last heartbeat. */
  readonly memberLeaseMs: number;
  /** Heartbeat, look at who is there, and slow poll of the log, in one. */
  readonly heartbeatMs: number;
  /** Positions are committed together, at most so often. */
  readonly positionsEveryMs: number;
  /** At most one NOTIFY a process in so many milliseconds. */
  readonly notifyEveryMs: number;
  /** How long a log that doesn't answer may hold up each step of who stops. */
  readonly partingMs: number;
  /** Pauses while a neighbour, the log or a database is away: doubled from the first to the longest, without end. */
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
  /** The pause before each further try of an event that failed by its own fault; after the last it is a dead letter. */
  readonly retryPausesMs: readonly number[];
  /** So many transient failures over so long, while its peer served others, make an event a dead letter after all. */
  readonly aloneTries: number;
  readonly aloneForMs: number;
  /** How long `prepare` may take. */
  readonly prepareTimeoutMs: number;
  /** How often replays and retries of parked events are looked for. */
  readonly parkedPollMs: number;
  /** How often parked events are counted for the metrics. */
  readonly deadLetterCountMs: number;
  /** How often old rows are pruned. */
  readonly pruneEveryMs: number;
};

export const defaultEventTimings: EventTimings = {
  outboxLeaseMs: 3_000,
  outboxHeartbeatMs: 1_000,
  outboxPollMs: 1_000,
  memberLeaseMs: 4_000,
  heartbeatMs: 1_000,
  positionsEveryMs: 20,
  notifyEveryMs: 20,
  partingMs: 3_000,
  firstPauseMs: 100,
  longestPauseMs: 5_000,
  retryPausesMs: [100, 500, 2_000],
  aloneTries: 20,
  aloneForMs: 60_000,
  prepareTimeoutMs: 10_000,
  parkedPollMs: 1_000,
  deadLetterCountMs: 5_000,
  pruneEveryMs: 60_000,
};

/** The pause after so many failures in a row: doubled each time up to the longest, less up to a fifth by chance, so that many don't come back at once. */
export const growingPauseMs = (failures: number, timings: Pick<EventTimings, "firstPauseMs" | "longestPauseMs">): number =>
  Math.min(timings.firstPauseMs * 2 ** Math.min(failures - 1, 30), timings.longestPauseMs) * (0.8 + 0.2 * Math.random());
