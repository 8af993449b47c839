import { NotificationsService } from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { ForgetSentSchema } from "#contracts/polis/notifications/v1/tasks_pb.ts";
import { defineService } from "#platform/service.ts";
import { schedule } from "#platform/tasks/define-schedule.ts";
import { carriers } from "./carriers/carriers.ts";
import { sendEmail, sendSms } from "./carry.ts";
import { forgetSent } from "./forget-sent.ts";
import { getNotification } from "./get-notification.ts";
import { send } from "./send.ts";

export const notificationsService = defineService(NotificationsService, {
  folder: import.meta.dirname,
  operations: { send, getNotification },
  tasks: { sendEmail, sendSms, forgetSent },
  schedules: { forgetSent: schedule(ForgetSentSchema, { cron: "*/15 * * * *" }) },
  resources: [carriers],
});
