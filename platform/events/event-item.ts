import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServiceCaller } from "#platform/access/caller.ts";
import type { ApplyItem } from "#platform/events/apply.ts";
import type { Entry } from "#platform/events/consumer-group.ts";
import type { EventMessage } from "#platform/events/define-consumer.ts";
import { derivedUuid, uuidv7 } from "#platform/ids.ts";

/** An event on its way into a batch. What many handlers never ask for is made when it is first read. */
export class EventItem implements ApplyItem {
  readonly caller: ServiceCaller;
  readonly now: Timestamp;
  readonly input: unknown;
  prepared: unknown;
  readonly #entry: Entry;
  readonly #group: string;
  #id: string | undefined;
  #commandId: string | undefined;

  constructor(entry: Entry, event: EventMessage, { group, caller, now }: { group: string; caller: ServiceCaller; now: Timestamp }) {
    this.caller = caller;
    this.now = now;
    this.input = event.data;
    this.#entry = entry;
    this.#group = group;
  }

  get parts(): ApplyItem["parts"] {
    return this.#entry.handler.parts;
  }

  get id(): string {
    this.#id ??= uuidv7(timestampMs(this.now));
    return this.#id;
  }

  get commandId(): string {
    this.#commandId ??= derivedUuid(this.#group, this.#entry.inboxId);
    return this.#commandId;
  }

  get trace(): ApplyItem["trace"] {
    const { traceparent, eventId } = this.#entry.record;
    return { traceparent, causationId: eventId };
  }
}
