import { randomUUID } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test, vi } from "vitest";
import { Notification_Status, NotificationsService } from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { serviceCaller } from "#platform/access/caller.ts";
import { type TestServices, testServicesWith } from "#platform/process/services.testing.ts";
import { catchLetters, catchTexts } from "./catchers.testing.ts";
import { notificationsService } from "./service.ts";

const { SENT, FAILED, EXPIRED, QUEUED } = Notification_Status;

let refuse: ((address: string) => { code: number; text: string } | undefined) | undefined;
let answer: (() => { status: number; body: string; headers?: Record<string, string> } | undefined) | undefined;
const mail = await catchLetters({}, (address) => refuse?.(address));
const sms = await catchTexts(() => answer?.());
const services = await testServicesWith(
  {
    environment: {
      SMTP_URL: `smtp://127.0.0.1:${mail.port}`,
      SMTP_FROM: "Polis <no-reply@polis.example>",
      SMS_URL: `http://AC123:to%3Aken@127.0.0.1:${sms.port}`,
      SMS_FROM: "+15005550006",
    },
  },
  notificationsService,
);
await services.begin();
const database = services.database("notifications");
const clientOf = (of: TestServices) => of.client(NotificationsService, serviceCaller("auth"));
const client = clientOf(services);

const someEmail = () => `${randomUUID()}@example.com`;
const code = (to: { email: string } | { phone: string }, more: object = {}) => ({
  id: randomUUID(),
  template: "sign-in-code",
  locale: "en",
  to: "email" in to ? ({ case: "email", value: to.email } as const) : ({ case: "phone", value: to.phone } as const),
  params: { code: "123456", minutes: "15" },
  ...more,
});
const lettersTo = (address: string) => mail.letters.filter(({ to }) => to.includes(address));
const statusOf = async (id: string) => (await client.getNotification({ id })).status;
const ended = (id: string) => vi.waitFor(async () => expect(await statusOf(id)).not.toBe(QUEUED), 10_000);
const failure = (call: Promise<unknown>) =>
  call.then(
    () => "answered",
    ({ code: name }) => name as string,
  );
/** What waits for a further try is due now. */
const hurry = () => database.query({ text: "UPDATE tasks SET run_at = now() WHERE state = 'WAITING' AND type LIKE '%notifications%'" });
const taskOf = async (id: string) =>
  (
    await database.query<{ state: string; attempts: number; cause: string | null }>({
      text: "SELECT state, attempts, cause FROM tasks WHERE key = $1",
      values: [id],
    })
  ).rows[0];

test("a letter arrives as its template has it, from us, once however often it is asked for", async () => {
  const email = someEmail();
  const request = code({ email });
  await Promise.all(Array.from({ length: 5 }, () => client.send(request)));
  await ended(request.id);
  await client.send(request);
  await services.quiet();
  const [letter, ...others] = lettersTo(email);
  expect(others).toEqual([]);
  expect(letter?.mail).toMatchObject({ subject: "Your code to sign in", messageId: `<${request.id}@polis.example>` });
  expect(letter?.mail.from?.text).toBe('"Polis" <no-reply@polis.example>');
  expect(letter?.mail.text).toContain("\n\n123456\n\n");
  expect(letter?.mail.html).toContain("123456");
  expect(await statusOf(request.id)).toBe(SENT);
});

test("a letter is in the language that is asked for, English where there is no other", async () => {
  const subjects: Record<string, string | undefined> = {};
  for (const locale of ["en-GB", "ru", "ru-RU", "de", ""]) {
    const email = someEmail();
    const request = code({ email }, { locale });
    await client.send(request);
    await ended(request.id);
    subjects[locale] = lettersTo(email)[0]?.mail.subject;
  }
  const [english, russian] = ["Your code to sign in", "Код для входа"];
  expect(subjects).toEqual({ "en-GB": english, ru: russian, "ru-RU": russian, de: english, "": english });
});

