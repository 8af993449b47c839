import { ForgetSentSchema } from "#contracts/polis/notifications/v1/tasks_pb.ts";
import { task } from "#platform/tasks/define-task.ts";
import { pruneMailbox } from "./carriers/mailbox.ts";

const ROWS_AT_ONCE = 1_000;

/** Deletes what is older than thirty days, some at a time, and what the mailbox has too much of. */
export const forgetSent = task(ForgetSentSchema, {
  async prepare(_, { sql, signal }) {
    let deleted = await pruneMailbox(sql);
    for (let count = ROWS_AT_ONCE; count === ROWS_AT_ONCE && !signal.aborted; ) {
      ({ rowCount: count } = await sql.query({
        text: `DELETE FROM notifications WHERE id IN (
                 SELECT id FROM notifications WHERE created_at < now() - interval '30 days' LIMIT $1 FOR UPDATE SKIP LOCKED)`,
        values: [ROWS_AT_ONCE],
      }));
      deleted += count;
    }
    return deleted;
  },
  write: (_, __, { prepared: deleted }) => `${deleted} deleted`,
});
