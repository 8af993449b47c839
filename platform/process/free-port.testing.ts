import { once } from "node:events";
import { createServer } from "node:net";

/** A port of this machine that nobody listens on now: for a process that others must find before it is there. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port is free");
  return address.port;
}
