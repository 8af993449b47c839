import { ForgetSentSchema } from "#contracts/polis/notifications/v1/tasks_pb.ts";
import type { Sql } from "#platform/postgres/database.ts";
import { task } from "#platform/tasks/define-task.ts";
import { pruneMailbox } from "./carriers/mailbox.ts";

const ROWS_AT_ONCE = 1_000;

/**
 * A letter's tries are over after a day. Who was killed in the last one has written down nothing, and so has one that an operator ended:
 * the codes in it would stay for as long as its row does.
 */
const endForgotten = (sql: Sql, signal: AbortSignal): Promise<number> =>
  inBatches(
    sql,
    signal,
    `UPDATE notifications SET status = 'FAILED', reason = 'nothing came of it within a week', params = '{}', ended_at = now()
     WHERE id IN (SELECT id FROM notifications
                  WHERE status = 'QUEUED' AND created_at < now() - interval '7 days' LIMIT $1 FOR UPDATE SKIP LOCKED)`,
  );

const deleteOld = (sql: Sql, signal: AbortSignal): Promise<number> =>
  inBatches(
    sql,
    signal,
    `DELETE FROM notifications
     WHERE id IN (SELECT id FROM notifications WHERE created_at < now() - interval '30 days' LIMIT $1 FOR UPDATE SKIP LOCKED)`,
  );

/** So many rows at a time as the statement's $1 says, until there are no more. Gives how many. */
async function inBatches(sql: Sql, signal: AbortSignal, text: string): Promise<number> {
  let all = 0;
  for (let count = ROWS_AT_ONCE; count === ROWS_AT_ONCE && !signal.aborted; all += count)
    ({ rowCount: count } = await sql.query({ text, values: [ROWS_AT_ONCE] }));
  return all;
}

/** Deletes what is older than thirty days, ends what nothing came of, and takes from the mailbox what it has too much of. */
export const forgetSent = task(ForgetSentSchema, {
  async prepare(_, { sql, signal }) {
    const ended = await endForgotten(sql, signal);
    return { deleted: (await pruneMailbox(sql)) + (await deleteOld(sql, signal)), ended };
  },
  write: (_, __, { prepared: { deleted, ended } }) => (ended === 0 ? `${deleted} deleted` : `${deleted} deleted, ${ended} given up`),
});
