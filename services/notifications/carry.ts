import { strict as assert } from "node:assert";
import { getOption } from "@bufbuild/protobuf";
import { SendEmailSchema, SendSmsSchema } from "#contracts/polis/notifications/v1/tasks_pb.ts";
import { task as taskOption } from "#contracts/polis/options/v1/options_pb.ts";
import { storableText } from "#platform/postgres/storable-text.ts";
import { find } from "#platform/reads/query.ts";
import { type Task, task } from "#platform/tasks/define-task.ts";
import { MASK } from "#platform/telemetry/mask.ts";
import type { Carrier } from "./carriers/carrier.ts";
import { type Carriers, carriers } from "./carriers/carriers.ts";
import { type Ending, ended, isOver } from "./notification.ts";
import { type NotificationRow, notifications } from "./tables.ts";
import { render } from "./templates/template.ts";
import { templates } from "./templates/templates.ts";

/**
 * Sends a letter or a text: at least once, for whoever was killed after it was taken, and before that was written down, sends it again.
 * What may be taken later is tried again; after the last try it has failed, as it has where it never will be taken.
 */
function carry(schema: typeof SendEmailSchema | typeof SendSmsSchema, carrierOf: (all: Carriers) => Carrier): Task {
  const { attempts } = getOption(schema, taskOption);
  return task(schema, {
    async prepare({ notificationId }, { sql, use, now, attempt, signal }): Promise<Ending | undefined> {
      const row = await find(sql, notifications.row(notificationId));
      assert(row, `there is no notification ${notificationId}`);
      if (row.status !== "QUEUED") return undefined;
      if (isOver(row, now)) return { status: "EXPIRED" };
      try {
        const carried = await carrierOf(use(carriers)).carry(messageOf(row), signal);
        return carried.kind === "taken" ? { status: "SENT" } : { status: "FAILED", reason: reasonFor(row, carried.reason) };
      } catch (error) {
        const reason = reasonFor(row, error instanceof Error ? error.message : String(error));
        // An error of its own: a time-out of the mail server's isn't one of our database's, for which a try doesn't count.
        if (attempt < attempts) throw new Error(`it isn't taken now: ${reason}`, { cause: error });
        return { status: "FAILED", reason };
      }
    },
    lock: ({ notificationId }) => notifications.row(notificationId),
    write(tx, _, { prepared: ending, locked: row, now }) {
      if (ending === undefined || row?.status !== "QUEUED") return "had ended";
      tx.update(notifications, ended(row, ending, now));
      return ending.status === "FAILED" ? `failed: ${ending.reason}` : ending.status.toLowerCase();
    },
  });
}

const REASON_LENGTH_MAX = 500;

/** As it is kept and told: servers and providers name whom they refuse, and may say anything, and much of it. */
const reasonFor = ({ email, phone }: NotificationRow, said: string): string =>
  storableText(said.replaceAll(new RegExp((email ?? phone ?? "").replaceAll(/\W/g, "\\$&"), "gi"), MASK), REASON_LENGTH_MAX);

function messageOf({ id, template, locale, email, phone, params }: NotificationRow) {
  const known = templates.get(template);
  assert(known, `there is no template ${template} any more`);
  const { subject, text, html, sms } = render(known, locale, JSON.parse(params));
  return { id, to: email ?? phone ?? "", subject, html, text: email === undefined ? sms : text };
}

export const sendEmail = carry(SendEmailSchema, ({ email }) => email);
export const sendSms = carry(SendSmsSchema, ({ sms }) => sms);
