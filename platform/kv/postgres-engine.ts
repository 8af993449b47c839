import type { KeptValues } from "#platform/kv/copied-values.ts";
import {
  type FeedItem,
  type Feeds,
  type KvEngine,
  KvUnavailable,
  type Sets,
  type Taken,
  WINDOW_PARTS,
  type Windows,
} from "#platform/kv/engine.ts";
import type { Database, Statement } from "#platform/postgres/database.ts";
import { isConnectionLost } from "#platform/postgres/errors.ts";

/** Whether data are in PostgreSQL's log: `passing` are gone after a crash of the server. */
export type Keeping = "kept" | "passing";

/** What an expiry is, by the number of its parameter: milliseconds from now, or null for never. */
const expiry = (parameter: number): string => `coalesce(clock_timestamp() + $${parameter}::float8 * interval '1 ms', 'infinity')`;

/** The key-value store in PostgreSQL: a row for each value, member and item. */
export function postgresEngine(database: Database, keeping: Keeping): KvEngine & KeptValues {
  const table = tables(database, keeping);
  return { ...values(table), ...windows(table), ...sets(table), ...feeds(table) };
}

/** Statements in which `@` stands in front of the tables of one keeping. */
function tables(database: Database, keeping: Keeping) {
  const statement = (text: string, ...values: unknown[]): Statement => ({
    name: "kv",
    text: text.replaceAll("@", `${keeping}_`),
    values: values.map((value) => value ?? null),
  });
  const runAll = (...statements: readonly Statement[]) => reached(() => database.queryAll(statements));
  return {
    statement,
    runAll,
    async run<R extends object>(text: string, ...values: unknown[]): Promise<R[]> {
      const [answer] = await runAll(statement(text, ...values));
      return (answer?.rows ?? []) as R[];
    },
  };
}

type Tables = ReturnType<typeof tables>;

const values = ({ run }: Tables): KeptValues => ({
  async get(keys) {
    const [key] = keys;
    if (key !== undefined && keys.length === 1) {
      const [row] = await run<{ value: Uint8Array }>("SELECT value FROM @values WHERE key = $1 AND expires_at > now()", key);
      return [row?.value];
    }
    const found = await run<{ key: string; value: Uint8Array }>(
      "SELECT key, value FROM @values WHERE key = ANY($1) AND expires_at > now()",
      keys,
    );
    const byKey = new Map(found.map((row) => [row.key, row.value]));
    return keys.map((each) => byKey.get(each));
  },
  async getTimed(keys) {
    const found = await run<{ key: string; value: Uint8Array; left_ms: number | null }>(
      `SELECT key, value, CASE WHEN isfinite(expires_at) THEN (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::float8 END AS left_ms
       FROM @values WHERE key = ANY($1) AND expires_at > now()`,
      keys,
    );
    const byKey = new Map(found.map(({ key, value, left_ms }) => [key, { value, leftMs: left_ms ?? undefined }]));
    return keys.map((key) => byKey.get(key));
  },
  async set(key, value, ttlMs) {
    await run(
      `INSERT INTO @values (key, value, expires_at) VALUES ($1, $2, ${expiry(3)})
       ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at`,
      key,
      value,
      ttlMs,
    );
  },
  async delete(keys) {
    await run("DELETE FROM @values WHERE key = ANY($1)", keys);
  },
  async add(key, value, ttlMs) {
    const added = await run(
      `INSERT INTO @values AS v (key, value, expires_at) VALUES ($1, $2, ${expiry(3)})
       ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at
       WHERE v.expires_at <= clock_timestamp() RETURNING true`,
      key,
      value,
      ttlMs,
    );
    return added.length === 1;
  },
  async compareAndSet(key, from, to, ttlMs) {
    const changed =
      to === undefined
        ? await run("DELETE FROM @values WHERE key = $1 AND value = $2 AND expires_at > clock_timestamp() RETURNING true", key, from)
        : await run(
            `UPDATE @values SET value = $3, expires_at = ${expiry(4)}
             WHERE key = $1 AND value = $2 AND expires_at > clock_timestamp() RETURNING true`,
            key,
            from,
            to,
            ttlMs,
          );
    return changed.length === 1;
  },
});

