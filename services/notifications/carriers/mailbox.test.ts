import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import { expect, test, vi } from "vitest";
import { NotificationsService } from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { serviceCaller } from "#platform/access/caller.ts";
import { testDatabase, testLog } from "#platform/postgres/database.testing.ts";
import { freePort } from "#platform/process/free-port.testing.ts";
import { testServicesWith } from "#platform/process/services.testing.ts";
import { notificationsService } from "../service.ts";
import { pruneMailbox } from "./mailbox.ts";
import { startMailboxServer } from "./mailbox-server.ts";

const port = await freePort();
const url = `http://127.0.0.1:${port}`;
const services = await testServicesWith({ environment: { MAILBOX_PORT: String(port) } }, notificationsService);
await services.begin();
const client = services.client(NotificationsService, serviceCaller("auth"));

async function get(path: string, headers: Record<string, string> = {}, method: "GET" | "DELETE" | "POST" = "GET") {
  const answer = await request(url + path, { headers, method });
  const text = await answer.body.text();
  return { status: answer.statusCode, headers: answer.headers, text, json: () => JSON.parse(text) };
}

async function send(to: string, params: Record<string, string> = { time: "now", device: "<script>alert(1)</script>" }) {
  const contact = to.startsWith("+") ? ({ case: "phone", value: to } as const) : ({ case: "email", value: to } as const);
  await client.send({ id: randomUUID(), template: "password-changed", to: contact, params });
  await vi.waitFor(async () => expect((await get(`/api/messages?to=${encodeURIComponent(to)}`)).json().messages.length).toBeGreaterThan(0));
}

test("without a server letters and texts land in the mailbox, the newest first, and by recipient", async () => {
  const [email, phone] = [`${randomUUID()}@example.com`, "+15005550001"];
  await send(email);
  await send(phone);
  const { messages } = (await get("/api/messages")).json();
  expect(messages.slice(0, 2)).toMatchObject([
    { kind: "sms", recipient: phone },
    { kind: "email", recipient: email, subject: "Your password was changed" },
  ]);
  const [letter] = (await get(`/api/messages?to=${email}`)).json().messages;
  expect((await get(`/api/messages/${letter.id}`)).json()).toEqual(letter);
  expect((await get("/api/messages?limit=1")).json().messages).toHaveLength(1);
});

