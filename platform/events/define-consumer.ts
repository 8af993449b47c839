import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { EventData, Locks, WriteParts } from "#platform/writes/definitions.ts";

/** What every event has: the platform fills id, type and time. */
export type EventMessage = Message & { eventId: string; eventType: string; occurredAt?: Timestamp; data?: Message };

export type EventHandler = {
  readonly schema: DescMessage;
  // biome-ignore lint/suspicious/noExplicitAny: what is inside is known to the definition alone
  readonly parts: WriteParts<any, void, any, any>;
};

/** What a service does with events; all handlers of one share a group, so that events of a key keep their order. */
export type Consumer = { readonly kind: "consumer"; readonly handlers: readonly EventHandler[] };

/** Handles one type of event; the parts get its `data`. */
export const on = <E extends DescMessage, L extends Locks = undefined, Prepared = undefined>(
  schema: E,
  parts: WriteParts<EventData<E>, void, L, Prepared>,
): EventHandler => ({ schema, parts });

/** Defines a consumer. Throws where a type of event is named twice. */
export function consumer(...handlers: readonly EventHandler[]): Consumer {
  const types = handlers.map((handler) => handler.schema.typeName);
  const twice = types.find((type, i) => types.indexOf(type) !== i);
  if (twice !== undefined) throw new Error(`${twice} is handled twice in one consumer`);
  if (handlers.length === 0) throw new Error("a consumer handles at least one type of event");
  return { kind: "consumer", handlers };
}

/** `orders.on-payment-settled` for the consumer `onPaymentSettled` of orders: what positions, inbox and dead letters are kept under. */
export const groupName = (service: string, consumerName: string): string =>
  `${service}.${consumerName.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** Somebody named a group that isn't there. */
export const noSuchGroup = (group: string, groups: readonly string[]): Error =>
  new Error(`there is no group '${group}'; there are ${groups.length === 0 ? "none" : groups.toSorted().join(", ")}`);
