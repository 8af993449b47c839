import { NotificationsService } from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { find, query } from "#platform/reads/query.ts";
import { toNotification } from "./notification.ts";
import { notifications } from "./tables.ts";

/** What became of a letter or a text. */
export const getNotification = query(NotificationsService.method.getNotification, async ({ id }, { sql }) => {
  const row = await find(sql, notifications.row(id));
  return row && toNotification(row);
});
