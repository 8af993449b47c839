import { createHash, randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeySchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { equalSecrets } from "#platform/access/equal-secrets.ts";
import { uuidBytes, uuidOf } from "#platform/ids.ts";
import type { ApiKeyRow } from "../tables.ts";

// polis_<id, 22 letters>_<secret, 43 letters>: the id finds the row, and scanners of repositories know the name.
const KEY = /^polis_([A-Za-z0-9_-]{22})_([A-Za-z0-9_-]{43})$/;
const SECRET_BYTES = 32;

/** What a program shows, and what is kept of it. */
export function makeSecret(id: string): { readonly key: string; readonly secretHash: Uint8Array } {
  const secret = randomBytes(SECRET_BYTES).toString("base64url");
  return { key: `${prefixOf(id)}_${secret}`, secretHash: hashOf(secret) };
}

/** What a key begins with, by which its owner knows it. */
const prefixOf = (id: string): string => `polis_${uuidBytes(id).toString("base64url")}`;

const hashOf = (secret: string): Buffer => createHash("sha256").update(secret).digest();

/** The id that a key names, and its secret; undefined where it is none of ours. */
export function readKey(key: string): { readonly id: string; readonly secret: string } | undefined {
  const [, named = "", secret = ""] = KEY.exec(key) ?? [];
  if (secret === "") return undefined;
  const id = uuidOf(Buffer.from(named, "base64url"));
  return `${prefixOf(id)}_${secret}` === key ? { id, secret } : undefined;
}

export const isSecretOf = ({ secretHash }: ApiKeyRow, secret: string): boolean => equalSecrets(hashOf(secret), secretHash);

export const isGood = ({ revokedAt, expiresAt }: ApiKeyRow, now: Timestamp): boolean =>
  revokedAt === undefined && (expiresAt === undefined || timestampMs(expiresAt) > timestampMs(now));

export const scopesOf = ({ scopes }: Pick<ApiKeyRow, "scopes">): string[] => scopes.split(" ");

export const toApiKey = ({ id, name, scopes, createdAt, expiresAt, lastUsedAt }: ApiKeyRow): ApiKey =>
  create(ApiKeySchema, {
    id,
    name,
    prefix: prefixOf(id),
    scopes: scopesOf({ scopes }),
    createdAt,
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(lastUsedAt === undefined ? {} : { lastUsedAt }),
  });
