import { timestampMs } from "@bufbuild/protobuf/wkt";
import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import { AuthService, type TokenNews } from "#contracts/polis/auth/v1/auth_pb.ts";
import { pause } from "#platform/events/signal.ts";
import type { EdgeGround } from "#platform/service.ts";

/** Who has heard nothing for so long doesn't know which tokens were revoked. auth says something five times as often. */
const DEAF_AFTER_MS = 1_000;
/** Revocations that are over are forgotten so often. */
const PRUNE_EVERY_MS = 30_000;
const RETRY_MS_MAX = 500;

/** By what tokens are verified. */
export type Verification = { readonly issuer: string; readonly audience: string; readonly keys: ReturnType<typeof createLocalJWKSet> };

/** What a token, or a key, says that may be revoked. */
export type RevocableToken = { readonly userId: string; readonly version: number } & (
  | { readonly sessionId: string }
  | { readonly apiKeyId: string }
);

export type HeardTokens = {
  /** Undefined until auth was heard for the first time. */
  verification(): Verification | undefined;
  isRevoked(token: RevocableToken): boolean;
  /** Whether what is known of revocations is of now. */
  isFresh(): boolean;
  /** Resolves once auth was heard, or after `ms`. */
  heard(ms: number): Promise<void>;
  stop(): Promise<void>;
};

type Revoked = { readonly versionMin: number; readonly untilMs: number };

/**
 * Listens to auth for keys and revocations, and comes again when the line is lost, or mute. What was heard stays: tokens are verified
 * while auth is away, though nobody knows then which were revoked meanwhile.
 */
export function hearTokens({ peer, clock, log, metrics }: Pick<EdgeGround<unknown>, "peer" | "clock" | "log" | "metrics">): HeardTokens {
  let verification: Verification | undefined;
  let issuedBy: Pick<Verification, "issuer" | "audience"> | undefined;
  let heardMs = Number.NEGATIVE_INFINITY;
  const sessions = new Map<string, Revoked>();
  const users = new Map<string, Revoked>();
  const apiKeys = new Map<string, Revoked>();
  const stopping = new AbortController();
  const first = Promise.withResolvers<void>();

  const take = (news: TokenNews): void => {
    if (news.issuer !== "") issuedBy = { issuer: news.issuer, audience: news.audience };
    if (news.jwks !== "" && issuedBy !== undefined)
      verification = { ...issuedBy, keys: createLocalJWKSet(JSON.parse(news.jwks) as JSONWebKeySet) };
    for (const { of, versionMin, expiresAt } of news.revocations) {
      const known = of.case === "sessionId" ? sessions : of.case === "apiKeyId" ? apiKeys : users;
      const before = known.get(of.value ?? "");
      const untilMs = expiresAt === undefined ? 0 : timestampMs(expiresAt);
      known.set(of.value ?? "", {
        versionMin: Math.max(versionMin, before?.versionMin ?? 0),
        untilMs: Math.max(untilMs, before?.untilMs ?? 0),
      });
    }
    heardMs = performance.now();
    first.resolve();
  };

  const listen = async (): Promise<void> => {
    const line = new AbortController();
    const signal = AbortSignal.any([stopping.signal, line.signal]);
    // A process that is frozen keeps its connection open.
    let lastMs = performance.now();
    const watch = setInterval(() => {
      if (performance.now() - lastMs > DEAF_AFTER_MS * 1.5) line.abort();
    }, DEAF_AFTER_MS / 4);
    try {
      for await (const news of peer(AuthService).watchTokens({}, { timeoutMs: Number.POSITIVE_INFINITY, signal })) {
        lastMs = performance.now();
        take(news);
      }
    } finally {
      clearInterval(watch);
    }
  };

  const run = async (): Promise<void> => {
    for (let failures = 0; !stopping.signal.aborted; failures += 1) {
      const beganMs = performance.now();
      try {
        await listen();
      } catch (error) {
        log.debug({ err: error }, "auth isn't heard");
      }
      if (performance.now() - beganMs > DEAF_AFTER_MS) failures = 0;
      await pause(Math.min(50 * 2 ** failures, RETRY_MS_MAX), stopping.signal);
    }
  };

  const prune = setInterval(() => {
    for (const known of [sessions, users, apiKeys]) for (const [id, { untilMs }] of known) if (untilMs < clock()) known.delete(id);
  }, PRUNE_EVERY_MS);
  prune.unref();
  const isFresh = (): boolean => performance.now() - heardMs <= DEAF_AFTER_MS;
  const deaf = metrics.gauge("polis_gateway_auth_unheard", "1 while auth isn't heard, and what is sensitive is refused", []);
  const stopMeasuring = metrics.measureWhenRead(() => deaf.set(isFresh() ? 0 : 1));
  const running = run();
  return {
    verification: () => verification,
    isRevoked: (token) =>
      ("sessionId" in token ? sessions.has(token.sessionId) : apiKeys.has(token.apiKeyId)) ||
      token.version < (users.get(token.userId)?.versionMin ?? 0),
    isFresh,
    heard: (ms) => Promise.race([first.promise, pause(ms, stopping.signal)]),
    async stop() {
      clearInterval(prune);
      stopMeasuring();
      stopping.abort();
      await running;
    },
  };
}
