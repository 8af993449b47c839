import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import type { SMTPServerOptions } from "smtp-server";
import { afterAll, expect, test, vi } from "vitest";
import { authority, certificateFolder } from "#platform/config/certificates.testing.ts";
import type { SmtpUrl } from "#platform/config/setting-types.ts";
import { catchLetters } from "../catchers.testing.ts";
import type { Carried, Message } from "./carrier.ts";
import { smtpCarrier } from "./smtp.ts";

const ours = authority(certificateFolder(), "ours");
const { certFile, keyFile } = ours.sign("127.0.0.1");
const ca = readFileSync(ours.caFile, "utf8");
const encrypted = { key: readFileSync(keyFile), cert: readFileSync(certFile) };
const user = { name: "polis", password: "hunter2" };

/** A carrier to a server of this machine; it ends with the file. */
function carrierTo(port: number, url: Partial<SmtpUrl> = {}, more: Partial<Parameters<typeof smtpCarrier>[0]> = {}) {
  const from = { name: "Polis", address: "no-reply@polis.example" };
  const carrier = smtpCarrier({
    url: { host: "127.0.0.1", port, security: "none", user: undefined, ...url },
    from,
    ca: undefined,
    ...more,
  });
  afterAll(() => carrier.close());
  return (letter: Partial<Message> = {}, signal = new AbortController().signal) =>
    carrier.carry(
      { id: randomUUID(), to: `${randomUUID()}@example.com`, subject: "A letter", text: "text", html: "<p>html", ...letter },
      signal,
    );
}

const failure = (call: Promise<Carried>): Promise<string> =>
  call.then(
    ({ kind }) => kind,
    (error) => String(error),
  );
/** What a server says at one step, instead of what it would say. */
const says = (responseCode: number, text: string) => Object.assign(new Error(text), { responseCode });

test("a server is spoken to in TLS, from the start or by STARTTLS, if its certificate is of an authority that is known", async () => {
  for (const [security, options] of [
    ["tls", { secure: true, ...encrypted }],
    ["starttls", { ...encrypted }],
  ] as const) {
    const seen: boolean[] = [];
    const onAuth: SMTPServerOptions["onAuth"] = ({ username, password }, { secure }, done) => {
      seen.push(secure && username === user.name && password === user.password);
      done(null, { user: username });
    };
    const server = await catchLetters({ ...options, onAuth });
    expect(await carrierTo(server.port, { security, user }, { ca })()).toEqual({ kind: "taken" });
    expect([security, seen, server.letters.length]).toEqual([security, [true], 1]);
    const said = await failure(carrierTo(server.port, { security, user })());
    expect(said).toMatch(/self.signed|unable to verify/i);
    expect(said).not.toContain(user.password);
    expect([security, seen, server.letters.length]).toEqual([security, [true], 1]);
  }
});

test("a server elsewhere that has no STARTTLS gets neither a password nor a letter", async () => {
  let asked = 0;
  const server = await catchLetters({
    onAuth: (_, __, done) => {
      asked += 1;
      done(null, { user: "anyone" });
    },
  });
  expect(await failure(carrierTo(server.port, { security: "starttls", user })())).toMatch(/STARTTLS/);
  expect([asked, server.letters.length]).toEqual([0, 0]);
});

test("a server of this machine that offers STARTTLS, with a certificate of its own, gets letters without it", async () => {
  const server = await catchLetters(encrypted);
  expect(await carrierTo(server.port)()).toEqual({ kind: "taken" });
  expect(server.letters).toHaveLength(1);
});

test.each([
  ["a user whom it doesn't know", { onAuth: (_, __, done) => done(says(535, "who are you")) }, "who are you"],
  ["us, at the greeting", { onConnect: (_, done) => done(says(554, "your address is blocked")) }, "your address is blocked"],
  ["who the letter is from", { onMailFrom: (_, __, done) => done(says(550, "not your domain")) }, "not your domain"],
  ["a recipient for now", { onRcptTo: (_, __, done) => done(says(450, "mailbox busy")) }, "mailbox busy"],
  ["a recipient, for want of a user", { onRcptTo: (_, __, done) => done(says(530, "log in first")) }, "log in first"],
] satisfies [string, SMTPServerOptions, string][])("a server that refuses %s may take it later", async (_, options, told) => {
  const server = await catchLetters({ allowInsecureAuth: true, ...options });
  expect(await failure(carrierTo(server.port, { user: "onAuth" in options ? user : undefined })())).toContain(told);
});

test.each([
  ["its recipient", { onRcptTo: (_, __, done) => done(says(550, "no such user")) }, "no such user"],
  [
    "its content",
    {
      onData: (stream, _, done) => {
        stream.resume();
        stream.on("end", () => done(says(554, "looks like spam")));
      },
    },
    "looks like spam",
  ],
] satisfies [string, SMTPServerOptions, string][])("a letter that is refused for %s is never taken", async (_, options, told) => {
  const server = await catchLetters(options);
  expect(await carrierTo(server.port)()).toEqual({ kind: "refused", reason: expect.stringContaining(told) });
});

test("an address in odd letters gets its letter, and nobody else", async () => {
  const server = await catchLetters();
  const carry = carrierTo(server.port);
  const odd = ["o'neil+shop@example.com", "a!#$%&'*/=?^_`{|}~-b.c@mail.example", "UPPER.Case@Example.COM", "-@a-b.example"];
  for (const to of odd) expect(await carry({ to })).toEqual({ kind: "taken" });
  const lowerDomain = (address = "") => address.replace(/@.*/, (domain) => domain.toLowerCase());
  expect(server.letters.map(({ to }) => to.map(lowerDomain))).toEqual(odd.map((to) => [lowerDomain(to)]));
});

test("a letter is from one, whatever is in its name", async () => {
  const server = await catchLetters();
  const from = { name: "Полис, Inc. (shop); news: all", address: "no-reply@polis.example" };
  await carrierTo(server.port, {}, { from })({ id: "0190a4e4-0000-7000-8000-000000000001" });
  const [letter] = server.letters;
  expect(letter?.from).toBe(from.address);
  expect(letter?.mail.from?.value).toEqual([from]);
  expect(letter?.mail.messageId).toBe("<0190a4e4-0000-7000-8000-000000000001@polis.example>");
});

/** A server that greets, and then never comes to an end of what it says. */
async function dribblingServer() {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.resume().write("220 here\r\n");
    const timer = setInterval(() => socket.write("250-and so on\r\n"), 20);
    socket.on("close", () => clearInterval(timer));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const connections = () => [...sockets].filter(({ destroyed }) => !destroyed).length;
  return { port: (server.address() as { port: number }).port, connections };
}

test("a letter that takes too long, or that whoever waits for it gives up, leaves no connection behind", async () => {
  const { port, connections } = await dribblingServer();
  const carry = carrierTo(port, {}, { limitMs: 300 });
  // More than have a connection at a time.
  const said = await Promise.all(Array.from({ length: 8 }, () => failure(carry())));
  expect(said).toEqual(said.map(() => "Error: the mail server takes longer than 300 ms"));
  await vi.waitFor(() => expect(connections()).toBe(0));
  const giving = new AbortController();
  const carried = failure(carrierTo(port)({}, giving.signal));
  await vi.waitFor(() => expect(connections()).toBe(1));
  giving.abort(new Error("the process stops"));
  expect(await carried).toBe("Error: the process stops");
  await vi.waitFor(() => expect(connections()).toBe(0));
});
