import type { Keys } from "#platform/access/secrets.ts";
import { publicUrl } from "#platform/config/public-url.ts";
import type { Database, Sql } from "#platform/postgres/database.ts";
import { resource } from "#platform/resource.ts";
import { insertStatement, rowsOf } from "#platform/writes/table-statements.ts";
import { signingKeys as rows, type SigningKeyRow } from "../tables.ts";
import { type Claims, makeKey, type OpenKey, openKey, sealingKeys, signToken } from "./signing-key.ts";

/** How often a process looks for keys that another has made. */
const RELOAD_MS = 5_000;
/** A key is published so long before it signs: every process and every gateway knows it by then. */
const PUBLISHED_BEFORE_MS = 60_000;

export type SigningKeys = {
  readonly issuer: string;
  /** An access token of this issuer. */
  sign(claims: Omit<Claims, "iss">, nowMs: number): string;
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
    const sealing = sealingKeys(secrets);
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
      sign: (claims, nowMs) => signToken(current(known, nowMs), { ...claims, iss: settings.publicUrl }, nowMs),
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

async function load(sql: Sql, sealing: Keys): Promise<OpenKey[]> {
  const found = rowsOf(rows, await sql.query({ name: "signing keys", text: "SELECT * FROM signing_keys ORDER BY id" }));
  return found.flatMap((row) => openKey(row, sealing) ?? []);
}
