import { strict as assert } from "node:assert";
import { AuthService, RequestCodeRequest_Purpose as Purpose } from "#contracts/polis/auth/v1/auth_pb.ts";
import { operation } from "#platform/writes/definitions.ts";
import { enqueueLetter, LOCALE_DEFAULT } from "../letters/letter.ts";
import { takeCode } from "../limits.ts";
import type { ChallengeRow } from "../tables.ts";
import { contactColumns, contactOf, holderOf } from "../users/contact.ts";
import { lifeMinutes, pose, toChallenge } from "./challenge.ts";

/** What a code is sent for, and by which letter. */
const wanted: ReadonlyMap<Purpose, { readonly purpose: ChallengeRow["purpose"]; readonly template: string }> = new Map([
  [Purpose.SIGN_IN, { purpose: "SIGN_IN", template: "sign-in-code" }],
  [Purpose.RESET_PASSWORD, { purpose: "RESET_PASSWORD", template: "reset-password" }],
  [Purpose.UNLOCK, { purpose: "UNLOCK", template: "unlock" }],
]);

/** Poses a challenge, and sends its code where there is such an account: what is answered doesn't tell, nor does the time. */
export const requestCode = operation(AuthService.method.requestCode, {
  prepare: async (request, { kv, origin }) => ({ refused: await takeCode(kv, contactOf(request), origin) }),
  lock: (request) => holderOf(contactOf(request)),
  write(tx, request, { prepared: { refused }, locked: user, id, now }) {
    if (refused !== undefined) return refused;
    const contact = contactOf(request);
    const asked = wanted.get(request.purpose);
    assert(asked, "the contract demands one of the purposes");
    const { purpose, template } = asked;
    const known = user?.status === "DELETED" ? undefined : user;
    const locale = known?.locale ?? LOCALE_DEFAULT;
    const challenge = pose(tx, { id, purpose, userId: known?.id, ...contactColumns(contact), locale, now });
    if (known !== undefined) {
      const { expiresAt } = challenge;
      enqueueLetter(tx, contact, { template, userId: known.id, locale, params: { minutes: lifeMinutes }, challengeId: id, expiresAt });
    }
    return toChallenge(challenge);
  },
});
