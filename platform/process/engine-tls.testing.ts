import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { onTestFinished } from "vitest";

/** The same engine under an address, which its certificate doesn't name. */
export const at127 = (url: string): string => url.replace("@localhost:", "@127.0.0.1:");

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
