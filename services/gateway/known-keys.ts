import { hash } from "node:crypto";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { AuthService } from "#contracts/polis/auth/v1/auth_pb.ts";
import { type UserCaller, userCaller } from "#platform/access/caller.ts";
import type { Clock } from "#platform/clock.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Peers } from "#platform/rpc/client.ts";
import type { RevocableToken } from "./heard-tokens.ts";

/** What auth has said of a key counts for so long; that it was revoked is heard before. */
const GOOD_MS = 60_000;
/** A key that isn't good isn't asked for again at once. */
const BAD_MS = 5_000;
const CACHED_MAX = 10_000;

/** For whom a key speaks. */
export type KnownKey = RevocableToken & { readonly caller: UserCaller; readonly expiresMs: number };

export type KnownKeys = { find(key: string): Promise<KnownKey> };

type Entry = { readonly found: Promise<KnownKey>; answer: KnownKey | undefined; untilMs: number };

/**
 * Asks auth for keys, and remembers its answers for a while. One that is revoked is asked for again: it may be that its owner has other
 * roles, or has signed out everywhere, and the key speaks for them still.
 */
export function knownKeys(peer: Peers, clock: Clock, isRevoked: (key: KnownKey) => boolean): KnownKeys {
  const known = new Map<string, Entry>();
  const counts = ({ answer, untilMs }: Entry): boolean => clock() < untilMs && (answer === undefined || !isRevoked(answer));
  return {
    find(key) {
      // Not the key itself: it stays in memory for a while.
      const name = hash("sha256", key, "base64url");
      const before = known.get(name);
      if (before !== undefined && counts(before)) return before.found;
      const entry: Entry = { found: ask(peer, key), answer: undefined, untilMs: clock() + GOOD_MS };
      known.delete(name);
      if (known.size >= CACHED_MAX) known.delete(known.keys().next().value as string);
      known.set(name, entry);
      entry.found.then(
        (answer) => {
          entry.answer = answer;
        },
        (error: unknown) => {
          // auth's no counts for a moment, that it can't be asked for none.
          if (error instanceof CallError && error.status === "UNAUTHENTICATED") entry.untilMs = clock() + BAD_MS;
          else if (known.get(name) === entry) known.delete(name);
        },
      );
      return entry.found;
    },
  };
}

async function ask(peer: Peers, key: string): Promise<KnownKey> {
  const { id, userId, roles, scopes, version, expiresAt } = await peer(AuthService).verifyApiKey({ key });
  const caller = Object.freeze(userCaller(userId, { roles, scopes, apiKeyId: id }));
  return { caller, userId, apiKeyId: id, version, expiresMs: expiresAt === undefined ? Number.POSITIVE_INFINITY : timestampMs(expiresAt) };
}
