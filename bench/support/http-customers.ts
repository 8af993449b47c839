import { strict as assert } from "node:assert";
import { request } from "undici";

const AT_ONCE = 32;
/** More than any bench spends, in minor units. */
const MONEY = "1000000000000";

/** Customers with an account each and money on it, made over HTTP; their user ids. */
export async function openHttpCustomers(origin: string, count: number): Promise<string[]> {
  const userIds = Array.from({ length: count }, () => crypto.randomUUID());
  const waiting = [...userIds];
  const opener = async (): Promise<void> => {
    for (let userId = waiting.pop(); userId !== undefined; userId = waiting.pop()) {
      const { id } = await post(`${origin}/accounts`, userId, { currency: "RUB" });
      await post(`${origin}/accounts/${id}/top-ups`, userId, { amount: MONEY });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, opener));
  return userIds;
}

/** Posts for a user and gives what was answered with 201. */
export async function post(url: string, userId: string, body: object): Promise<{ id: string }> {
  const headers = { "x-user-id": userId, "content-type": "application/json", "idempotency-key": crypto.randomUUID() };
  const response = await request(url, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await response.body.text();
  assert.equal(response.statusCode, 201, text);
  return JSON.parse(text);
}
