import { request } from "undici";

/** An answer as it came; a body that isn't there is empty, and a problem's fields stand beside those of a success. */
export type Answer<T> = { readonly status: number; readonly headers: Readonly<Record<string, unknown>>; readonly body: T & Problem };

export type Problem = {
  readonly code?: string;
  readonly errors?: readonly { readonly field: string; readonly rule: string; readonly message: string }[];
};

export type Account = {
  readonly id: string;
  readonly userId: string;
  readonly currency: string;
  readonly balance: string;
  readonly available: string;
};
export type Transaction = {
  readonly id: string;
  readonly accountId: string;
  readonly amount: string;
  readonly type: "DEBIT" | "CREDIT";
  readonly referenceOrderId?: string;
};
export type Order = {
  readonly id: string;
  readonly userId: string;
  readonly amount: string;
  readonly currency: string;
  readonly description: string;
  readonly status: "NEW" | "FINISHED" | "CANCELED";
  readonly reason?: string;
};
export type NewOrder = { readonly amount: unknown; readonly currency?: string; readonly description?: string };
type Page = { readonly nextPageToken: string };

/** One user of Polis's REST at `url`, whom these headers name. Throws where there is no answer within `timeoutMs`. */
export function restOf(
  url: string,
  identity: Readonly<Record<string, string>> = {},
  { timeoutMs = 15_000 }: { readonly timeoutMs?: number } = {},
) {
  async function call<T = object>(
    method: "GET" | "POST" | "DELETE",
    path: string,
    sent: { body?: string | object; key?: string | undefined; traceparent?: string } = {},
  ): Promise<Answer<T>> {
    const answer = await request(url + path, {
      method,
      headers: {
        ...identity,
        ...(sent.body === undefined ? {} : { "content-type": "application/json" }),
        ...(sent.key === undefined ? {} : { "idempotency-key": sent.key }),
        ...(sent.traceparent === undefined ? {} : { traceparent: sent.traceparent }),
      },
      body: sent.body === undefined ? null : typeof sent.body === "string" ? sent.body : JSON.stringify(sent.body),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await answer.body.text();
    return { status: answer.statusCode, headers: answer.headers, body: (text === "" ? {} : JSON.parse(text)) as T & Problem };
  }
  return {
    call,
    openAccount: (body: object = {}, key?: string) => call<Account>("POST", "/accounts", { body, key }),
    topUp: (accountId: string, amount: unknown, key: string) =>
      call<Transaction>("POST", `/accounts/${accountId}/top-ups`, { body: { amount }, key }),
    createOrder: (body: NewOrder, key?: string) => call<Order>("POST", "/orders", { body, key }),
    account: (id: string) => call<Account>("GET", `/accounts/${id}`),
    accounts: () => call<{ accounts: Account[] } & Page>("GET", "/accounts"),
    transactions: (id: string, query = "") => call<{ transactions: Transaction[] } & Page>("GET", `/accounts/${id}/transactions${query}`),
    order: (id: string) => call<Order>("GET", `/orders/${id}`),
    orders: (query = "") => call<{ orders: Order[] } & Page>("GET", `/orders${query}`),
  };
}

export type Rest = ReturnType<typeof restOf>;
