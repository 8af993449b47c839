import { SendLetterSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { NotificationsService } from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { task } from "#platform/tasks/define-task.ts";
import { derivedSecrets } from "../codes/derived-secrets.ts";

/** Hands a letter to notifications, under the id of this task: handed over twice, it is sent once. */
export const sendLetter = task(SendLetterSchema, {
  async prepare({ template, userId, contact, locale, params, challengeId, expiresAt }, { commandId, peer, use }) {
    const told = challengeId === "" ? params : { ...params, code: use(derivedSecrets).codeOf(challengeId) };
    await peer(NotificationsService).send({
      id: commandId,
      template,
      ...(userId === "" ? {} : { userId }),
      locale,
      to: contact,
      params: told,
      ...(expiresAt === undefined ? {} : { expiresAt }),
    });
  },
});
