import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { boolean, bytes, integer, oneOf, optional, text, timestamp, uuid } from "#platform/writes/columns.ts";
import { table } from "#platform/writes/table.ts";

export type UserRow = {
  readonly id: string;
  readonly status: "ACTIVE" | "BLOCKED" | "DELETED";
  /** In lower case. */
  readonly email: string | undefined;
  readonly phone: string | undefined;
  readonly passwordHash: string | undefined;
  /** Names with spaces between. */
  readonly roles: string;
  readonly tokenVersion: number;
  readonly sessionEpoch: number;
  readonly locale: string;
  readonly blockedReason: string | undefined;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
};

export const users = table<UserRow>(
  "users",
  {
    id: uuid,
    status: oneOf("ACTIVE", "BLOCKED", "DELETED"),
    email: optional(text),
    phone: optional(text),
    passwordHash: optional(text),
    roles: text,
    tokenVersion: integer,
    sessionEpoch: integer,
    locale: text,
    blockedReason: optional(text),
    createdAt: timestamp,
    updatedAt: timestamp,
  },
  { unique: { email: { fields: ["email"], taken: "contact_taken" }, phone: { fields: ["phone"], taken: "contact_taken" } } },
);

export type SessionRow = {
  readonly id: string;
  readonly userId: string;
  readonly epoch: number;
  readonly generation: number;
  readonly device: string;
  readonly address: string;
  readonly secondFactor: boolean;
  readonly createdAt: Timestamp;
  readonly lastUsedAt: Timestamp;
  readonly expiresAt: Timestamp;
  readonly endedAt: Timestamp | undefined;
};

export const sessions = table<SessionRow>("sessions", {
  id: uuid,
  userId: uuid,
  epoch: integer,
  generation: integer,
  device: text,
  address: text,
  secondFactor: boolean,
  createdAt: timestamp,
  lastUsedAt: timestamp,
  expiresAt: timestamp,
  endedAt: optional(timestamp),
});

const purposes = ["SIGN_UP", "SIGN_IN", "RESET_PASSWORD", "UNLOCK", "SECOND_FACTOR", "CHANGE_CONTACT"] as const;
export type Purpose = (typeof purposes)[number];

export type ChallengeRow = {
  readonly id: string;
  readonly purpose: Purpose;
  readonly userId: string | undefined;
  readonly email: string | undefined;
  readonly phone: string | undefined;
  readonly passwordHash: string | undefined;
  readonly sessionEpoch: number | undefined;
  readonly locale: string;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp;
  readonly usedAt: Timestamp | undefined;
};

export const challenges = table<ChallengeRow>("challenges", {
  id: uuid,
  purpose: oneOf(...purposes),
  userId: optional(uuid),
  email: optional(text),
  phone: optional(text),
  passwordHash: optional(text),
  sessionEpoch: optional(integer),
  locale: text,
  createdAt: timestamp,
  expiresAt: timestamp,
  usedAt: optional(timestamp),
});

export type SigningKeyRow = {
  readonly id: string;
  readonly privateKey: Uint8Array;
  readonly publicJwk: string;
  readonly createdAt: Timestamp;
  readonly signsFrom: Timestamp;
};

export const signingKeys = table<SigningKeyRow>("signing_keys", {
  id: uuid,
  privateKey: bytes,
  publicJwk: text,
  createdAt: timestamp,
  signsFrom: timestamp,
});

export type RevocationRow = {
  readonly id: string;
  readonly sessionId: string | undefined;
  readonly userId: string | undefined;
  readonly apiKeyId: string | undefined;
  readonly versionMin: number;
  readonly expiresAt: Timestamp;
};

export const revocations = table<RevocationRow>("revocations", {
  id: uuid,
  sessionId: optional(uuid),
  userId: optional(uuid),
  apiKeyId: optional(uuid),
  versionMin: integer,
  expiresAt: timestamp,
});

export type SecondFactorRow = {
  readonly userId: string;
  /** Sealed; undefined where no second factor is asked for. */
  readonly totpSecret: Uint8Array | undefined;
  /** Sealed, and not confirmed yet. */
  readonly pendingSecret: Uint8Array | undefined;
  readonly pendingUntil: Timestamp | undefined;
  /** The name of the key. */
  readonly sealedBy: string;
  readonly lastStep: number;
  /** Hashes with spaces between. */
  readonly recoveryCodes: string;
  readonly onSince: Timestamp | undefined;
};

export const secondFactors = table<SecondFactorRow>(
  "second_factors",
  {
    userId: uuid,
    totpSecret: optional(bytes),
    pendingSecret: optional(bytes),
    pendingUntil: optional(timestamp),
    sealedBy: text,
    lastStep: integer,
    recoveryCodes: text,
    onSince: optional(timestamp),
  },
  { key: "userId" },
);

export type ApiKeyRow = {
  readonly id: string;
  readonly userId: string;
  readonly name: string;
  readonly secretHash: Uint8Array;
  /** With spaces between. */
  readonly scopes: string;
  readonly createdAt: Timestamp;
  readonly expiresAt: Timestamp | undefined;
  readonly lastUsedAt: Timestamp | undefined;
  readonly revokedAt: Timestamp | undefined;
};

export const apiKeys = table<ApiKeyRow>("api_keys", {
  id: uuid,
  userId: uuid,
  name: text,
  secretHash: bytes,
  scopes: text,
  createdAt: timestamp,
  expiresAt: optional(timestamp),
  lastUsedAt: optional(timestamp),
  revokedAt: optional(timestamp),
});

/** A user of an outside provider. */
export type IdentityRow = {
  readonly id: string;
  readonly provider: string;
  readonly issuer: string;
  readonly subject: string;
  readonly userId: string;
  readonly email: string | undefined;
  readonly linkedAt: Timestamp;
  readonly unlinkedAt: Timestamp | undefined;
};

export const identities = table<IdentityRow>(
  "identities",
  {
    id: uuid,
    provider: text,
    issuer: text,
    subject: text,
    userId: uuid,
    email: optional(text),
    linkedAt: timestamp,
    unlinkedAt: optional(timestamp),
  },
  { unique: { subject: { fields: ["issuer", "subject"], taken: "begin_again" } } },
);
