import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { AuthService, VerifiedApiKeySchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { find } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { apiKeys, users } from "../tables.ts";
import { rolesOf } from "../users/user.ts";
import { isGood, isSecretOf, readKey, scopesOf } from "./api-key.ts";

/** What a key does all day is noted so often. */
const NOTED_EVERY_MS = 60_000;

/** Tells for whom a key speaks. A key that isn't good, one that never was, and one of who is blocked are told alike. */
export const verifyApiKey = operation(AuthService.method.verifyApiKey, {
  async prepare({ key }, { sql }) {
    const named = readKey(key);
    const row = named === undefined ? undefined : await find(sql, apiKeys.row(named.id));
    return { named, userId: row?.userId };
  },
  lock: (_, { prepared: { named, userId } }) => ({
    row: named === undefined ? undefined : apiKeys.row(named.id),
    user: userId === undefined ? undefined : users.row(userId),
  }),
  write(tx, _, { prepared: { named }, locked: { row, user }, now }) {
    if (named === undefined || row === undefined || !isSecretOf(row, named.secret) || !isGood(row, now)) return reject("invalid_api_key");
    if (user?.status !== "ACTIVE") return reject("invalid_api_key");
    if (row.lastUsedAt === undefined || timestampMs(now) - timestampMs(row.lastUsedAt) >= NOTED_EVERY_MS)
      tx.update(apiKeys, { ...row, lastUsedAt: now });
    return create(VerifiedApiKeySchema, {
      id: row.id,
      userId: row.userId,
      roles: rolesOf(user),
      scopes: scopesOf(row),
      version: user.tokenVersion,
      ...(row.expiresAt === undefined ? {} : { expiresAt: row.expiresAt }),
    });
  },
});
