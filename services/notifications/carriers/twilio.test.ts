import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test, vi } from "vitest";
import { freePort } from "#platform/process/free-port.testing.ts";
import { twilioCarrier } from "./twilio.ts";

/** A provider of texts that answers so, and how a text fares with it. */
async function provider(answer: RequestListener) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port };
}
function carryTo(port: number, signal = new AbortController().signal) {
  const carrier = twilioCarrier({ url: { base: `http://127.0.0.1:${port}`, account: "AC1", token: "hunter2" }, from: "Polis" });
  return carrier.carry({ id: randomUUID(), to: "+15005550001", subject: "", text: "A text", html: "" }, signal);
}

test("a text that was taken isn't sent again because the answer breaks off", async () => {
  const { port } = await provider((_, response) => {
    response.writeHead(201, { "content-type": "application/json", "content-length": 1_000 });
    response.write('{"sid": "SM1"', () => response.destroy());
  });
  expect(await carryTo(port)).toEqual({ kind: "taken" });
});

test("why a provider isn't reached is told, without the token", async () => {
  const said = String(await carryTo(await freePort()).catch((error: unknown) => error));
  expect(said).toMatch(/provider of texts.*ECONNREFUSED/);
  expect(said).not.toContain("hunter2");
});

test("a token isn't carried to where a provider sends on", async () => {
  const asked: string[] = [];
  const elsewhere = await provider((request, response) => {
    asked.push(request.url ?? "");
    response.writeHead(201).end("{}");
  });
  for (const status of [301, 302, 303, 307, 308]) {
    const { port } = await provider((_, response) => {
      response.writeHead(status, { location: `http://127.0.0.1:${elsewhere.port}/` }).end();
    });
    await expect(carryTo(port)).rejects.toThrow("provider of texts");
  }
  expect(asked).toEqual([]);
});

test("an answer without an end is read no further than need be", async () => {
  let [closed, written] = [0, 0];
  for (const status of [201, 400]) {
    const { port } = await provider((_, response) => {
      response.writeHead(status);
      const fill = () => {
        for (let hasRoom = !response.destroyed; hasRoom; written += 16_384) hasRoom = response.write("x".repeat(16_384));
      };
      response.on("drain", fill);
      fill();
      response.on("close", () => {
        closed += 1;
      });
    });
    expect(await carryTo(port)).toMatchObject({ kind: status === 201 ? "taken" : "refused" });
  }
  await vi.waitFor(() => expect(closed).toBe(2));
  // What sockets hold on the way is among it.
  expect(written).toBeLessThan(32 * 1024 * 1024);
});

test("a provider that doesn't answer is given up with the task", async () => {
  const { port } = await provider(() => undefined);
  await expect(carryTo(port, AbortSignal.timeout(100))).rejects.toThrow();
});
