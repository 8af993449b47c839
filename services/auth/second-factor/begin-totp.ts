import { create } from "@bufbuild/protobuf";
import { AuthService, TotpSetupSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { tryPassword, unproven } from "../passwords/prove-owner.ts";
import { ownRows, ownSession } from "../sessions/own-rows.ts";
import { secondFactors, users } from "../tables.ts";
import { contactIn } from "../users/contact.ts";
import { isOn, withSetup } from "./second-factor.ts";
import { secondFactorSecrets } from "./second-factor-secrets.ts";
import { makeSecret, toBase32, toUri } from "./totp.ts";

/** Makes a secret for who has shown to be the owner; a session that somebody else found isn't enough to lock the owner out. */
export const beginTotp = operation(AuthService.method.beginTotp, {
  async prepare({ password }, { caller, kv, use, sql, origin }) {
    const user = await find(sql, users.row(requireUser(caller).userId));
    const tried = await tryPassword({ kv, use, origin }, user, password);
    return { tried, secrets: use(secondFactorSecrets), secret: makeSecret() };
  },
  lock: (_, context) => ownRows(context),
  write(tx, _, { prepared: { tried, secrets, secret }, locked, now }) {
    const { factor } = locked;
    const own = ownSession(locked, now);
    if (own === undefined) return reject("no_session");
    if (isOn(factor)) return reject("second_factor_on");
    const { user, session } = own;
    const refused = unproven(tried, user, session, now);
    if (refused !== undefined) return refused;
    const waiting = withSetup(secrets, user.id, secret, now);
    if (factor === undefined) tx.insert(secondFactors, waiting);
    else tx.update(secondFactors, waiting);
    const label = contactIn(user)?.value ?? user.id;
    return create(TotpSetupSchema, { secret: toBase32(secret), uri: toUri(secret, label), expiresAt: waiting.pendingUntil });
  },
});
