import type { Sql } from "#platform/postgres/database.ts";
import type { Carrier } from "./carrier.ts";

/** A letter or text that lies in the mailbox. */
export type Kept = {
  readonly id: string;
  readonly kind: "email" | "sms";
  readonly recipient: string;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
  readonly createdAt: string;
};

const KEPT_MAX = 1_000;
const PRUNED_AT_ONCE = 10_000;
/** A storm of letters, such as a bench sends, isn't run after for ever: the rest goes the next time. */
const PRUNINGS_MAX = 100;

/** Puts what would be sent into a table, for who develops or tests; a message once, whoever repeats it. */
export const mailboxCarrier = (sql: Sql, kind: Kept["kind"]): Carrier => ({
  async carry({ id, to, subject, text, html }) {
    await sql.query({
      name: "mailbox put",
      text: `INSERT INTO mailbox (id, kind, recipient, subject, text, html) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
      values: [id, kind, to, subject, text, kind === "email" ? html : ""],
    });
    return { kind: "taken" };
  },
  close: () => undefined,
});

const COLUMNS = `id, kind, recipient, subject, text, html, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "createdAt"`;

/** Newest first; to one recipient where it is said. */
export async function listMailbox(sql: Sql, { to, limit }: { readonly to?: string | undefined; readonly limit: number }): Promise<Kept[]> {
  const answer = await sql.query<Kept>({
    name: "mailbox list",
    text: `SELECT ${COLUMNS} FROM mailbox WHERE $1::text IS NULL OR recipient = $1 ORDER BY mailbox.created_at DESC, id DESC LIMIT $2`,
    values: [to, limit],
  });
  return answer.rows;
}

export async function findInMailbox(sql: Sql, id: string): Promise<Kept | undefined> {
  return (await sql.query<Kept>({ name: "mailbox find", text: `SELECT ${COLUMNS} FROM mailbox WHERE id = $1`, values: [id] })).rows[0];
}

export const emptyMailbox = async (sql: Sql): Promise<void> => void (await sql.query({ text: "DELETE FROM mailbox" }));

/** What is more than a thousand goes, some at a time, and what is older than a day. Gives how many. */
export async function pruneMailbox(sql: Sql): Promise<number> {
  let pruned = 0;
  for (let count = PRUNED_AT_ONCE, turn = 0; count === PRUNED_AT_ONCE && turn < PRUNINGS_MAX; turn += 1) {
    ({ rowCount: count } = await sql.query({
      text: "DELETE FROM mailbox WHERE id IN (SELECT id FROM mailbox ORDER BY created_at DESC OFFSET $1 LIMIT $2)",
      values: [KEPT_MAX, PRUNED_AT_ONCE],
    }));
    pruned += count;
  }
  const { rowCount } = await sql.query({ text: "DELETE FROM mailbox WHERE created_at < now() - interval '1 day'" });
  return pruned + rowCount;
}
