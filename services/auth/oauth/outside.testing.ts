import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Provider } from "oidc-provider";
import { afterAll } from "vitest";

/** What a provider knows of its user. */
export type Person = { readonly email?: string; readonly email_verified?: boolean };

export const CLIENT = { clientId: "polis", clientSecret: "a secret between the two: +%/" } as const;

/** A server on a free port of loopback until the tests of the file have ended. */
export async function listen(answer: (base: string) => RequestListener): Promise<{ readonly base: string; readonly server: Server }> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  server.on("request", answer(base));
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  return { base, server };
}

/** A real provider of OpenID Connect, which signs in whoever says a name; what it tells of them is in `people`. */
export async function startOidcProvider(redirectUris: readonly string[]) {
  const people = new Map<string, Person>();
  const { base: issuer, server } = await listen((base) => {
    const provider = new Provider(base, {
      clients: [{ client_id: CLIENT.clientId, client_secret: CLIENT.clientSecret, redirect_uris: redirectUris }],
      claims: { openid: ["sub"], email: ["email", "email_verified"] },
      findAccount: (_: unknown, id: string) => ({ accountId: id, claims: () => ({ sub: id, ...people.get(id) }) }),
      pkce: { required: () => true },
      ttl: { AccessToken: 60, AuthorizationCode: 60, IdToken: 60, Interaction: 600, Session: 600, Grant: 600 },
    });
    return provider.callback();
  });
  return { issuer, people, server };
}

/** A browser of somebody's, that keeps cookies and follows redirects, up to one that begins with `until`. */
export function browser() {
  const jar = new Map<string, string>();
  const request = async (url: URL, body?: URLSearchParams): Promise<Response> => {
    const answer = await fetch(url, {
      method: body === undefined ? "GET" : "POST",
      redirect: "manual",
      headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; ") },
      ...(body === undefined ? {} : { body }),
    });
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
      jar.set(name, value);
    }
    return answer;
  };
  return {
    /** Goes to the provider, signs in there under this name and agrees; gives the URL to which the provider sends it back. */
    async signIn(authorizationUrl: string, login: string, until: string): Promise<URL> {
      let url = new URL(authorizationUrl);
      let answer = await request(url);
      for (let steps = 0; steps < 20; steps += 1) {
        const location = answer.headers.get("location");
        if (location?.startsWith(until)) return new URL(location);
        if (location !== null) {
          url = new URL(location, url);
          answer = await request(url);
          continue;
        }
        const page = await answer.text();
        const action = /<form[^>]*action="([^"]+)"/.exec(page)?.[1];
        const prompt = /name="prompt" value="([a-z]+)"/.exec(page)?.[1];
        if (action === undefined || prompt === undefined) throw new Error(`${url.href} answers ${answer.status}: ${page.slice(0, 500)}`);
        url = new URL(action.replaceAll("&amp;", "&"), url);
        answer = await request(url, new URLSearchParams({ prompt, login, password: "x" }));
      }
      throw new Error("the provider leads in a circle");
    },
  };
}
