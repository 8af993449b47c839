import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type Notification,
  Notification_Status,
  NotificationSchema,
  type SendRequest,
} from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { derivedUuid } from "#platform/ids.ts";
import { type Rejection, reject } from "#platform/rejection.ts";
import type { NotificationRow } from "./tables.ts";
import { paramsFault } from "./templates/template.ts";
import { templates } from "./templates/templates.ts";

/** What is asked for, on its way; or why it can't be sent. */
export function queued(request: SendRequest, now: Timestamp): NotificationRow | Rejection {
  const { id, userId, template, locale, to, params, expiresAt } = request;
  const known = templates.get(template);
  if (known === undefined) return reject("unknown_template", `There is no template ${template}.`);
  const fault = paramsFault(known, params);
  if (fault !== undefined) return reject("wrong_params", `The template ${template}: ${fault}.`);
  return {
    id,
    content: contentOf(request),
    userId,
    template,
    locale,
    email: to.case === "email" ? to.value : undefined,
    phone: to.case === "phone" ? to.value : undefined,
    params: JSON.stringify(params),
    status: "QUEUED",
    reason: undefined,
    createdAt: now,
    expiresAt,
    endedAt: undefined,
  };
}

/** Tells apart two requests under one id. */
export function contentOf({ userId = "", template, locale, to, params, expiresAt }: SendRequest): string {
  const sorted = Object.entries(params).sort(([a], [b]) => (a < b ? -1 : 1));
  const until = expiresAt === undefined ? "" : String(timestampMs(expiresAt));
  return derivedUuid("notification", userId, template, locale, to.case ?? "", to.value ?? "", JSON.stringify(sorted), until);
}

export type Ending = { readonly status: "SENT" | "EXPIRED" } | { readonly status: "FAILED"; readonly reason: string };

/** What it was filled with is of no use any more, and is forgotten: codes are among it. */
export const ended = (row: NotificationRow, ending: Ending, now: Timestamp): NotificationRow => ({
  ...row,
  ...ending,
  params: "{}",
  endedAt: now,
});

export const isOver = ({ expiresAt }: NotificationRow, now: Timestamp): boolean =>
  expiresAt !== undefined && timestampMs(expiresAt) <= timestampMs(now);

export const toNotification = ({ id, template, status, reason, createdAt, endedAt }: NotificationRow): Notification =>
  create(NotificationSchema, {
    id,
    template,
    status: Notification_Status[status],
    ...(reason === undefined ? {} : { reason }),
    createdAt,
    ...(endedAt === undefined ? {} : { endedAt }),
  });
