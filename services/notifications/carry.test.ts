import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { afterAll, expect, test, vi } from "vitest";
import { Notification_Status, NotificationsService } from "#contracts/polis/notifications/v1/notifications_pb.ts";
import { serviceCaller } from "#platform/access/caller.ts";
import { authority, certificateFolder } from "#platform/config/certificates.testing.ts";
import { freePort } from "#platform/process/free-port.testing.ts";
import { testServicesWith } from "#platform/process/services.testing.ts";
import { catchLetters, catchTexts } from "./catchers.testing.ts";
import { notificationsService } from "./service.ts";

const { SENT, FAILED, QUEUED } = Notification_Status;

async function sending(environment: Record<string, string>) {
  const services = await testServicesWith({ environment: { MAILBOX_PORT: "0", ...environment } }, notificationsService);
  await services.begin();
  const client = services.client(NotificationsService, serviceCaller("auth"));
  const database = services.database("notifications");
  return {
    async send(to: { case: "email" | "phone"; value: string }): Promise<string> {
      const id = randomUUID();
      await client.send({ id, template: "account-deleted", to });
      return id;
    },
    told: (id: string) => client.getNotification({ id }),
    async taskOf(id: string) {
      const text =
        "SELECT state, attempts, postponed, coalesce(cause, '') AS cause, coalesce(result, '') AS result FROM tasks WHERE key = $1";
      type Row = { state: string; attempts: number; postponed: number; cause: string; result: string };
      return (await database.query<Row>({ text, values: [id] })).rows[0];
    },
    /** It is due now, as its try number `attempts` + 1. */
    hurry: (id: string, attempts?: number) =>
      database.query({
        text: "UPDATE tasks SET run_at = now(), attempts = coalesce($2, attempts) WHERE key = $1 AND state = 'WAITING'",
        values: [id, attempts],
      }),
  };
}
const someEmail = () => ({ case: "email" as const, value: `${randomUUID()}@example.com` });

// A server that never greets is given up after ten seconds: the other tests go on meanwhile.
const sockets = new Set<Socket>();
const muteServer = createServer((socket) => sockets.add(socket)).listen(0, "127.0.0.1");
await once(muteServer, "listening");
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  muteServer.close();
});
const mute = await sending({ SMTP_URL: `smtp://127.0.0.1:${(muteServer.address() as { port: number }).port}` });
const muteId = await mute.send(someEmail());

test("a mail server that is away gets the letter when it is back", async () => {
  const port = await freePort();
  const { send, told, taskOf, hurry } = await sending({ SMTP_URL: `smtp://127.0.0.1:${port}` });
  const to = someEmail();
  const id = await send(to);
  await vi.waitFor(async () => expect((await taskOf(id))?.cause).toContain("ECONNREFUSED"), 5_000);
  expect((await told(id)).status).toBe(QUEUED);
  const server = await catchLetters({}, undefined, port);
  await hurry(id);
  await vi.waitFor(async () => expect((await told(id)).status).toBe(SENT), 5_000);
  expect(server.letters.map((letter) => letter.to)).toEqual([[to.value]]);
});

test("why it isn't taken is told without the recipient, and in few words that can be kept", async () => {
  let code = 451;
  const mail = await catchLetters({}, (address) => ({ code, text: `<${address.toUpperCase()}> isn't here${" so it isn't".repeat(200)}` }));
  const texts = await catchTexts(() => ({ status: 400, body: JSON.stringify({ message: "+15005550009 is \0 no number" }) }));
  const { send, told, taskOf, hurry } = await sending({
    SMTP_URL: `smtp://127.0.0.1:${mail.port}`,
    SMS_URL: `http://AC1:token@127.0.0.1:${texts.port}`,
  });
  const to = someEmail();
  const [letter, text] = [await send(to), await send({ case: "phone", value: "+15005550009" })];
  await vi.waitFor(async () => expect((await taskOf(letter))?.cause).toContain("<***> isn't here"), 5_000);
  code = 551;
  await hurry(letter);
  for (const [id, said] of [
    [letter, "<***> isn't here so it isn't so"],
    [text, "*** is \uFFFD no number"],
  ] as const) {
    await vi.waitFor(async () => expect((await told(id)).status).toBe(FAILED), 5_000);
    const { reason } = await told(id);
    expect(reason).toContain(said);
    expect(reason?.length).toBeLessThanOrEqual(500);
    expect(Object.values((await taskOf(id)) ?? {}).join(" ")).not.toMatch(new RegExp(`${to.value}|5005550009`, "i"));
  }
});

test("a mail server with a certificate of a private authority is set by SMTP_CA_FILE, and a file that holds none is told", async () => {
  const ours = authority(certificateFolder(), "ours");
  const { certFile, keyFile } = ours.sign("127.0.0.1");
  const server = await catchLetters({ secure: true, cert: readFileSync(certFile), key: readFileSync(keyFile) });
  const SMTP_URL = `smtps://127.0.0.1:${server.port}`;
  const { send, told } = await sending({ SMTP_URL, SMTP_CA_FILE: ours.caFile });
  const id = await send(someEmail());
  await vi.waitFor(async () => expect((await told(id)).status).toBe(SENT), 5_000);
  expect(server.letters).toHaveLength(1);
  await expect(sending({ SMTP_URL, SMTP_CA_FILE: keyFile })).rejects.toThrow("SMTP_CA_FILE: the file holds no certificate in PEM");
});

test("a try of a server that says nothing counts as one, though it ends as a database's silence does", async () => {
  await vi.waitFor(async () => expect((await mute.taskOf(muteId))?.cause).toMatch(/greeting/i), 15_000);
  expect(await mute.taskOf(muteId)).toMatchObject({ attempts: expect.toSatisfy((tries: number) => tries > 0), postponed: 0 });
});
