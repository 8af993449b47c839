// A process of the drill of the key-value store: uses it as it is told to over HTTP. What it can be told is in drill-kv.ts.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { CallError } from "#platform/rpc/call-error.ts";
import { openKvProcess } from "./drill-kv.ts";

const { operations, close } = await openKvProcess(process.env);
process.once("disconnect", () => process.exit(0));
const server = createServer(async (request, response) => {
  // One that stops is asked nothing more.
  response.shouldKeepAlive = server.listening;
  try {
    const [operation, ...args] = (await json(request)) as [keyof typeof operations, ...never[]];
    const ask = operations[operation] as (...args: never[]) => Promise<unknown>;
    response.end(JSON.stringify(await ask(...args)));
  } catch (error) {
    response.statusCode = error instanceof CallError && error.status === "UNAVAILABLE" ? 503 : 500;
    response.end(String(error instanceof Error ? error.stack : error));
  }
}).listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  process.stdout.write(`${JSON.stringify({ msg: "ready", http: `http://127.0.0.1:${port}` })}\n`);
});
process.once("SIGTERM", () => server.close(() => void close().then(() => process.exit(0))));
