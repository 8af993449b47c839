import type { Message } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type ServiceCaller, serviceCaller } from "#platform/access/caller.ts";
import type { ApplyItem } from "#platform/events/apply.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { ClaimedTask } from "#platform/tasks/claims.ts";
import type { Task } from "#platform/tasks/define-task.ts";

/** A task on its way into a batch; it acts as its service. */
export class TaskItem implements ApplyItem {
  readonly caller: ServiceCaller;
  readonly now: Timestamp;
  readonly id: string;
  readonly commandId: string;
  readonly input: Message;
  readonly parts: ApplyItem["parts"];
  readonly trace: ApplyItem["trace"];
  prepared: unknown;

  constructor(claimed: ClaimedTask, task: Task, input: Message, service: string, nowMs: number) {
    this.caller = serviceCaller(service);
    this.now = timestampFromMs(nowMs);
    this.id = uuidv7(timestampMs(this.now));
    this.commandId = claimed.id;
    this.input = input;
    this.parts = task.parts as ApplyItem["parts"];
    this.trace = { traceparent: claimed.traceparent, causationId: claimed.id };
  }
}
