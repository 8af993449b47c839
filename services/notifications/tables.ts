import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { oneOf, optional, text, timestamp, uuid } from "#platform/writes/columns.ts";
import { table } from "#platform/writes/table.ts";

export type NotificationRow = {
  readonly id: string;
  readonly content: string;
  readonly userId: string | undefined;
  readonly template: string;
  readonly locale: string;
  readonly email: string | undefined;
  readonly phone: string | undefined;
  /** JSON. */
  readonly params: string;
  readonly status: "QUEUED" | "SENT" | "FAILED" | "EXPIRED";
  readonly reason: string | undefined;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp | undefined;
  readonly endedAt: Timestamp | undefined;
};

export const notifications = table<NotificationRow>("notifications", {
  id: uuid,
  content: uuid,
  userId: optional(uuid),
  template: text,
  locale: text,
  email: optional(text),
  phone: optional(text),
  params: text,
  status: oneOf("QUEUED", "SENT", "FAILED", "EXPIRED"),
  reason: optional(text),
  createdAt: timestamp,
  expiresAt: optional(timestamp),
  endedAt: optional(timestamp),
});
