import type { Message } from "@bufbuild/protobuf";
import type { QueryResultRow } from "pg";
import type { Rows, Statement } from "#platform/postgres/database.ts";
import type { Rejection } from "#platform/rejection.ts";
import type { ItemContext, WriteParts } from "#platform/writes/definitions.ts";

/** What a batch carries out: one command, event or task, after its `prepare`. */
export type ApplyItem = ItemContext & {
  // biome-ignore lint/suspicious/noExplicitAny: what is inside is known to the definition alone
  readonly parts: WriteParts<any, any, any, any>;
  readonly input: unknown;
  readonly prepared: unknown;
  readonly trace: {
    readonly traceparent: string;
    /** The event that the item follows from; empty for a command. */
    readonly causationId: string;
  };
};

export type ApplyOutcome =
  | { readonly kind: "applied"; readonly answer: Message | Rejection | undefined }
  /** This item alone was discarded. */
  | { readonly kind: "failed"; readonly error: unknown };

/** A statement that goes out with the locks; its check may stop the transaction by throwing. */
export type GuardStatement = Statement & { readonly check?: (rows: Rows<QueryResultRow>) => void };

/** What must hold and be written with a batch, beside its items. */
export type Guards = {
  readonly first: readonly GuardStatement[];
  readonly last: (outcomes: readonly ApplyOutcome[]) => readonly Statement[];
};

/**
 * Carries out all items in one transaction. An item that fails is discarded alone; what concerns all (the connection, a
 * guard) throws, and nothing is written.
 */
export type ApplyItems = (items: readonly ApplyItem[], guards: Guards) => Promise<readonly ApplyOutcome[]>;