const windows = ({ run }: Tables): Windows => ({
  async take(key, amount, limit, windowMs) {
    const partMs = windowMs / WINDOW_PARTS;
    const fits = "$2::bigint <= $3::bigint";
    if (amount === 0) {
      const [row] = await run<Window>(
        `SELECT false AS is_taken, coalesce(sum(u.count), 0)::float8 AS used, ${resetOf("min(u.part)")} AS reset_ms
         FROM ${nowPart("$2")}, (SELECT parts, counts FROM @windows WHERE key = $1) AS w, unnest(w.parts, w.counts) AS u (part, count)
         WHERE ${isCounted("u", "n")} AND u.count > 0 GROUP BY n.part, n.ms`,
        key,
        partMs,
      );
      return takenOf(row);
    }
    // The row is locked by then, so that the clock is asked anew: who waited for it comes after whom it waited for.
    const [row] = await run<Window>(
      `INSERT INTO @windows AS w (key, parts, counts, is_taken, expires_at)
       SELECT $1, CASE WHEN ${fits} THEN ARRAY[n.part] ELSE '{}' END, CASE WHEN ${fits} THEN ARRAY[$2::bigint] ELSE '{}' END, ${fits}, ${expiry(5)}
       FROM ${nowPart("$4")}
       ON CONFLICT (key) DO UPDATE SET (parts, counts, is_taken, expires_at) = (
         SELECT coalesce(array_agg(s.part ORDER BY s.part), '{}'), coalesce(array_agg(s.count ORDER BY s.part), '{}'), s.is_taken, ${expiry(5)}
         FROM (
           SELECT u.part, sum(u.count)::bigint AS count, t.is_taken
           FROM (
             SELECT n.part, coalesce(sum(o.count), 0) + $2::bigint <= $3::bigint AS is_taken
             FROM ${nowPart("$4")} LEFT JOIN unnest(w.parts, w.counts) AS o (part, count) ON ${isCounted("o", "n")}
             GROUP BY n.part
           ) AS t
           CROSS JOIN LATERAL (
             SELECT o.part, o.count FROM unnest(w.parts, w.counts) AS o (part, count) WHERE ${isCounted("o", "t")}
             UNION ALL SELECT t.part, CASE WHEN t.is_taken THEN $2::bigint ELSE 0 END
           ) AS u
           GROUP BY u.part, t.is_taken
         ) AS s GROUP BY s.is_taken)
       RETURNING is_taken, (SELECT sum(c)::float8 FROM unnest(counts) AS c) AS used,
         (SELECT ${resetOf("min(u.part)")} FROM unnest(parts, counts) AS u (part, count), ${nowPart("$4")} WHERE u.count > 0 GROUP BY n.ms) AS reset_ms`,
      key,
      amount,
      limit,
      partMs,
      windowMs + partMs,
    );
    return takenOf(row);
  },
  async clear(keys) {
    await run("DELETE FROM @windows WHERE key = ANY($1)", keys);
  },
});

const sets = ({ run }: Tables): Sets => ({
  async addMembers(key, members, ttlMs) {
    await run(
      `INSERT INTO @members (key, member, expires_at) SELECT $1, member, ${expiry(3)} FROM unnest($2::text[]) AS member ORDER BY member
       ON CONFLICT (key, member) DO UPDATE SET expires_at = EXCLUDED.expires_at`,
      key,
      [...new Set(members)],
      ttlMs,
    );
  },
  async removeMembers(key, members) {
    await run("DELETE FROM @members WHERE key = $1 AND member = ANY($2)", key, members);
  },
  async hasMember(key, member) {
    const found = await run("SELECT true FROM @members WHERE key = $1 AND member = $2 AND expires_at > now()", key, member);
    return found.length === 1;
  },
  async members(key, limit) {
    const found = await run<{ member: string }>("SELECT member FROM @members WHERE key = $1 AND expires_at > now() LIMIT $2", key, limit);
    return found.map(({ member }) => member);
  },
});

