/** A task's id on its way to a worker. */
export type Offer = { readonly id: string; readonly queue: string; readonly priority: number };

/** What brings the tasks of a queue here. */
export type Delivery = {
  /** Of the messages of each priority that wait in the broker, as it said last; undefined while it is away. */
  backlog(): Promise<readonly number[] | undefined>;
  stop(): Promise<void>;
};

/**
 * Carries ids of tasks to workers. What it loses, or brings twice, harms nobody: the row is the truth, and workers look into the
 * table for what should have come and didn't.
 */
export type TaskBroker = {
  /** Hands over ids, soon after; never throws. */
  offer(offers: readonly Offer[]): void;
  /** The broker takes what is offered. */
  readonly isThere: boolean;
  /**
   * Has the ids of a queue's tasks brought here. `take` resolves when the message isn't needed any more; at most `atOnce` wait for
   * that.
   */
  deliver(
    queue: { readonly name: string; readonly priorities: readonly number[] },
    atOnce: number,
    take: (id: string) => Promise<void>,
  ): Delivery;
  /** Ends after what is under way. */
  close(): Promise<void>;
};
