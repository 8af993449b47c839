import { strict as assert } from "node:assert";
import { request } from "undici";
import { deploymentSecret } from "#platform/access/secret.ts";
import { accessTokens } from "../../services/auth/keys/access-tokens.testing.ts";
import { type BenchServer, connect } from "./server.ts";

const AT_ONCE = 32;
/** More than any bench spends, in minor units. */
const MONEY = "1000000000000";

/** Users of a Polis on this server as they name themselves: what each sends as `Authorization`. Good for minutes, which no bench of HTTP takes. */
export async function authorizations(server: BenchServer, parts: AsyncDisposableStack, count: number, secret?: string): Promise<string[]> {
  const auth = await connect(server, "polis_auth", parts);
  const query = async (text: string) => (await auth.query(text)).rows;
  const tokenOf = await accessTokens(query, secret ?? (await deploymentSecret({ folder: server.folder })));
  return Array.from({ length: count }, () => `Bearer ${tokenOf(crypto.randomUUID())}`);
}

/** Opens an account for each, with money on it, over HTTP. */
export async function openHttpAccounts(origin: string, customers: readonly string[]): Promise<void> {
  const waiting = [...customers];
  const opener = async (): Promise<void> => {
    for (let customer = waiting.pop(); customer !== undefined; customer = waiting.pop()) {
      const { id } = await post(`${origin}/accounts`, customer, { currency: "RUB" });
      await post(`${origin}/accounts/${id}/top-ups`, customer, { amount: MONEY });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, opener));
}

/** Posts for who is authorized so, and gives what was answered with 201. */
export async function post(url: string, authorization: string, body: object): Promise<{ id: string }> {
  const headers = { authorization, "content-type": "application/json", "idempotency-key": crypto.randomUUID() };
  const response = await request(url, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await response.body.text();
  assert.equal(response.statusCode, 201, text);
  return JSON.parse(text);
}
