import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { isUuid } from "#platform/ids.ts";
import type { Sql } from "#platform/postgres/database.ts";
import { storableText } from "#platform/postgres/storable-text.ts";
import { listenAt } from "#platform/process/listen.ts";
import type { Log } from "#platform/telemetry/log.ts";
import { emptyMailbox, findInMailbox, listMailbox } from "./mailbox.ts";
import { letterPage, listPage, PAGE_POLICY } from "./mailbox-page.ts";

/** Where Mailpit and MailHog have theirs. */
const PORT_DEFAULT = 8025;
const HOST = "127.0.0.1";
const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 500;
const RECIPIENT_LENGTH_MAX = 255;

export type MailboxServer = { readonly url: string; close(): Promise<void> };

type Answer = { readonly status: number; readonly type: string; readonly body: string };

const json = (value: unknown, status = 200): Answer => ({ status, type: "application/json; charset=utf-8", body: JSON.stringify(value) });
const page = (body: string, status = 200): Answer => ({ status, type: "text/html; charset=utf-8", body });
const problem = (status: number, detail: string): Answer => json({ status, detail }, status);

/**
 * Shows the mailbox to who sits at this machine, and to nobody else: it listens on the loopback address alone, whatever else the process
 * listens on, and answers neither to another name (a page elsewhere may have a name of its own point here) nor to other sites' pages.
 *
 * @param port undefined: 8025, and any that is free where that is taken
 */
export async function startMailboxServer(sql: Sql, port: number | undefined, log: Log): Promise<MailboxServer> {
  const server = createServer((request, response) => void respond(sql, request, response, log));
  server.requestTimeout = 10_000;
  server.maxConnections = 64;
  try {
    await listenAt({ host: HOST, port: port ?? PORT_DEFAULT, portSettings: "MAILBOX_PORT" }, () => listen(server, port ?? PORT_DEFAULT));
  } catch (error) {
    if (port !== undefined) throw error;
    await listen(server, 0);
  }
  const url = `http://${HOST}:${(server.address() as AddressInfo).port}`;
  return {
    url,
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}

const listen = (server: Server, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, HOST, () => {
      server.off("error", reject);
      resolve();
    });
  });

async function respond(sql: Sql, request: IncomingMessage, response: ServerResponse, log: Log): Promise<void> {
  let answer: Answer;
  try {
    answer = isFromHere(request) ? await answerTo(sql, request) : problem(403, "The mailbox is for this machine alone.");
  } catch (error) {
    log.error({ err: error }, "the mailbox can't be read");
    answer = problem(500, "The mailbox can't be read.");
  }
  const { status, type, body } = answer;
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
  });
  response.end(request.method === "HEAD" ? "" : body);
}

function isFromHere({ headers }: IncomingMessage): boolean {
  const host = (headers.host ?? "").replace(/:\d+$/, "");
  const site = headers["sec-fetch-site"];
  const isOwnSite = site === undefined || site === "none" || site === "same-origin";
  return ["127.0.0.1", "localhost", "[::1]"].includes(host) && isOwnSite && headers.origin === undefined;
}

/** What no URL is. */
const NOWHERE = new URL("http://mailbox/nowhere");

async function answerTo(sql: Sql, { method = "GET", url = "/" }: IncomingMessage): Promise<Answer> {
  const { pathname, searchParams } = URL.parse(url, "http://mailbox") ?? NOWHERE;
  const [, id] = /^\/(?:api\/)?messages\/([^/]+)$/.exec(pathname) ?? [];
  const isRead = method === "GET" || method === "HEAD";
  if (pathname === "/api/messages" && method === "DELETE") {
    await emptyMailbox(sql);
    return json({});
  }
  if (!isRead) return problem(405, "The mailbox is read, and emptied by DELETE /api/messages.");
  if (pathname === "/" || pathname === "/api/messages") {
    const limit = Number(searchParams.get("limit") ?? LIMIT_DEFAULT);
    if (!Number.isInteger(limit) || limit < 1 || limit > LIMIT_MAX)
      return problem(400, `limit must be a whole number from 1 to ${LIMIT_MAX}.`);
    const to = searchParams.get("to");
    const messages = await listMailbox(sql, { to: to === null ? undefined : storableText(to, RECIPIENT_LENGTH_MAX), limit });
    return pathname === "/" ? page(listPage(messages)) : json({ messages });
  }
  const found = id !== undefined && isUuid(id) ? await findInMailbox(sql, id) : undefined;
  if (found === undefined) return problem(404, "There is no such letter.");
  return pathname.startsWith("/api/") ? json(found) : page(letterPage(found));
}
