import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { QueryResultRow } from "pg";
import type { Caller } from "#platform/access/caller.ts";
import type { Rows, Statement } from "#platform/postgres/database.ts";
import type { WriteParts } from "#platform/writes/definitions.ts";

/** One event on its way through a consumer's `lock` and `write`. */
export type ApplyItem = {
  // biome-ignore lint/suspicious/noExplicitAny: what is inside is known to the handler alone
  readonly parts: WriteParts<any, void, any, any>;
  readonly input: unknown;
  readonly prepared: unknown;
  readonly caller: Caller;
  readonly id: string;
  readonly commandId: string;
  readonly now: Timestamp;
  readonly trace: { readonly traceparent: string; readonly causationId: string };
};

export type ApplyOutcome = { readonly kind: "applied" } | { readonly kind: "failed"; readonly error: unknown };

/** A statement whose answer decides whether anything is written at all. */
export type GuardStatement = Statement & { readonly check?: (rows: Rows<QueryResultRow>) => void };

export type Guards = {
  /** Sent before the rows are locked, in order; a check that throws ends the transaction. */
  readonly first: readonly GuardStatement[];
  /** Sent with the flush. What it throws ends the transaction. */
  readonly last: (outcomes: readonly ApplyOutcome[]) => readonly Statement[];
};

/**
 * Runs items in order in one transaction, over one picture of the locked rows. An item that fails is discarded alone. Lost
 * connections and what the guards throw are thrown, and then nothing is written.
 */
export type ApplyItems = (items: readonly ApplyItem[], guards: Guards) => Promise<ApplyOutcome[]>;
