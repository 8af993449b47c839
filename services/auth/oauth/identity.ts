import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Identity, IdentitySchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { IdentityLinkedSchema, IdentityUnlinkedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import type { Sql } from "#platform/postgres/database.ts";
import { find } from "#platform/reads/query.ts";
import { isRejection, type Rejection, reject } from "#platform/rejection.ts";
import type { PrepareContext, Tx } from "#platform/writes/definitions.ts";
import type { Ref } from "#platform/writes/table.ts";
import { rowsOf } from "#platform/writes/table-statements.ts";
import { type IdentityRow, identities, type UserRow } from "../tables.ts";
import { takeFlow } from "./flow.ts";
import type { OutsideUser, Returned } from "./provider.ts";
import { providers } from "./providers.ts";

/** Of one account. */
export const IDENTITIES_MAX = 20;

/** Who has come from a provider. */
export type Arrived = { readonly refused: undefined; readonly provider: string; readonly outside: OutsideUser };

/** Finishes a flow: uses it up, and exchanges its code. */
export async function arrive(
  { kv, use }: Pick<PrepareContext, "kv" | "use">,
  request: Returned & { readonly flowSecret: string },
  linkingUserId?: string,
): Promise<Arrived | { readonly refused: Rejection }> {
  const flow = await takeFlow({ kv, use }, request, linkingUserId);
  if (flow === undefined) return { refused: reject("invalid_flow") };
  const outside = await use(providers).identify(flow.provider, request, flow.proof);
  return isRejection(outside) ? { refused: outside } : { refused: undefined, provider: flow.provider, outside };
}

/** Whom its row names, linked or not; to be locked. */
export const namedUser = async (sql: Sql, outside: OutsideUser): Promise<string | undefined> =>
  (await find(sql, identityOf(outside)))?.userId;

export const identityOf = ({ issuer, subject }: OutsideUser): Ref<IdentityRow> => identities.rowBy("subject", issuer, subject);

/** Whose account it signs in to. `user` is the one whom the row names, locked as well. */
export function linkedUser(identity: IdentityRow | undefined, user: UserRow | undefined): UserRow | undefined {
  if (identity === undefined || identity.unlinkedAt !== undefined || user === undefined) return undefined;
  return user.status === "DELETED" ? undefined : user;
}

/** Has an identity sign in to an account: one that nobody has, new or of before. */
export function link(
  tx: Tx,
  facts: {
    readonly identity: IdentityRow | undefined;
    readonly arrived: Omit<Arrived, "refused">;
    readonly userId: string;
    readonly id: string;
    readonly now: Timestamp;
  },
): IdentityRow {
  const { identity, arrived, userId, now } = facts;
  const { provider, outside } = arrived;
  const { issuer, subject, email } = outside;
  const row = { id: identity?.id ?? facts.id, provider, issuer, subject, userId, email, linkedAt: now, unlinkedAt: undefined };
  if (identity === undefined) tx.insert(identities, row);
  else tx.update(identities, row);
  tx.publish(IdentityLinkedSchema, { userId, identityId: row.id, provider });
  return row;
}

export function unlink(tx: Tx, identity: IdentityRow, now: Timestamp): void {
  const { id, userId, provider } = identity;
  tx.update(identities, { ...identity, email: undefined, unlinkedAt: now });
  tx.publish(IdentityUnlinkedSchema, { userId, identityId: id, provider });
}

/** What an account is linked to, the first that was linked first. */
export async function identitiesOf(sql: Sql, userId: string): Promise<IdentityRow[]> {
  const found = await sql.query<Record<string, unknown>>({
    name: "identities of user",
    text: "SELECT * FROM identities WHERE user_id = $1 AND unlinked_at IS NULL ORDER BY linked_at, id LIMIT 100",
    values: [userId],
  });
  return rowsOf(identities, found);
}

export const toIdentity = ({ id, provider, email, linkedAt }: IdentityRow): Identity =>
  create(IdentitySchema, { id, provider, email: email ?? "", linkedAt });
