import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { AuthService, ListSessionsResponseSchema, SessionSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { page } from "#platform/reads/page.ts";
import { find, query } from "#platform/reads/query.ts";
import { sessions, users } from "../tables.ts";
import { isGood } from "./session.ts";

/** The caller's sessions that are good, newest first. */
export const listSessions = query(AuthService.method.listSessions, async (request, { sql, caller }) => {
  const { userId, sessionId } = requireUser(caller);
  const user = await find(sql, users.row(userId));
  if (user === undefined) return create(ListSessionsResponseSchema);
  const where = { userId, epoch: user.sessionEpoch };
  const { rows, nextPageToken } = await page(sql, sessions, { where, by: ["id"], newestFirst: true }, request);
  const good = rows.filter((session) => isGood(session, user, timestampNow()));
  return create(ListSessionsResponseSchema, {
    sessions: good.map((session) => create(SessionSchema, { ...session, current: session.id === sessionId })),
    nextPageToken,
  });
});
