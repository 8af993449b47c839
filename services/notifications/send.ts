import { NotificationsService } from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { SendEmailSchema, SendSmsSchema } from "#contracts/polis/notifications/v1/tasks_pb.ts";
import { isRejection, reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { contentOf, queued, toNotification } from "./notification.ts";
import { notifications } from "./tables.ts";

/** Takes a letter or a text, and has it sent by a task. */
export const send = operation(NotificationsService.method.send, {
  lock: ({ id }) => notifications.row(id),
  write(tx, request, { locked: known, now }) {
    if (known !== undefined) return known.content === contentOf(request) ? toNotification(known) : reject("id_taken");
    const row = queued(request, now);
    if (isRejection(row)) return row;
    tx.insert(notifications, row);
    tx.enqueue(row.email === undefined ? SendSmsSchema : SendEmailSchema, { notificationId: row.id }, { key: row.id });
    return toNotification(row);
  },
});
