import type { RequestLimit } from "#platform/config/edge-setting-types.ts";

/** A limit by its name, as answers tell it. */
export type Policy = RequestLimit & {
  readonly name: string;
  /** As `RateLimit-Policy` has it. */
  readonly text: string;
};

export const policyOf = (name: string, { requests, windowMs }: RequestLimit): Policy => ({
  name,
  requests,
  windowMs,
  text: `"${name}";q=${requests};w=${Math.max(1, Math.round(windowMs / 1000))}`,
});

/** How a limit stands for one client, once a request was counted or refused. */
export type Quota = {
  readonly policy: Policy;
  readonly isTaken: boolean;
  /** What this gateway knows to be left. */
  readonly left: number;
  /** Milliseconds until more is. */
  readonly resetMs: number;
};

/** Adds the headers that tell of limits to those of an answer (draft-ietf-httpapi-ratelimit-headers-10): all policies, and how the one stands with the least left. */
export function pushQuotas(quotas: readonly Quota[], headers: string[]): void {
  let [least] = quotas;
  if (least === undefined) return;
  let policies = least.policy.text;
  for (let n = 1; n < quotas.length; n++) {
    const quota = quotas[n] as Quota;
    policies += `, ${quota.policy.text}`;
    if (quota.left / quota.policy.requests < least.left / least.policy.requests) least = quota;
  }
  headers.push("ratelimit-policy", policies, "ratelimit", `"${least.policy.name}";r=${least.left};t=${Math.ceil(least.resetMs / 1000)}`);
}