const feeds = ({ statement, run, runAll }: Tables): Feeds => ({
  async addItems(key, items, keep, ttlMs) {
    const last = new Map(items.map(({ member, score }) => [member, score]));
    await runAll(
      statement("DELETE FROM @feeds WHERE key = $1 AND expires_at <= clock_timestamp()", key),
      statement(
        `INSERT INTO @feeds (key, expires_at) VALUES ($1, ${expiry(2)}) ON CONFLICT (key) DO UPDATE SET expires_at = EXCLUDED.expires_at`,
        key,
        ttlMs,
      ),
      statement(
        `INSERT INTO @items (key, member, score) SELECT $1, member, score FROM unnest($2::text[], $3::float8[]) AS i (member, score)
           ON CONFLICT (key, member) DO UPDATE SET score = EXCLUDED.score`,
        key,
        [...last.keys()],
        [...last.values()],
      ),
      statement(
        `DELETE FROM @items WHERE key = $1 AND member IN
             (SELECT member FROM @items WHERE key = $1 ORDER BY score DESC, member DESC OFFSET $2)`,
        key,
        keep,
      ),
    );
  },
  async removeItems(key, members) {
    await runAll(
      // First, as who adds does: else two who have members in common could wait for each other.
      statement("SELECT FROM @feeds WHERE key = $1 FOR NO KEY UPDATE", key),
      statement("DELETE FROM @items WHERE key = $1 AND member = ANY($2)", key, members),
    );
  },
  items: (key, limit, after) =>
    run<FeedItem>(
      `SELECT i.member, i.score FROM @feeds AS f JOIN @items AS i USING (key)
       WHERE f.key = $1 AND f.expires_at > now() AND (i.score, i.member) < (coalesce($3::float8, 'infinity'), coalesce($4, ''))
       ORDER BY i.score DESC, i.member DESC LIMIT $2`,
      key,
      limit,
      after?.score,
      after?.member,
    ),
});

type Window = { readonly is_taken: boolean; readonly used: number; readonly reset_ms: number | null };

const takenOf = (row: Window | undefined): Taken => ({
  isTaken: row?.is_taken ?? false,
  used: row?.used ?? 0,
  resetMs: row?.reset_ms ?? 0,
});

/** The part of the window that it is now, and the time, by the parameter that holds a part's milliseconds. */
const nowPart = (partMs: string): string =>
  `(SELECT ms, floor(ms / ${partMs}::float8)::bigint AS part, ${partMs}::float8 AS part_ms
    FROM (SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms) AS c) AS n`;

/** Parts of the window; none far ahead either, which a clock that was set back has left. */
const isCounted = (part: string, now: string): string =>
  `${part}.part BETWEEN ${now}.part - ${WINDOW_PARTS} AND ${now}.part + ${WINDOW_PARTS}`;

/** Until the oldest part isn't counted any more. */
const resetOf = (oldest: string): string => `ceil((${oldest} + ${WINDOW_PARTS + 1}) * max(n.part_ms) - n.ms)::float8`;

async function reached<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw isConnectionLost(error) ? new KvUnavailable(error) : error;
  }
}

const FORGET_AT_ONCE = 1_000;

/** What has expired, by the table of it. A feed goes after its items, so that no statement deletes more than it says. */
const EXPIRED = {
  values: "SELECT ctid FROM @values WHERE expires_at < now()",
  members: "SELECT ctid FROM @members WHERE expires_at < now()",
  items: "SELECT i.ctid FROM @feeds AS f JOIN @items AS i USING (key) WHERE f.expires_at < now()",
  feeds: "SELECT ctid FROM @feeds AS f WHERE expires_at < now() AND NOT EXISTS (SELECT FROM @items AS i WHERE i.key = f.key)",
  windows: "SELECT ctid FROM @windows WHERE expires_at < now()",
};

/** Deletes what has expired, some of it; resolves with how much that was. */
export async function forgetExpired(database: Database): Promise<number> {
  const counts = await database.queryAll(
    (["kept", "passing"] as const).flatMap((keeping) => {
      const { statement } = tables(database, keeping);
      return Object.entries(EXPIRED).map(([table, expired]) =>
        statement(`DELETE FROM @${table} WHERE ctid = ANY(ARRAY(${expired} LIMIT $1 FOR UPDATE SKIP LOCKED))`, FORGET_AT_ONCE),
      );
    }),
  );
  return counts.reduce((sum, { rowCount }) => sum + rowCount, 0);
}
