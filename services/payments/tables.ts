import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { bigint, oneOf, optional, text, timestamp, uuid } from "#platform/writes/columns.ts";
import { table } from "#platform/writes/table.ts";

export type Charge = {
  readonly orderId: string;
  readonly userId: string;
  readonly amount: bigint;
  readonly currency: string;
  readonly status: "SUCCEEDED" | "FAILED";
  readonly reason: string | undefined;
  readonly createdAt: Timestamp;
};

export const charges = table<Charge>(
  "charges",
  {
    orderId: uuid,
    userId: uuid,
    amount: bigint,
    currency: text,
    status: oneOf("SUCCEEDED", "FAILED"),
    reason: optional(text),
    createdAt: timestamp,
  },
  { key: "orderId", immutable: true },
);

export type TopUp = {
  readonly id: string;
  readonly userId: string;
  readonly accountId: string;
  readonly amount: bigint;
  readonly createdAt: Timestamp;
};

export const topUps = table<TopUp>(
  "top_ups",
  { id: uuid, userId: uuid, accountId: uuid, amount: bigint, createdAt: timestamp },
  { immutable: true },
);
