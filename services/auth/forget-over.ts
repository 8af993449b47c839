import { ForgetOverSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { task } from "#platform/tasks/define-task.ts";

const ROWS_AT_ONCE = 1_000;

/** What is over, by table. Signing keys, once every token that they have signed is over as well. */
const over = {
  challenges: "expires_at < now() - interval '1 day'",
  sessions: "coalesce(ended_at, expires_at) < now() - interval '30 days'",
  revocations: "expires_at < now() - interval '1 hour'",
  api_keys: "coalesce(revoked_at, expires_at) < now() - interval '30 days'",
  identities: "unlinked_at < now() - interval '1 day'",
  signing_keys: `EXISTS (SELECT FROM signing_keys newer WHERE newer.signs_from > signing_keys.signs_from AND newer.signs_from < now() - interval '1 day')`,
};

/** Deletes what is over, some at a time. */
export const forgetOver = task(ForgetOverSchema, {
  async prepare(_, { sql, signal }) {
    let deleted = 0;
    for (const [table, condition] of Object.entries(over))
      for (let count = ROWS_AT_ONCE; count === ROWS_AT_ONCE && !signal.aborted; ) {
        ({ rowCount: count } = await sql.query({
          text: `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE ${condition} LIMIT ${ROWS_AT_ONCE} FOR UPDATE SKIP LOCKED)`,
        }));
        deleted += count;
      }
    return deleted;
  },
  write: (_, __, { prepared: deleted }) => `${deleted} deleted`,
});