test("a page shows a letter as text, whatever is in it, and takes nothing from elsewhere", async () => {
  const email = `${randomUUID()}@example.com`;
  await send(email);
  const [letter] = (await get(`/api/messages?to=${email}`)).json().messages;
  for (const path of ["/", `/messages/${letter.id}`]) {
    const { text, headers } = await get(path);
    expect(text).not.toContain("<script>");
    expect(headers["content-security-policy"]).toMatch(/^default-src 'none'; style-src 'sha256-/);
    expect(text).toContain(email);
  }
});

test.each([
  ["a name that somebody has point here", { host: "mailbox.evil.example" }],
  ["another site's page", { "sec-fetch-site": "cross-site" }],
  ["another origin", { origin: "http://evil.example" }],
])("it answers nobody who comes by %s", async (_, headers) => {
  expect((await get("/api/messages", headers)).status).toBe(403);
  expect((await get("/", headers)).text).not.toContain("example.com");
});

test("what it doesn't know is told so, and what is wrong by its rule", async () => {
  expect((await get("/nothing")).status).toBe(404);
  expect((await get(`/messages/${randomUUID()}`)).status).toBe(404);
  expect((await get("/messages/x'--")).status).toBe(404);
  expect((await get("/api/messages", {}, "POST")).status).toBe(405);
  for (const limit of ["0", "501", "x", "1.5"]) {
    const { status, json } = await get(`/api/messages?limit=${limit}`);
    expect([status, json().detail]).toEqual([400, "limit must be a whole number from 1 to 500."]);
  }
});

test("it is emptied on demand", async () => {
  await send(`${randomUUID()}@example.com`);
  expect((await get("/api/messages", {}, "DELETE")).status).toBe(200);
  expect((await get("/api/messages")).json()).toEqual({ messages: [] });
});

const own = () => testDatabase({ migrations: [join(import.meta.dirname, "..", "migrations")] });

test("what is older than a day goes, and what is more than a thousand", async () => {
  const database = await own();
  await database.query({
    text: `INSERT INTO mailbox (id, kind, recipient, subject, text, html, created_at)
           SELECT gen_random_uuid(), 'sms', 'x', '', n::text, '', now() - CASE WHEN n <= 5 THEN interval '25 hours' ELSE interval '1 s' * n END FROM generate_series(1, 1010) n`,
  });
  expect(await pruneMailbox(database)).toBe(10);
  expect((await database.query({ text: "SELECT FROM mailbox" })).rowCount).toBe(1_000);
  expect(await pruneMailbox(database)).toBe(0);
});

test("a storm of letters leaves a thousand as well, the newest", async () => {
  const database = await own();
  await database.query({
    text: `INSERT INTO mailbox (id, kind, recipient, subject, text, html, created_at)
           SELECT gen_random_uuid(), 'sms', 'x', '', n::text, '', now() - interval '1 ms' * n FROM generate_series(1, 21500) n`,
  });
  expect(await pruneMailbox(database)).toBe(20_500);
  const { rows } = await database.query({ text: "SELECT count(*)::int AS count, max(text::int) AS oldest FROM mailbox" });
  expect(rows).toEqual([{ count: 1_000, oldest: 1_000 }]);
});

test("a port that is taken is told where it was chosen; the usual one gives way", async () => {
  const blocker = createServer().listen(0, "127.0.0.1");
  await once(blocker, "listening");
  const { port: taken } = blocker.address() as { port: number };
  const database = await own();
  await expect(startMailboxServer(database, taken, testLog)).rejects.toThrow(
    `port ${taken} of 127.0.0.1 is taken; choose another by MAILBOX_PORT`,
  );
  const [first, second] = [await startMailboxServer(database, undefined, testLog), await startMailboxServer(database, undefined, testLog)];
  expect(first.url).not.toBe(second.url);
  for (const each of [first, second]) {
    expect(new URL(each.url).hostname).toBe("127.0.0.1");
    await each.close();
  }
  blocker.close();
});

test("what no address is, or no text, is answered and no fault of the mailbox's", async () => {
  const error = vi.spyOn(testLog, "error");
  const told: Record<string, number> = {};
  for (const path of ["//", "//[", "/api/messages?to=%00", "/messages/%00", "/api/messages/%ff", "/?limit="])
    told[path] = (await get(path)).status;
  expect(told).toEqual({
    "//": 404,
    "//[": 404,
    "/api/messages?to=%00": 200,
    "/messages/%00": 404,
    "/api/messages/%ff": 404,
    "/?limit=": 400,
  });
  expect(error).not.toHaveBeenCalled();
  error.mockRestore();
});

const opened = async (environment: Record<string, string>) => {
  const info = vi.spyOn(testLog, "info");
  await testServicesWith({ environment }, notificationsService);
  const told = info.mock.calls.filter(([, said]) => String(said).includes("they land in the mailbox"));
  info.mockRestore();
  return told.map(([fields, said]) => ({ url: (fields as unknown as { url: string }).url, said: String(said) }));
};

test("it is there for what nobody is set to send, says for what, and isn't there where all is sent", async () => {
  const [SMTP_URL, SMS_URL, MAILBOX_PORT] = ["smtp://127.0.0.1:1", "http://a:b@127.0.0.1:1", "0"];
  for (const [environment, what] of [
    [{ MAILBOX_PORT }, "letters and texts"],
    [{ MAILBOX_PORT, SMTP_URL }, "texts"],
    [{ MAILBOX_PORT, SMS_URL }, "letters"],
  ] as const) {
    const [told, ...more] = await opened(environment);
    expect([told?.said, more]).toEqual([`${what} are sent to nobody: they land in the mailbox`, []]);
    expect((await request(`${told?.url}/api/messages`)).statusCode).toBe(200);
  }
  expect(await opened({ MAILBOX_PORT: String(port), SMTP_URL, SMS_URL })).toEqual([]);
});

test("it is reached at 127.0.0.1, and at no other address of this machine", async () => {
  const others = ["127.0.0.2", ...Object.values(networkInterfaces()).flatMap((each) => each ?? [])]
    .map((each) => (typeof each === "string" ? each : each.address))
    .filter((address) => address !== "127.0.0.1" && !address.startsWith("fe80"));
  for (const address of others) {
    const host = address.includes(":") ? `[${address}]` : address;
    await expect(request(`http://${host}:${port}/`, { headers: { host: "127.0.0.1" } }), address).rejects.toThrow();
  }
});
