import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type OauthFlow, OauthFlowSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { type BegunOauth, BegunOauthSchema } from "#contracts/polis/auth/v1/kept_pb.ts";
import type { Secrets } from "#platform/access/secrets.ts";
import { values } from "#platform/kv/kinds.ts";
import type { Kv } from "#platform/kv/kv.ts";
import { type Rejection, reject } from "#platform/rejection.ts";
import { resource, type Use } from "#platform/resource.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { FlowProof } from "./provider.ts";
import { providers } from "./providers.ts";

const LIFE_MS = 15 * 60_000;
const STATE_BYTES = 32;

/*
 * A flow has three who know of it: the client that began it, the provider, and the browser that comes back. Its `state` goes through all
 * of them, and finds what is kept of it. Its secret is the client's alone, so that nobody finishes what another has begun: neither who
 * has somebody open the way back with a code of their own, nor who has somebody go to a provider's page for a flow of theirs, for the
 * code then comes to the other one's browser. Verifier (PKCE) and nonce never leave this service before the code is exchanged.
 */

/** By the hash of the state: keys of the store are shown to operators. What is lost is begun again. */
export const begunFlows = values("auth.begun-oauth", BegunOauthSchema, { loss: "cache", ttlMs: LIFE_MS });

const keyOf = (state: string): string => createHash("sha256").update(state).digest("base64url");

type Derived = FlowProof & { readonly secret: string };

/** What belongs to a flow, derived from its state by the secret of the deployment: none of it is kept. */
export type FlowSecrets = {
  of(state: string): Derived;
  /** Undefined where the secret isn't that of the state. */
  open(state: string, secret: string): FlowProof | undefined;
};

export const flowSecrets = resource("auth.oauth-flows", { open: ({ secrets }) => openFlowSecrets(secrets) });

export function openFlowSecrets(secrets: Secrets): FlowSecrets {
  const keys = secrets.keys("polis auth oauth flow v1");
  const derived = (key: Uint8Array, state: string): Derived => {
    const part = (name: string): string => createHmac("sha256", key).update(`${name} ${state}`).digest("base64url");
    return { secret: part("secret"), verifier: part("verifier"), nonce: part("nonce") };
  };
  return {
    of: (state) => derived(keys[0], state),
    open: (state, secret) => keys.map((key) => derived(key, state)).find((each) => isEqual(each.secret, secret)),
  };
}

function isEqual(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

type Tools = { readonly kv: Kv; readonly use: Use };

/** Begins a flow. `not_found` where there is no such provider. */
export async function beginFlow(
  { kv, use }: Tools,
  { provider, returnTo, userId = "" }: { readonly provider: string; readonly returnTo: string; readonly userId?: string },
  now: Timestamp,
): Promise<OauthFlow | Rejection> {
  const target = returnTo === "" ? "" : use(providers).returnTarget(returnTo);
  if (target === undefined) return reject("return_to_not_allowed");
  const state = randomBytes(STATE_BYTES).toString("base64url");
  const { secret, ...proof } = use(flowSecrets).of(state);
  const authorizationUrl = await use(providers).authorizationUrl(provider, state, proof);
  if (authorizationUrl === undefined) return reject("not_found");
  if (!(await kv.of(begunFlows).add(keyOf(state), { provider, returnTo: target, userId })))
    throw new CallError("UNAVAILABLE", "unavailable", "Nothing can be begun now; try again later.", { retryAfterMs: 1_000 });
  return create(OauthFlowSchema, { authorizationUrl, flowSecret: secret, expiresAt: timestampFromMs(timestampMs(now) + LIFE_MS) });
}

/** What is kept of a flow. */
export const findFlow = (kv: Kv, state: string): Promise<BegunOauth | undefined> => kv.of(begunFlows).get(keyOf(state));

/**
 * Uses a flow up, for who has its secret and has begun it for this: as `userId` to link, or to sign in. Done before its code is exchanged,
 * so that of many who come at once with the same one goes on.
 */
export async function takeFlow(
  { kv, use }: Tools,
  { state, flowSecret }: { readonly state: string; readonly flowSecret: string },
  userId = "",
): Promise<{ readonly provider: string; readonly proof: FlowProof } | undefined> {
  const proof = use(flowSecrets).open(state, flowSecret);
  if (proof === undefined) return undefined;
  const begun = await findFlow(kv, state);
  if (begun === undefined || begun.userId !== userId) return undefined;
  if (!(await kv.of(begunFlows).compareAndSet(keyOf(state), begun, undefined))) return undefined;
  return { provider: begun.provider, proof };
}
