import { create } from "@bufbuild/protobuf";
import { AuthService, EndSessionResponseSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { sessions } from "../tables.ts";
import { endOneSession } from "./session.ts";

/** Ends one of the caller's sessions; one that has ended stays so. */
export const endSession = operation(AuthService.method.endSession, {
  lock: ({ sessionId }) => sessions.row(sessionId),
  write(tx, _, { locked: session, caller, now }) {
    if (session === undefined || session.userId !== requireUser(caller).userId) return reject("not_found");
    if (session.endedAt === undefined) endOneSession(tx, session, "signed_out", now);
    return create(EndSessionResponseSchema);
  },
});
