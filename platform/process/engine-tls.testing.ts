import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { pino } from "pino";
import { onTestFinished } from "vitest";
import type { Log } from "#platform/telemetry/log.ts";

/** The same engine under an address, which its certificate doesn't name. */
export const at127 = (url: string): string => url.replace("@localhost:", "@127.0.0.1:");

type Line = { readonly msg: string; readonly err?: { readonly message: string } };

/** A log of warnings, and what was logged there; an error's message ends in those of its causes. */
export function loggedLines(): { readonly log: Log; readonly logged: readonly Line[] } {
  const logged: Line[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void logged.push(JSON.parse(line)) }) as unknown as Log;
  return { log, logged };
}

/** A server with this certificate that ends every connection, and for which hosts it was asked. */
export async function namesAsked({ certFile, keyFile }: { readonly certFile: string; readonly keyFile: string }) {
  const names: unknown[] = [];
  const server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (socket) => {
    names.push(socket.servername);
    socket.on("error", () => undefined).destroy();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return { port: (server.address() as AddressInfo).port, names };
}
