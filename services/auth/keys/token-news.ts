import { create } from "@bufbuild/protobuf";
import {
  type TokenNews,
  type TokenNews_Revocation,
  TokenNews_RevocationSchema,
  TokenNewsSchema,
} from "#contracts/polis/auth/v1/auth_pb.ts";
import { pause } from "#platform/events/signal.ts";
import type { Sql } from "#platform/postgres/database.ts";
import { resource } from "#platform/resource.ts";
import { rowsOf } from "#platform/writes/table-statements.ts";
import { type RevocationRow, revocations } from "../tables.ts";

/** Revocations of one message, which has 4 MiB at the most. */
const REVOCATIONS_MAX = 10_000;
/** How often is looked, and so how often a watcher hears: several times in the second after which it counts as deaf. */
const LOOK_MS = 200;

type Look = { readonly revoked: readonly RevocationRow[] };

/** Looks for revocations while somebody watches, past the queue of the process's reads: a gateway that waits behind them would be deaf. */
export type TokenNewsSource = {
  /** All that is known, then what is new, every 200 ms; ends with the signal. Rejects where the database isn't reached. */
  watch(signal: AbortSignal): AsyncIterable<Look>;
};

export const tokenNews = resource("auth.token-news", {
  open: ({ database }): TokenNewsSource => ({ watch: (signal) => watch(database, signal) }),
});

/**
 * Of a transaction that was still running when was looked, or whose rows came with another's, it is not said that they weren't seen:
 * all from the oldest that then ran are read again, and told once.
 */
async function* watch(sql: Sql, signal: AbortSignal): AsyncGenerator<Look, void> {
  let from = "0";
  let told = new Set<string>();
  while (!signal.aborted) {
    const answer = await sql.query<Record<string, unknown> & { oldest: string }>({
      name: "revocations since",
      text: `SELECT r.*, s.oldest FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS oldest) s
             LEFT JOIN revocations r ON r.transaction_id >= $1::xid8 AND r.expires_at > now()`,
      values: [from],
    });
    const found = rowsOf(revocations, { ...answer, rows: answer.rows.filter(({ id }) => id !== null) });
    yield { revoked: found.filter(({ id }) => !told.has(id)) };
    told = new Set(found.map(({ id }) => id));
    from = answer.rows[0]?.oldest ?? from;
    await pause(LOOK_MS, signal);
  }
}

/** What was seen, as messages: one at the least, for that nothing is new is told as well. */
export function* toNews({ revoked }: Look): Generator<TokenNews, void> {
  for (let from = 0; from === 0 || from < revoked.length; from += REVOCATIONS_MAX)
    yield newsOf(revoked.slice(from, from + REVOCATIONS_MAX));
}

const newsOf = (revoked: readonly RevocationRow[]): TokenNews =>
  create(TokenNewsSchema, {
    revocations: revoked.map(({ sessionId, userId, apiKeyId, versionMin, expiresAt }) =>
      create(TokenNews_RevocationSchema, {
        of: whose({ sessionId, userId, apiKeyId }),
        versionMin,
        expiresAt,
      }),
    ),
  });

function whose({ sessionId, userId, apiKeyId }: Pick<RevocationRow, "sessionId" | "userId" | "apiKeyId">): TokenNews_Revocation["of"] {
  if (sessionId !== undefined) return { case: "sessionId", value: sessionId };
  if (apiKeyId !== undefined) return { case: "apiKeyId", value: apiKeyId };
  return { case: "userId", value: userId ?? "" };
}
