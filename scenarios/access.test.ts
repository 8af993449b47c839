import { randomUUID } from "node:crypto";
import type { DescMethod } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { type Caller, nobody, serviceCaller, userCaller } from "#platform/access/caller.ts";
import { methodName, methodOptions } from "#platform/contract/method-options.ts";
import type { Peers } from "#platform/rpc/client.ts";
import { systems } from "../cli/systems.ts";
import { settled } from "./support/settled.ts";
import { testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

/*
 * Made from the contracts: every method of every service is called by everybody who may not. What may be called by whom
 * stands here a second time on purpose: a method that is added, or opened to somebody, is added here as well, and so seen.
 */

/** What there is of another customer. */
type Somebody = { readonly userId: string; readonly accountId: string; readonly orderId: string };

type Expectation = {
  /** As `accessOf` says it. */
  readonly allowed: string;
  /** A request that is in order, about somebody's things where it can be. */
  readonly request: (of: Somebody) => object;
  /** The request names somebody's thing, so for another user it isn't there. */
  readonly isAboutSomebody?: true;
};

const leg = ({ userId, accountId }: Somebody) => ({
  debit: { account: { case: "accountId", value: accountId } },
  credit: { account: { case: "owner", value: { userId } } },
  amount: 1n,
  currency: "RUB",
});

const expectations: Readonly<Record<string, Expectation>> = {
  "polis.accounts.v1.AccountsService/OpenAccount": { allowed: "role user", request: () => ({ currency: "RUB" }) },
  "polis.accounts.v1.AccountsService/ListAccounts": { allowed: "role user", request: () => ({}) },
  "polis.accounts.v1.AccountsService/GetAccount": {
    allowed: "role user | service payments | owner user_id",
    request: ({ accountId }) => ({ accountId }),
    isAboutSomebody: true,
  },
  "polis.accounts.v1.AccountsService/ListTransactions": {
    allowed: "role user",
    request: ({ accountId }) => ({ accountId }),
    isAboutSomebody: true,
  },
  "polis.accounts.v1.AccountsService/Post": {
    allowed: "service payments",
    request: (of) => ({ postingId: randomUUID(), legs: [leg(of)] }),
  },
  "polis.accounts.v1.AccountsService/Void": { allowed: "service payments", request: ({ orderId }) => ({ postingId: orderId }) },
  "polis.accounts.v1.AccountsService/CheckBooks": { allowed: "role auditor", request: () => ({}) },
  "polis.payments.v1.PaymentsService/TopUp": {
    allowed: "role user",
    request: ({ accountId }) => ({ accountId, amount: 1n }),
    isAboutSomebody: true,
  },
  "polis.payments.v1.PaymentsService/CancelCharge": {
    allowed: "service orders",
    request: ({ orderId, userId }) => ({ orderId, userId, amount: 1n, currency: "RUB" }),
  },
  "polis.orders.v1.OrdersService/CreateOrder": { allowed: "role user", request: () => ({ amount: 1n }) },
  "polis.orders.v1.OrdersService/ListOrders": { allowed: "role user", request: () => ({}) },
  "polis.orders.v1.OrdersService/GetOrder": {
    allowed: "role user | owner user_id",
    request: ({ orderId }) => ({ orderId }),
    isAboutSomebody: true,
  },
  "polis.auth.v1.AuthService/SignUp": {
    allowed: "public",
    request: () => ({ contact: { case: "email", value: `${randomUUID()}@example.com` }, password: "seven purple otters dance" }),
  },
  "polis.auth.v1.AuthService/ConfirmSignUp": { allowed: "public", request: () => ({ challengeId: randomUUID(), code: "123456" }) },
  "polis.auth.v1.AuthService/SignIn": {
    allowed: "public",
    request: () => ({ contact: { case: "email", value: `${randomUUID()}@example.com` }, password: "seven purple otters dance" }),
  },
  "polis.auth.v1.AuthService/RequestCode": {
    allowed: "public",
    request: () => ({ contact: { case: "email", value: `${randomUUID()}@example.com` } }),
  },
  "polis.auth.v1.AuthService/SignInWithCode": { allowed: "public", request: () => ({ challengeId: randomUUID(), code: "123456" }) },
  "polis.auth.v1.AuthService/Unlock": { allowed: "public", request: () => ({ challengeId: randomUUID(), code: "123456" }) },
  "polis.auth.v1.AuthService/Refresh": { allowed: "public", request: () => ({ refreshToken: "x" }) },
  "polis.auth.v1.AuthService/SignOut": { allowed: "role user", request: () => ({}) },
  "polis.auth.v1.AuthService/ListSessions": { allowed: "role user", request: () => ({}) },
  "polis.auth.v1.AuthService/EndSession": { allowed: "role user", request: () => ({ sessionId: randomUUID() }) },
  "polis.auth.v1.AuthService/ChangePassword": {
    allowed: "role user",
    request: () => ({ currentPassword: "x", newPassword: "seven purple otters dance" }),
  },
  "polis.auth.v1.AuthService/ResetPassword": {
    allowed: "public",
    request: () => ({ challengeId: randomUUID(), code: "123456", newPassword: "seven purple otters dance" }),
  },
  "polis.auth.v1.AuthService/CreateUser": {
    allowed: "role admin | second factor",
    request: () => ({ contact: { case: "email", value: `${randomUUID()}@example.com` }, password: "seven purple otters dance" }),
  },
  "polis.auth.v1.AuthService/GetUser": { allowed: "role admin | role support", request: ({ userId }) => ({ userId }) },
  "polis.auth.v1.AuthService/SetRoles": {
    allowed: "role admin | second factor",
    request: ({ userId }) => ({ userId, roles: ["support"] }),
  },
  "polis.auth.v1.AuthService/BlockUser": { allowed: "role admin | second factor", request: ({ userId }) => ({ userId, reason: "x" }) },
  "polis.auth.v1.AuthService/UnblockUser": { allowed: "role admin | second factor", request: ({ userId }) => ({ userId }) },
  "polis.auth.v1.AuthService/GetJwks": { allowed: "public", request: () => ({}) },
  "polis.auth.v1.AuthService/GetOpenidConfiguration": { allowed: "public", request: () => ({}) },
  "polis.auth.v1.AuthService/WatchTokens": { allowed: "service gateway", request: () => ({}) },
  "polis.auth.v1.AuthService/BeginTotp": { allowed: "role user", request: () => ({ password: "x" }) },
  "polis.auth.v1.AuthService/ConfirmTotp": { allowed: "role user", request: () => ({ code: "123456" }) },
  "polis.auth.v1.AuthService/SignInWithSecondFactor": { allowed: "public", request: () => ({ challengeId: randomUUID(), code: "123456" }) },
  "polis.auth.v1.AuthService/VerifySecondFactor": { allowed: "role user", request: () => ({ code: "123456" }) },
  "polis.auth.v1.AuthService/ReplaceRecoveryCodes": { allowed: "role user | second factor", request: () => ({}) },
  "polis.auth.v1.AuthService/GetSecondFactor": { allowed: "role user", request: () => ({}) },
  "polis.auth.v1.AuthService/DisableSecondFactor": { allowed: "role user", request: () => ({ password: "x", code: "123456" }) },
  "polis.auth.v1.AuthService/ResetSecondFactor": { allowed: "role admin | second factor", request: ({ userId }) => ({ userId }) },
  "polis.auth.v1.AuthService/CreateApiKey": { allowed: "role user", request: () => ({ name: "x", scopes: ["orders:read"] }) },
  "polis.auth.v1.AuthService/ListApiKeys": { allowed: "role user", request: () => ({}) },
  "polis.auth.v1.AuthService/RevokeApiKey": { allowed: "role user", request: () => ({ apiKeyId: randomUUID() }) },
  "polis.auth.v1.AuthService/VerifyApiKey": { allowed: "service gateway", request: () => ({ key: "x" }) },
  "polis.auth.v1.AuthService/ChangeContact": {
    allowed: "role user",
    request: () => ({ contact: { case: "email", value: `${randomUUID()}@example.com` }, password: "x" }),
  },
  "polis.auth.v1.AuthService/ConfirmContact": { allowed: "role user", request: () => ({ challengeId: randomUUID(), code: "123456" }) },
  "polis.auth.v1.AuthService/ListOauthProviders": { allowed: "public", request: () => ({}) },
  "polis.auth.v1.AuthService/BeginOauth": { allowed: "public", request: () => ({ provider: "none" }) },
  "polis.auth.v1.AuthService/ReturnFromProvider": { allowed: "public", request: () => ({ provider: "none", state: "x", code: "x" }) },
  "polis.auth.v1.AuthService/SignInWithOauth": { allowed: "public", request: () => ({ flowSecret: "x", state: "x", code: "x" }) },
  "polis.auth.v1.AuthService/BeginLink": { allowed: "role user", request: () => ({ provider: "none", password: "x" }) },
  "polis.auth.v1.AuthService/LinkIdentity": { allowed: "role user", request: () => ({ flowSecret: "x", state: "x", code: "x" }) },
  "polis.auth.v1.AuthService/ListIdentities": { allowed: "role user", request: () => ({}) },
  "polis.auth.v1.AuthService/UnlinkIdentity": { allowed: "role user", request: () => ({ identityId: randomUUID() }) },
  "polis.auth.v1.AuthService/DeleteAccount": { allowed: "role user", request: () => ({ password: "x" }) },
  "polis.notifications.v1.NotificationsService/Send": {
    allowed: "service auth",
    request: () => ({ id: randomUUID(), template: "sign-up-again", to: { case: "email", value: "a@example.com" } }),
  },
  "polis.notifications.v1.NotificationsService/GetNotification": { allowed: "service auth", request: () => ({ id: randomUUID() }) },
};

const services = [...new Set(systems.flatMap((system) => system.services))];
const methods = services.flatMap(({ contract }) => contract.methods);

function accessOf(method: DescMethod): string {
  const { public: isPublic, roles, services: named, scopes, secondFactor, owner } = methodOptions(method).access;
  return [
    ...(isPublic ? ["public"] : []),
    ...roles.map((role) => `role ${role}`),
    ...named.map((service) => `service ${service}`),
    ...scopes.map((scope) => `scope ${scope}`),
    ...(secondFactor ? ["second factor"] : []),
    ...(owner === "" ? [] : [`owner ${owner}`]),
  ].join(" | ");
}

const databases = await testDatabases();
const polis = await startTestPolis(databases);
const somebody = await newCustomer();
const another = await newCustomer();

async function newCustomer(): Promise<Somebody> {
  const userId = randomUUID();
  const rest = polis.rest(userId);
  const { body: account } = await rest.openAccount();
  await rest.topUp(account.id, 1_000, "money");
  const { body: order } = await rest.createOrder({ amount: 10 });
  await settled(rest, order.id);
  return { userId, accountId: account.id, orderId: order.id };
}

/** What changes by itself: who relays and works at the moment, and what the calendar brings. */
const MOVING = ["outbox_lease", "fences", "task_workers", "task_schedules", "follow_ups"];

const UNSCHEDULED = "WHERE coalesce(key, '') NOT LIKE 'schedule %'";

/** Every row of every table of every service but of those. */
async function allRows(except: readonly string[] = []): Promise<Record<string, string[]>> {
  const rows: Record<string, string[]> = {};
  for (const { name } of services) {
    const tables = await databases.query<{ name: string }>(
      name,
      "SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    );
    for (const table of tables.map((row) => row.name).filter((table) => ![...MOVING, ...except].includes(table)))
      rows[`${name}.${table}`] = (
        await databases.query<{ row: string }>(
          name,
          `SELECT t::text AS row FROM ${table} t ${table === "tasks" ? UNSCHEDULED : ""} ORDER BY 1`,
        )
      ).map(({ row }) => row);
  }
  return rows;
}

const ways: Readonly<Record<string, (caller: Caller) => Peers>> = {
  "in process": polis.clientFor,
  "over gRPC": polis.grpcFor,
};

/** The status and code with which a call ended. */
async function outcome(clientFor: (caller: Caller) => Peers, caller: Caller, method: DescMethod, request: object): Promise<string> {
  const client = clientFor(caller)(method.parent) as unknown as Record<string, (request: object, options: object) => unknown>;
  try {
    const answer = client[method.localName]?.(request, { idempotencyKey: randomUUID() });
    if (answer instanceof Promise) await answer;
    else for await (const _ of answer as AsyncIterable<unknown>);
    return "OK";
  } catch (error) {
    return (error as { status?: string }).status ?? String(error);
  }
}

test("who may call what is what was agreed, method by method", () => {
  expect(Object.fromEntries(methods.map((method) => [methodName(method), accessOf(method)]))).toEqual(
    Object.fromEntries(Object.entries(expectations).map(([name, { allowed }]) => [name, allowed])),
  );
});

describe.each(Object.keys(ways))("%s", (way) => {
  const clientFor = ways[way] as (caller: Caller) => Peers;

  test.each(methods.map((method) => [methodName(method), method] as const))("%s lets nobody in who isn't named", async (name, method) => {
    const { access } = methodOptions(method);
    const request = expectations[name]?.request(somebody) ?? {};
    const before = await allRows();
    if (!access.public) expect(await outcome(clientFor, nobody, method, request)).toBe("UNAUTHENTICATED");
    const withoutRoles = { ...userCaller(somebody.userId), roles: [] };
    const strangers: Caller[] = [
      ...(access.roles.length > 0 ? [withoutRoles] : [userCaller(somebody.userId, { roles: ["auditor", "admin"] })]),
      ...(access.roles.includes("user") ? [] : [userCaller(somebody.userId)]),
      userCaller(somebody.userId, { apiKeyId: randomUUID(), roles: access.roles, secondFactor: true, scopes: ["stranger:write"] }),
      ...(access.secondFactor ? [userCaller(somebody.userId, { roles: access.roles })] : []),
      ...[...services.map((service) => service.name), "gateway", "stranger"]
        .filter((service) => !access.services.includes(service))
        .flatMap((service) => [serviceCaller(service), serviceCaller(service, userCaller(somebody.userId))]),
    ];
    if (!access.public)
      for (const stranger of strangers)
        expect([stranger, await outcome(clientFor, stranger, method, request)]).toEqual([stranger, "PERMISSION_DENIED"]);
    expect(await allRows()).toEqual(before);
  });

  const aboutSomebody = methods.filter((method) => expectations[methodName(method)]?.isAboutSomebody);
  test.each(aboutSomebody.map((method) => [methodName(method), method] as const))(
    "%s shows and changes nothing of another user, whom it tells that there is no such thing",
    async (name, method) => {
      const request = expectations[name]?.request(somebody) ?? {};
      // What the caller was refused is kept under the caller's own key.
      const before = await allRows(["idempotency"]);
      expect(await outcome(clientFor, userCaller(another.userId), method, request)).toBe("NOT_FOUND");
      for (const service of methodOptions(method).access.services)
        expect(await outcome(clientFor, serviceCaller(service, userCaller(another.userId)), method, request)).toBe("NOT_FOUND");
      expect(await allRows(["idempotency"])).toEqual(before);
      expect(await outcome(clientFor, userCaller(somebody.userId), method, request)).toBe("OK");
    },
  );
});

test("a service that may read for itself reads anybody's", async () => {
  for (const method of methods) {
    const { access } = methodOptions(method);
    const expectation = expectations[methodName(method)];
    if (access.owner === "" || expectation === undefined) continue;
    for (const service of access.services)
      expect(await outcome(polis.clientFor, serviceCaller(service), method, expectation.request(somebody))).toBe("OK");
  }
});
