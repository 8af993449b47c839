import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { PolisChild } from "../support/polis-child.ts";
import { compare } from "./check.ts";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import { openShop } from "./shop.ts";
import { sharedSite } from "./site.ts";

/** Who runs together; what they ask of each other goes over gRPC. */
const PROCESSES = ["gateway,orders", "payments", "accounts"] as const;

type Part = { readonly services: string; readonly port: number; child: PolisChild };

/** The services in processes of their own, each of which is killed, frozen or told to stop. */
export const apart: Drill = {
  name: "apart",
  text: "gateway and orders, payments, and accounts as three processes that call each other; any of them killed, frozen or told to stop",
  async openStage(): Promise<Stage> {
    const site = await sharedSite();
    const shop = openShop();
    const ports = new Map<string, number>();
    for (const services of PROCESSES) ports.set(services, await freePort());
    const addresses = Object.fromEntries(
      [...ports].flatMap(([services, port]) =>
        services.split(",").map((name) => [`${name.toUpperCase()}_URL`, `127.0.0.1:${port}`] as const),
      ),
    );
    // No setting of its own: nobody calls a gateway.
    delete addresses.GATEWAY_URL;
    const begin = (services: string): PolisChild =>
      site.start(["--services", services, "--grpc-port", String(ports.get(services))], addresses);
    const parts = [...ports].map(([services, port]): Part => ({ services, port, child: begin(services) }));
    const gateway = parts[0] as Part;
    let url: string | undefined = (await gateway.child.ready).http;
    for (const { child } of parts) await child.ready;
    const said: string[] = [];

    return {
      folder: site.folder,
      shop,
      async round(random) {
        const victim = random.pick(parts);
        const how = random.pick(["SIGKILL", "SIGSTOP", "SIGTERM"] as const);
        const afterMs = random.between(50, 1_200);
        const awayMs = random.between(0, 2_500);
        const backMs = await underLoad(
          shop,
          () => (url === undefined ? [] : [url]),
          random,
          async () => {
            await sleep(afterMs);
            victim.child.signal(how);
            if (victim === gateway && how !== "SIGSTOP") url = undefined;
            await sleep(awayMs);
            const startedMs = performance.now();
            if (how === "SIGSTOP") victim.child.signal("SIGCONT");
            else {
              const end = await victim.child.ended;
              if (how === "SIGTERM" && end !== 0) throw new Error(`${victim.services} was told to stop and ended with ${end}`);
              said.push(victim.child.said());
              victim.child = begin(victim.services);
              await victim.child.ready;
            }
            url = (await gateway.child.ready).http;
            const lastedMs = performance.now() - startedMs;
            await sleep(random.between(200, 800));
            return lastedMs;
          },
        );
        const { http } = await gateway.child.ready;
        const { grpc } = await (parts.at(-1) as Part).child.ready;
        const findings = await compare(shop, site.sql, { http, grpc, secret: await site.secret() });
        return { broken: `${how} of ${victim.services} for ${awayMs} ms after ${afterMs} ms`, backMs, findings };
      },
      said: () => [...said.slice(-2), ...parts.map(({ child }) => child.said())].join("\n--- another process ---\n"),
      close: (options) => site.close(options),
    };
  },
};

/** One that is free now; each process must come back to the one under which the others know it. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port is free");
  return address.port;
}
