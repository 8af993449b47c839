import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { type ParsedMail, simpleParser } from "mailparser";
import { SMTPServer, type SMTPServerOptions } from "smtp-server";
import { afterAll } from "vitest";

export type CaughtLetter = { readonly from: string; readonly to: readonly string[]; readonly mail: ParsedMail; readonly raw: string };

/** A mail server that keeps what it takes. `refuse` says with which reply a recipient is refused. */
export async function catchLetters(
  options: SMTPServerOptions = {},
  refuse: (address: string) => { readonly code: number; readonly text: string } | undefined = () => undefined,
  port = 0,
) {
  const letters: CaughtLetter[] = [];
  const server = new SMTPServer({
    authOptional: true,
    closeTimeout: 100,
    disabledCommands: options.secure === true || options.key !== undefined ? [] : ["STARTTLS"],
    onRcptTo({ address }, _session, done) {
      const refusal = refuse(address);
      done(refusal && Object.assign(new Error(refusal.text), { responseCode: refusal.code }));
    },
    onData(stream, { envelope }, done) {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        const raw = Buffer.concat(chunks).toString();
        simpleParser(raw).then((mail) => {
          const from = envelope.mailFrom === false ? "" : envelope.mailFrom.address;
          letters.push({ from, to: envelope.rcptTo.map(({ address }) => address), mail, raw });
          done();
        }, done);
      });
    },
    ...options,
  });
  // Clients that go without a word are part of the tests.
  server.on("error", () => undefined);
  await new Promise<void>((listening) => server.listen(port, "127.0.0.1", listening));
  const close = (): Promise<void> => new Promise((closed) => server.close(() => closed()));
  afterAll(close);
  return { letters, close, port: (server.server.address() as AddressInfo).port };
}

export type CaughtText = { readonly url: string; readonly authorization: string; readonly form: Readonly<Record<string, string>> };

/** A provider of texts that speaks as Twilio does: 201, unless `answer` says otherwise. */
export async function catchTexts(
  answer: () => { readonly status: number; readonly body: string; readonly headers?: Record<string, string> } | undefined = () => undefined,
) {
  const texts: CaughtText[] = [];
  const server = createServer(async (request: IncomingMessage, response) => {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    texts.push({
      url: request.url ?? "",
      authorization: request.headers.authorization ?? "",
      form: Object.fromEntries(new URLSearchParams(body)),
    });
    const said = answer() ?? { status: 201, body: JSON.stringify({ sid: "SM1", status: "queued" }) };
    response.writeHead(said.status, { "content-type": "application/json", ...said.headers }).end(said.body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  return { texts, port: (server.address() as AddressInfo).port };
}
