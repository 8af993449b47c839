import { choice, isLoopback } from "#platform/config/setting-types.ts";
import { setting } from "#platform/config/settings.ts";
import { headerIdentity } from "#platform/rest/identity.ts";
import { defineEdge, type EdgeGround, type OpenEdge } from "#platform/service.ts";
import { hearTokens } from "./heard-tokens.ts";
import { knownKeys } from "./known-keys.ts";
import { tokenIdentity } from "./token-identity.ts";

/** A start waits so long for auth, which may start at the same time. */
const FIRST_HEARD_MS = 3_000;

const settings = {
  identity: setting({
    name: "POLIS_IDENTITY",
    type: choice("token", "header"),
    default: "token",
    text: "how users say who they are. token: by the access tokens that auth issues; header: by X-User-Id, which a proxy sets that has authenticated them, and nobody else may reach the gateway",
  }),
};

export const gatewayService = defineEdge("gateway", {
  settings,
  open: (ground) => (ground.settings.identity === "header" ? openForProxy(ground) : openForTokens(ground)),
});

type Ground = Omit<EdgeGround<unknown>, "settings">;

function openForProxy({ host, log }: Ground): OpenEdge {
  // Who is believed without a proof must be out of strangers' reach.
  if (!isLoopback(host))
    log.warn({ host }, "whoever reaches this address is whom X-User-Id names: nobody but a proxy that authenticates may reach it");
  return { identity: headerIdentity, parts: [], close: () => undefined };
}

async function openForTokens({ peer, clock, log, metrics }: Ground): Promise<OpenEdge> {
  const tokens = hearTokens({ peer, clock, log, metrics });
  await tokens.heard(FIRST_HEARD_MS);
  const asked = (isTrue: () => boolean) => async (): Promise<void> => {
    if (!isTrue()) throw new Error("auth isn't heard");
  };
  return {
    identity: tokenIdentity(tokens, knownKeys(peer, clock, tokens.isRevoked), clock),
    parts: [
      { name: "signing-keys", isNeeded: true, ask: asked(() => tokens.verification() !== undefined) },
      { name: "revocations", isNeeded: false, ask: asked(() => tokens.isFresh()) },
    ],
    close: () => tokens.stop(),
  };
}
