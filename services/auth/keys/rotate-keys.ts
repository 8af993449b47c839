import { type Duration, durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { RotateKeysSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { task } from "#platform/tasks/define-task.ts";
import { signingKeys as rows } from "../tables.ts";
import { signingKeys } from "./signing-keys.ts";

/** Makes the next key where the newest has grown old. One such task runs at once. */
export const rotateKeys = task(RotateKeysSchema, {
  async prepare({ olderThan }, { sql, use, now }) {
    const { rows: found } = await sql.query<{ ms: number }>({
      text: "SELECT extract(epoch FROM signs_from)::float8 * 1000 AS ms FROM signing_keys ORDER BY signs_from DESC LIMIT 1",
    });
    const [newest] = found;
    const nowMs = timestampMs(now);
    return newest !== undefined && nowMs - newest.ms > durationMs(olderThan as Duration) ? use(signingKeys).next(nowMs) : undefined;
  },
  write(tx, _, { prepared: next }) {
    if (next === undefined) return "young enough";
    tx.insert(rows, next);
    return `made ${next.id}`;
  },
});
