import { randomUUID } from "node:crypto";
import type { OauthFlow, OauthReturn, SignInResponse } from "#contracts/polis/auth/v1/auth_pb.ts";
import type { TestServices } from "#platform/process/services.testing.ts";
import { authClients } from "../auth.testing.ts";
import { browser } from "./outside.testing.ts";

export const PUBLIC_URL = "http://127.0.0.1:8080";
export const callbackOf = (provider: string): string => `${PUBLIC_URL}/auth/oauth/${provider}/callback`;

/** What the gateway makes of the URL to which a provider sends a browser back. */
export function returnRequest(url: URL) {
  const get = (name: string): string => url.searchParams.get(name) ?? "";
  const provider = url.pathname.split("/")[3] ?? "";
  return { provider, state: get("state"), code: get("code"), iss: get("iss"), error: get("error"), deviceId: get("device_id") };
}

/** What the page to which the browser goes on finishes the flow with. */
export const finishRequest = ({ flowSecret }: OauthFlow, { state, code, iss, deviceId }: Omit<OauthReturn, "$typeName" | "location">) => ({
  flowSecret,
  state,
  code,
  iss,
  deviceId,
});

export const someLogin = (): string => `user-${randomUUID()}`;

export function oauthClients(services: TestServices, provider = "local") {
  const clients = authClients(services);
  const { guest } = clients;
  /** Goes through the provider for a flow, as this user of it. */
  const goThrough = async (flow: OauthFlow, login: string): Promise<OauthReturn> =>
    guest.returnFromProvider(returnRequest(await browser().signIn(flow.authorizationUrl, login, PUBLIC_URL)));
  return {
    ...clients,
    goThrough,
    /** A whole sign-in. */
    async signIn(login: string): Promise<SignInResponse> {
      const flow = await guest.beginOauth({ provider });
      return guest.signInWithOauth(finishRequest(flow, await goThrough(flow, login)));
    },
  };
}
