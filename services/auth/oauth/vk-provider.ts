import { createHash } from "node:crypto";
import { boundedFetch } from "./bounded-fetch.ts";
import { type Identified, outsideUser, type Provider, ProviderAway } from "./provider.ts";

const VK = "https://id.vk.com";

type Answer = Readonly<Record<string, unknown>>;

/**
 * VK ID: OAuth 2.1 with PKCE, without discovery or an ID token that counts (id.vk.com, "VK ID without SDK"). Who it is is asked of it, with
 * the token that the code was good for. It doesn't say whether an address is confirmed.
 *
 * @param base where it is, for tests
 */
export function vkProvider(
  { name, clientId, trustsEmail, redirectUri }: { name: string; clientId: string; trustsEmail: boolean; redirectUri: string },
  base = VK,
): Provider {
  /** Its noes come with status 200. */
  const ask = async (path: string, form: Readonly<Record<string, string>>): Promise<Answer> => {
    try {
      const answer = await boundedFetch(`${base}${path}`, { method: "POST", body: new URLSearchParams(form) });
      const said: unknown = await answer.json();
      if (typeof said === "object" && said !== null && (answer.ok || "error" in said)) return said as Answer;
      throw new Error(`it answers with ${answer.status}`);
    } catch (cause) {
      throw new ProviderAway(`${base}${path} doesn't answer`, { cause });
    }
  };
  return {
    name,
    async authorizationUrl(state, { verifier }) {
      const url = new URL(`${base}/authorize`);
      url.search = new URLSearchParams({
        response_type: "code",
        client_id: clientId,
        redirect_uri: redirectUri,
        scope: "email",
        state,
        code_challenge: createHash("sha256").update(verifier).digest("base64url"),
        code_challenge_method: "S256",
      }).toString();
      return url.href;
    },
    async identify({ state, code, deviceId }, { verifier }): Promise<Identified> {
      const tokens = await ask("/oauth2/auth", {
        grant_type: "authorization_code",
        code,
        code_verifier: verifier,
        client_id: clientId,
        device_id: deviceId,
        redirect_uri: redirectUri,
        state,
      });
      if (tokens.error === "invalid_grant" || tokens.error === "invalid_request") return { kind: "refused" };
      const { access_token: token, state: said } = tokens;
      if (typeof token !== "string") throw new ProviderAway(`${base} gives no token: ${String(tokens.error).slice(0, 100)}`);
      if (said !== undefined && said !== state) return { kind: "untrusted", why: "its state is another" };
      const { user, error } = await ask("/oauth2/user_info", { client_id: clientId, access_token: token });
      if (typeof user !== "object" || user === null) throw new ProviderAway(`${base} tells no user: ${String(error).slice(0, 100)}`);
      const { user_id: id, email } = user as Answer;
      const subject = typeof id === "number" ? String(id) : id;
      const known = outsideUser(VK, { subject, email, isEmailVerified: trustsEmail, locale: "ru" });
      return known === undefined ? { kind: "untrusted", why: "its user_id isn't one" } : { kind: "user", user: known };
    },
  };
}
