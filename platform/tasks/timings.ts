import type { EventTimings } from "#platform/events/timings.ts";

/** Every time and pause of tasks, in milliseconds, so that a test can have its own. */
export type TaskTimings = {
  /** How long a worker counts as alive after its last heartbeat: so long do the tasks of one that was killed wait. */
  readonly workerLeaseMs: number;
  readonly workerHeartbeatMs: number;
  /** How often due tasks are looked for without being woken. */
  readonly taskPollMs: number;
  /** How long a task that a broker was given is left to it, where its queue there is empty, or isn't and has brought none for so long. */
  readonly offerGraceMs: number;
  /** Where a broker's queue isn't empty: how far behind those that it brings a task may have come due. */
  readonly offerLagMs: number;
  /** A task that is put off, because something else is away, is tried again after pauses that grow up to this. */
  readonly longestPostponementMs: number;
  /** How often progress is written down at the most. */
  readonly progressEveryMs: number;
  /** How often tasks are counted for the metrics. */
  readonly taskCountMs: number;
  /** How often what is filed wrongly is looked for, and how long it must have been due. */
  readonly refileEveryMs: number;
  readonly refileAfterMs: number;
  /** How often schedules are looked at, though none is due. */
  readonly schedulePollMs: number;
  /** And how often at the most. */
  readonly scheduleRoundMs: number;
  /** How long tasks may go on when the process stops; then they are given up, and begin anew elsewhere. */
  readonly taskPartingMs: number;
};

export const defaultTaskTimings: TaskTimings = {
  workerLeaseMs: 15_000,
  workerHeartbeatMs: 3_000,
  taskPollMs: 1_000,
  offerGraceMs: 2_000,
  offerLagMs: 30_000,
  longestPostponementMs: 30_000,
  progressEveryMs: 500,
  taskCountMs: 5_000,
  refileEveryMs: 15_000,
  refileAfterMs: 10_000,
  schedulePollMs: 15_000,
  scheduleRoundMs: 50,
  taskPartingMs: 3_000,
};

/** What works by itself in a process goes by these. */
export type Timings = EventTimings & TaskTimings;
