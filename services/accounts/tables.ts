import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { TransactionSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { bigint, boolean, integer, oneOf, optional, text, timestamp, uuid } from "#platform/writes/columns.ts";
import { messageTable, table } from "#platform/writes/table.ts";

export type AccountKind = { readonly kind: string; readonly onePerOwner: boolean };

export const accountKinds = table<AccountKind>("account_kinds", { kind: text, onePerOwner: boolean }, { key: "kind", immutable: true });

export type AccountRow = {
  readonly id: string;
  readonly userId: string;
  readonly kind: string;
  readonly currency: string;
  /** Minor units; never below zero. */
  readonly balance: bigint;
  /** ownerKey() where the kind allows one an owner. */
  readonly ownerKey: string | undefined;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export const accounts = table<AccountRow>(
  "accounts",
  {
    id: uuid,
    userId: uuid,
    kind: text,
    currency: text,
    balance: bigint,
    ownerKey: optional(uuid),
    createdAt: timestamp,
    updatedAt: timestamp,
  },
  { unique: { ownerKey: { fields: ["ownerKey"], taken: "account_exists" } } },
);

export type HouseAccount = { readonly id: string; readonly name: string; readonly currency: string };

export const houseAccounts = table<HouseAccount>("house_accounts", { id: uuid, name: text, currency: text }, { immutable: true });

export type PostingRow = {
  readonly id: string;
  readonly postingId: string;
  readonly leg: number;
  readonly outcome: "POSTED" | "REJECTED" | "VOIDED";
  readonly reason: string | undefined;
  readonly content: string | undefined;
  readonly debitAccountId: string | undefined;
  readonly creditAccountId: string | undefined;
  readonly amount: bigint;
  readonly currency: string;
  readonly referenceOrderId: string | undefined;
  readonly createdAt: Timestamp;
};

export const postings = table<PostingRow>(
  "postings",
  {
    id: uuid,
    postingId: uuid,
    leg: integer,
    outcome: oneOf("POSTED", "REJECTED", "VOIDED"),
    reason: optional(text),
    content: optional(uuid),
    debitAccountId: optional(uuid),
    creditAccountId: optional(uuid),
    amount: bigint,
    currency: text,
    referenceOrderId: optional(uuid),
    createdAt: timestamp,
  },
  { immutable: true },
);

/** A view: each posting as each of its accounts sees it. */
export const transactions = messageTable("transactions", TransactionSchema);
