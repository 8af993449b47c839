import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { seal, unseal } from "#platform/access/seal.ts";
import type { Keys } from "#platform/access/secrets.ts";
import { publicUrl } from "#platform/config/public-url.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { Database, Sql } from "#platform/postgres/database.ts";
import { resource } from "#platform/resource.ts";
import { insertStatement, rowsOf } from "#platform/writes/table-statements.ts";
import { signingKeys as rows, type SigningKeyRow } from "../tables.ts";

/** How long an access token is good: what it says of its user may be so old for whoever asks nobody (RFC 9068). */
export const ACCESS_MS = 10 * 60_000;
/** Who verifies tokens, and they alone, take them. */
export const AUDIENCE = "polis";
/** How often a process looks for keys that another has made. */
const RELOAD_MS = 5_000;
/** A key is published so long before it signs: every process and every gateway knows it by then. */
const PUBLISHED_BEFORE_MS = 60_000;
const PURPOSE = "polis auth signing key v1";

/** The claims of an access token beside those that say when, for whom and by whom it was made. */
export type Claims = { readonly sub: string; readonly [claim: string]: unknown };

export type SigningKeys = {
  readonly issuer: string;
  /** A JWT (ES256, RFC 9068). jose signs asynchronously alone, and a batch doesn't wait. */
  sign(claims: Claims, nowMs: number): string;
  /** The public keys, as a JSON Web Key Set. */
  jwks(): string;
  /** A key that is to sign later on. */
  next(nowMs: number): SigningKeyRow;
  stop(): Promise<void>;
};

/** The keys with which access tokens are signed: one is made where there is none, and others' are found. */
export const signingKeys = resource("auth.signing-keys", {
  settings: { publicUrl },
  async open({ settings, database, secrets, clock, log }): Promise<SigningKeys> {
    const sealing = secrets.keys(PURPOSE);
    await ensureFirst(database, sealing, clock());
    let known = await load(database, sealing);
    if (!known.some(({ signsFromMs }) => signsFromMs <= clock())) {
      log.error(
        "no signing key can be opened, since POLIS_SECRET is another: one is made, and tokens that were issued aren't good any more",
      );
      await database.query(insertStatement(rows, [makeKey(sealing, clock(), clock())], false));
      known = await load(database, sealing);
    }
    let reloading: Promise<void> = Promise.resolve();
    const reload = async (): Promise<void> => {
      try {
        const found = await load(database, sealing);
        if (found.length > 0) known = found;
      } catch (error) {
        log.warn({ err: error }, "signing keys are those of before");
      }
    };
    const timer = setInterval(() => {
      reloading = reloading.then(reload);
    }, RELOAD_MS);
    timer.unref();
    return {
      issuer: settings.publicUrl,
      sign: (claims, nowMs) => signed(current(known, nowMs), { iss: settings.publicUrl, aud: AUDIENCE, ...claims }, nowMs),
      jwks: () => JSON.stringify({ keys: known.map(({ publicJwk }) => publicJwk) }),
      next: (nowMs) => makeKey(sealing, nowMs, nowMs + PUBLISHED_BEFORE_MS),
      async stop() {
        clearInterval(timer);
        await reloading;
      },
    };
  },
  close: (keys) => keys.stop(),
});

type OpenKey = { readonly id: string; readonly key: KeyObject; readonly publicJwk: object; readonly signsFromMs: number };

function current(keys: readonly OpenKey[], nowMs: number): OpenKey {
  const [newest] = keys.filter(({ signsFromMs }) => signsFromMs <= nowMs).sort((a, b) => b.signsFromMs - a.signsFromMs);
  const key = newest ?? keys[0];
  if (key === undefined) throw new Error("there is no key to sign with");
  return key;
}

/** Two processes that start at once make one. */
async function ensureFirst(database: Database, sealing: Keys, nowMs: number): Promise<void> {
  await database.transaction(async (tx) => {
    await tx.query({ text: "LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE" });
    const { rowCount } = await tx.query({ text: "SELECT FROM signing_keys LIMIT 1" });
    if (rowCount === 0) await tx.query(insertStatement(rows, [makeKey(sealing, nowMs, nowMs)], false));
  });
}

function makeKey(sealing: Keys, nowMs: number, signsFromMs: number): SigningKeyRow {
  const id = uuidv7(nowMs);
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pkcs8 = privateKey.export({ format: "der", type: "pkcs8" });
  return {
    id,
    privateKey: seal(sealing, pkcs8, id),
    publicJwk: JSON.stringify({ ...publicKey.export({ format: "jwk" }), kid: id, alg: "ES256", use: "sig" }),
    createdAt: timestampFromMs(nowMs),
    signsFrom: timestampFromMs(signsFromMs),
  };
}

async function load(sql: Sql, sealing: Keys): Promise<OpenKey[]> {
  const found = rowsOf(rows, await sql.query({ name: "signing keys", text: "SELECT * FROM signing_keys ORDER BY id" }));
  return found.flatMap(({ id, privateKey, publicJwk, signsFrom }) => {
    const pkcs8 = unseal(sealing, privateKey, id);
    // Sealed under a secret that counts no more: nor do its tokens.
    if (pkcs8 === undefined) return [];
    const key = createPrivateKey({ key: Buffer.from(pkcs8), format: "der", type: "pkcs8" });
    return [{ id, key, publicJwk: JSON.parse(publicJwk), signsFromMs: timestampMs(signsFrom) }];
  });
}

function signed({ id, key }: OpenKey, claims: Claims, nowMs: number): string {
  const iat = Math.floor(nowMs / 1000);
  const header = encoded({ alg: "ES256", typ: "at+jwt", kid: id });
  const payload = encoded({ ...claims, iat, exp: iat + ACCESS_MS / 1000, jti: uuidv7(nowMs) });
  const signature = sign("sha256", Buffer.from(`${header}.${payload}`), { key, dsaEncoding: "ieee-p1363" });
  return `${header}.${payload}.${signature.toString("base64url")}`;
}

const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
