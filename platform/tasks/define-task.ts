import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { Rejection } from "#platform/rejection.ts";
import type { Locks, PrepareContext, WriteParts } from "#platform/writes/definitions.ts";

/** What `prepare` of a task sees. It may take long: `signal` tells when its time is up, or the task was cancelled. */
export type TaskContext = PrepareContext & {
  /** Which try this is, from 1 on. */
  readonly attempt: number;
  /** Tells those who look how far it has come, from 0 to 1; written down now and then. */
  readonly progress: (done: number) => void;
};

/** What a task ends with: a word for those who look, or nothing; or a rejection, with which it has failed for good. */
export type TaskEnd = string | undefined | Rejection;

/**
 * The three parts, as everywhere (definitions.ts), in one transaction with the end of the task: what `write` says happens once. What
 * `prepare` does may happen more than once: each try begins anew.
 */
type TaskParts<Input, L extends Locks, Prepared> = Omit<WriteParts<Input, TaskEnd, L, Prepared>, "prepare" | "write"> & {
  readonly prepare?: (input: Input, context: TaskContext) => Promise<Prepared>;
  // biome-ignore lint/suspicious/noConfusingVoidType: a write that ends without a word
  readonly write?: (...args: Parameters<WriteParts<Input, TaskEnd, L, Prepared>["write"]>) => TaskEnd | void;
};

/** What a service does later. */
export type Task = {
  readonly kind: "task";
  readonly schema: DescMessage;
  // biome-ignore lint/suspicious/noExplicitAny: what is inside is known to the definition alone
  readonly parts: TaskParts<any, any, any> & Pick<WriteParts<any, TaskEnd, any, any>, "write">;
};

/** Defines how a task is done; the parts get the message. */
export const task = <T extends DescMessage, L extends Locks = undefined, Prepared = undefined>(
  schema: T,
  parts: TaskParts<MessageShape<T>, L, Prepared>,
): Task => ({ kind: "task", schema, parts: { write: () => undefined, ...parts } as Task["parts"] });