test("what fills a template adds no header, no line and no markup", async () => {
  const email = someEmail();
  const device = "Firefox\r\nBcc: thief@example.com\r\n\r\n<script>alert(1)</script> & \u2028 more";
  const request = code({ email }, { template: "password-changed", params: { time: "now", device } });
  await client.send(request);
  await ended(request.id);
  const [letter] = lettersTo(email);
  expect(letter?.to).toEqual([email]);
  expect(letter?.mail.headers.has("bcc")).toBe(false);
  expect(letter?.mail.html).not.toContain("<script>");
  expect(letter?.mail.html).toContain("&lt;script&gt;");
  expect(letter?.mail.text).toContain("Firefox Bcc: thief@example.com <script>alert(1)</script> &");
});

test("a text goes to the provider as Twilio's API wants it", async () => {
  const phone = "+491701234567";
  const request = code({ phone });
  await client.send(request);
  await ended(request.id);
  const sent = sms.texts.filter(({ form }) => form.To === phone);
  expect(sent).toEqual([
    {
      url: "/2010-04-01/Accounts/AC123/Messages.json",
      authorization: `Basic ${Buffer.from("AC123:to:ken").toString("base64")}`,
      form: { To: phone, From: "+15005550006", Body: "Your code to sign in: 123456. Good for 15 minutes. Tell it to nobody." },
    },
  ]);
});

test("another content under an id is refused, as are templates that aren't there and parameters that they don't have", async () => {
  const request = code({ email: someEmail() });
  await client.send(request);
  expect(await failure(client.send({ ...request, params: { code: "654321", minutes: "15" } }))).toBe("id_taken");
  expect(await failure(client.send({ ...request, id: randomUUID(), template: "nosuch" }))).toBe("unknown_template");
  for (const params of [{}, { code: "1" }, { code: "1", minutes: "2", more: "3" }, { ...request.params, toString: "x" }])
    expect(await failure(client.send({ ...request, id: randomUUID(), params }))).toBe("wrong_params");
  expect(await failure(services.client(NotificationsService, serviceCaller("orders")).send(request))).toBe("forbidden");
});

test("an address that brings a header along, and a parameter whose name has no end, are refused before anything is written", async () => {
  for (const email of [
    "a@example.com\r\nBcc: thief@example.com",
    "a@example.com, thief@example.com",
    "Ann <a@example.com>",
    "a@example.com\n",
  ]) {
    const request = code({ email });
    expect([email, await failure(client.send(request))]).toEqual([email, "validation_failed"]);
    expect(await failure(client.getNotification({ id: request.id }))).toBe("not_found");
  }
  const request = code({ email: someEmail() });
  const long = { ...request.params, ["x".repeat(51)]: "1" };
  expect(await failure(client.send({ ...request, params: long }))).toBe("validation_failed");
});

test("who letters are from, without a server that sends them, stops the start and says what is missing", async () => {
  await expect(
    testServicesWith({ environment: { SMTP_FROM: "Polis <a@polis.example>", MAILBOX_PORT: "0" } }, notificationsService),
  ).rejects.toThrow("SMTP_FROM needs SMTP_URL, which is not set");
});

test("what it was filled with is erased once it has ended", async () => {
  const request = code({ email: someEmail() });
  await client.send(request);
  await ended(request.id);
  const { rows } = await database.query<{ all: string }>({
    text: "SELECT n::text AS all FROM notifications n WHERE id = $1",
    values: [request.id],
  });
  expect(rows[0]?.all).not.toContain("123456");
});

test("who the mail server never will take has failed, with its reason, and isn't tried again", async () => {
  refuse = () => ({ code: 550, text: "no such user here" });
  const request = code({ email: someEmail() });
  await client.send(request);
  await ended(request.id);
  refuse = undefined;
  expect(await client.getNotification({ id: request.id })).toMatchObject({
    status: FAILED,
    reason: expect.stringContaining("no such user here"),
  });
  expect(await taskOf(request.id)).toMatchObject({ state: "DONE", attempts: 1 });
});

