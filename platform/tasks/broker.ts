/** A task's id on its way to a worker. */
export type Offer = { readonly id: string; readonly queue: string; readonly priority: number };

/** What brings the tasks of a queue here. */
export type Delivery = {
  /** How many messages of each priority wait in the broker; undefined while it is away. */
  backlog(): Promise<readonly number[] | undefined>;
  stop(): Promise<void>;
};

/** What becomes of a message: it isn't needed any more, or is to be brought again. */
export type Answer = "taken" | "again";

/** A queue as the broker has it: one of its own for each priority. */
export type BrokerQueue = {
  readonly name: string;
  readonly priorities: readonly number[];
  /** So many ids travel in one message at the most: what brings one costs more than what is short does. */
  readonly idsAMessage: number;
};

/**
 * Carries ids of tasks to workers. What it loses, or brings twice, harms nobody: the row is the truth, and workers look into the
 * table for what should have come and didn't.
 */
export type TaskBroker = {
  /** Hands over ids, soon after; never throws. */
  offer(offers: readonly Offer[]): void;
  /** How many ids it takes now, none while it is away; what is offered beyond them isn't brought. */
  readonly room: number;
  /** Makes these queues where they aren't there. Throws, naming it, where one differs from what it should be; not where the broker is away. */
  ensureQueues(queues: readonly BrokerQueue[]): Promise<void>;
  /** Has the ids of a queue's tasks brought here, message by message; so many of these of each priority wait for `take` to resolve, at the most. */
  deliver(queue: BrokerQueue, messagesAtOnce: number, take: (ids: readonly string[], priority: number) => Promise<Answer>): Delivery;
  /** Ends after what is under way. */
  close(): Promise<void>;
};
