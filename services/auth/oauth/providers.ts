import { origins } from "#platform/config/edge-setting-types.ts";
import { publicUrl } from "#platform/config/public-url.ts";
import { setting } from "#platform/config/settings.ts";
import { type Rejection, reject } from "#platform/rejection.ts";
import { resource } from "#platform/resource.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { appleAuth } from "./apple-secret.ts";
import { bySecret, oidcProvider } from "./oidc-provider.ts";
import { type FlowProof, type OutsideUser, type Provider, ProviderAway, type Returned } from "./provider.ts";
import { type ProviderSettings, providerList } from "./provider-settings.ts";
import { returnTarget } from "./return-target.ts";
import { vkProvider } from "./vk-provider.ts";

const APPLE = "https://appleid.apple.com";
const AWAY_RETRY_MS = 2_000;

export type Providers = {
  readonly names: readonly string[];
  /** Where a browser goes to sign in; undefined where there is no such provider. Throws `provider_unavailable` where it is away. */
  authorizationUrl(provider: string, state: string, proof: FlowProof): Promise<string | undefined>;
  /** Who a code stands for. Throws as above. */
  identify(provider: string, returned: Returned, proof: FlowProof): Promise<OutsideUser | Rejection>;
  /** The URL that a client may have its user sent back to; undefined where it may not. */
  returnTarget(returnTo: string): string | undefined;
};

/** The outside providers that accounts are signed in by. None is asked for anything before somebody signs in by it. */
export const providers = resource("auth.oauth", {
  settings: {
    publicUrl,
    list: setting({
      name: "AUTH_OAUTH_PROVIDERS",
      type: providerList,
      default: [],
      text: "outside providers to sign in by: google, apple and vk by their names, any other of OpenID Connect by its issuer",
    }),
    returnOrigins: setting({
      name: "AUTH_OAUTH_RETURN_ORIGINS",
      type: origins,
      default: [],
      text: "origins of pages, with commas between, to which a provider's user may be sent back, beside that of POLIS_PUBLIC_URL",
    }),
  },
  open: ({ settings, log }): Providers => {
    const known = new Map(settings.list.map((each) => [each.name, providerOf(each, settings.publicUrl)]));
    const targets = new Set([new URL(settings.publicUrl).origin, ...settings.returnOrigins]);
    return {
      names: [...known.keys()],
      authorizationUrl: async (name, ...flow) => {
        const provider = known.get(name);
        return provider && asked(log, provider, () => provider.authorizationUrl(...flow));
      },
      async identify(name, ...flow) {
        const provider = known.get(name);
        // The operator has taken it away meanwhile.
        if (provider === undefined) return reject("invalid_flow");
        const found = await asked(log, provider, () => provider.identify(...flow));
        if (found.kind === "user") return found.user;
        if (found.kind === "refused") return reject("provider_refused");
        log.warn({ provider: name, err: found.why }, "what a provider of sign-in says isn't taken");
        return reject("provider_not_trusted");
      },
      returnTarget: (returnTo) => returnTarget(returnTo, settings.publicUrl, targets),
    };
  },
});

/** Each has a callback of its own, so that no provider's answer is taken for another's (RFC 9700, 4.4.2). */
function providerOf(settings: ProviderSettings, base: string): Provider {
  const { name, clientId, trustsEmail } = settings;
  const redirectUri = `${base.replace(/\/+$/, "")}/auth/oauth/${name}/callback`;
  const common = { name, clientId, trustsEmail, redirectUri };
  switch (settings.kind) {
    case "vk":
      return vkProvider(common);
    case "apple":
      // With an address asked for, Apple sends a form.
      return oidcProvider({ ...common, issuer: APPLE, auth: appleAuth(settings), parameters: { response_mode: "form_post" } });
    default:
      return oidcProvider({ ...common, issuer: settings.issuer, auth: bySecret(settings.clientSecret) });
  }
}

async function asked<T>(log: Log, { name }: Provider, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof ProviderAway)) throw error;
    log.warn({ provider: name, err: error }, "a provider of sign-in can't be asked");
    throw unavailable(error);
  }
}

const unavailable = (cause: ProviderAway): CallError =>
  new CallError("UNAVAILABLE", "provider_unavailable", "The provider can't be asked now; try again later.", {
    retryAfterMs: AWAY_RETRY_MS,
    cause,
  });