test("who it may take later is tried again until it does", async () => {
  refuse = () => ({ code: 451, text: "greylisted" });
  const email = someEmail();
  const request = code({ email });
  await client.send(request);
  await vi.waitFor(
    async () => expect(await taskOf(request.id)).toMatchObject({ attempts: 1, cause: expect.stringContaining("greylisted") }),
    5_000,
  );
  expect(await statusOf(request.id)).toBe(QUEUED);
  refuse = undefined;
  await hurry();
  await ended(request.id);
  expect(lettersTo(email)).toHaveLength(1);
});

test("a server that can't be reached is tried again, and after the last try the letter has failed", async () => {
  const away = await testServicesWith(
    { environment: { SMTP_URL: "smtp://user:hidden@127.0.0.1:1", MAILBOX_PORT: "0" } },
    notificationsService,
  );
  await away.begin();
  const request = code({ email: someEmail() });
  await clientOf(away).send(request);
  const own = away.database("notifications");
  const cause = async () =>
    (await own.query<{ cause: string }>({ text: "SELECT cause FROM tasks WHERE key = $1", values: [request.id] })).rows[0]?.cause;
  await vi.waitFor(async () => expect(await cause()).toContain("ECONNREFUSED"), 10_000);
  expect(await cause()).not.toContain("hidden");
  await own.query({ text: "UPDATE tasks SET attempts = 49, run_at = now() WHERE key = $1", values: [request.id] });
  await vi.waitFor(async () => expect((await clientOf(away).getNotification({ id: request.id })).status).toBe(FAILED), 10_000);
});

test.each([
  [400, FAILED],
  [429, QUEUED],
  [500, QUEUED],
  [401, QUEUED],
])("a provider of texts that answers %i leaves the text %i", async (status, wanted) => {
  answer = () => ({ status, body: JSON.stringify({ message: "because" }) });
  const request = code({ phone: "+491709999999" });
  await client.send(request);
  await vi.waitFor(async () => {
    const task = await taskOf(request.id);
    expect(task?.attempts).toBe(1);
    expect(task?.state === "DONE" || task?.cause !== null).toBe(true);
  }, 5_000);
  answer = undefined;
  expect(await statusOf(request.id)).toBe(wanted);
  const told = await client.getNotification({ id: request.id });
  if (wanted === FAILED) expect(told.reason).toContain("400 because");
});

test("a provider that sends on to elsewhere, or says more than fits, isn't followed", async () => {
  for (const said of [
    { status: 307, body: "", headers: { location: "http://127.0.0.1:1/" } },
    { status: 500, body: "x".repeat(1_000_000) },
  ]) {
    answer = () => said;
    const request = code({ phone: "+491708888888" });
    await client.send(request);
    await vi.waitFor(async () => expect((await taskOf(request.id))?.cause).toBeTruthy(), 5_000);
    expect((await taskOf(request.id))?.cause?.length).toBeLessThan(2_500);
  }
  answer = undefined;
});

test("what is over isn't sent any more", async () => {
  const email = someEmail();
  const request = code({ email }, { expiresAt: timestampFromMs(Date.now() - 1) });
  await client.send(request);
  await ended(request.id);
  expect(await statusOf(request.id)).toBe(EXPIRED);
  expect(lettersTo(email)).toEqual([]);
});

test("two processes at once send each letter once", async () => {
  const copy = await services.copy();
  await copy.begin();
  const emails = Array.from({ length: 20 }, someEmail);
  const requests = emails.map((email) => code({ email }));
  await Promise.all(requests.map((request, i) => clientOf(i % 2 === 0 ? services : copy).send(request)));
  await Promise.all(requests.map(({ id }) => ended(id)));
  expect(emails.map((email) => lettersTo(email).length)).toEqual(emails.map(() => 1));
});
