/** An event on its way: what lies in an outbox, in the log and in the dead letters, whatever the engine. */
export type EventRecord = {
  readonly topic: string;
  /** The value of the contract's key field: two records with the same one keep their order. */
  readonly key: string;
  readonly eventId: string;
  /** Full name of the message: `polis.orders.v1.OrderCreated`. */
  readonly type: string;
  /** Milliseconds since the epoch. */
  readonly occurredAtMs: number;
  /** W3C trace context of the span that published it. */
  readonly traceparent: string;
  /** callerName() of who caused it. */
  readonly actor: string;
  /** The event that caused it, if one did. */
  readonly causationId: string;
  /** The message, encoded as Protobuf. */
  readonly payload: Uint8Array;
};
