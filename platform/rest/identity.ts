import type { IncomingHttpHeaders } from "node:http";
import { type Caller, nobody, userCaller } from "#platform/access/caller.ts";
import { isUuid } from "#platform/ids.ts";
import { CallError } from "#platform/rpc/call-error.ts";

/** How the edge learns who calls. */
export type Identity = {
  /**
   * Throws CallError UNAUTHENTICATED where the client names somebody in a way that can't be believed or read; UNAVAILABLE where that
   * can't be told now, which for what is sensitive is so while nobody knows who was shut out. What is public may be called with a
   * name that is good no more as well: it counts as none.
   */
  identify(headers: IncomingHttpHeaders, call: { readonly isSensitive: boolean; readonly isPublic: boolean }): Caller | Promise<Caller>;
  /** The value of `WWW-Authenticate`, which every 401 carries (RFC 9110). */
  readonly challenge: string;
  /** The headers that an answer depends on, as `Vary` names them. */
  readonly header: string;
  /** The codes of its 401s, each with its text. */
  readonly refusals: Readonly<Record<string, string>>;
  /** As OpenAPI tells them: Security Scheme Objects by name, of which any will do. */
  readonly securitySchemes: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
};

const INVALID_USER_ID = "X-User-Id is not one uuid.";

/** Behind a proxy that authenticates: `X-User-Id` names the user, who has the role `user` and no more. Without it: nobody. */
export const headerIdentity: Identity = {
  identify(headers) {
    const userId = headers["x-user-id"];
    if (userId === undefined) return nobody;
    const id = typeof userId === "string" ? userId.toLowerCase() : "";
    if (!isUuid(id)) throw new CallError("UNAUTHENTICATED", "invalid_user_id", INVALID_USER_ID);
    return userCaller(id);
  },
  challenge: 'Header name="X-User-Id"',
  refusals: { invalid_user_id: INVALID_USER_ID },
  header: "X-User-Id",
  securitySchemes: {
    user: {
      type: "apiKey",
      in: "header",
      name: "X-User-Id",
      description: "The calling user's uuid, set by the proxy that authenticates in front of this server.",
    },
  },
};
