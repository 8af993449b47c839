import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../support/free-port.ts";
import type { PolisChild } from "../support/polis-child.ts";
import { compare, type Findings, SERVICES } from "./check.ts";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import { type Addresses, openShop } from "./shop.ts";
import { type Site, sharedSite } from "./site.ts";

/** Who runs together; what they ask of each other goes over gRPC. */
const PROCESSES = ["gateway,orders", "payments", "accounts"];

/** A process, the port of its gRPC, and where it answers REST while it runs. */
export type Part = { readonly services: string; readonly port: number; child: PolisChild; http: string | undefined };

/** The services in processes of their own, each of which is killed, frozen or told to stop. */
export const apart: Drill = {
  name: "apart",
  text: "gateway and orders, payments, and accounts as three processes that call each other; any of them killed, frozen or told to stop",
  async openStage(): Promise<Stage> {
    const apart = await openApart(await sharedSite(), PROCESSES);
    return {
      ...apart.stage,
      async round(random) {
        const victim = random.pick(apart.parts);
        const how = random.pick(["SIGKILL", "SIGSTOP", "SIGTERM"] as const);
        const afterMs = random.between(50, 1_200);
        const awayMs = random.between(0, 2_500);
        const backMs = await underLoad(apart.stage.shop, apart.addresses, random, async () => {
          await sleep(afterMs);
          victim.child.signal(how);
          if (how !== "SIGSTOP") apart.isGone(victim);
          await sleep(awayMs);
          const startedMs = performance.now();
          if (how === "SIGSTOP") victim.child.signal("SIGCONT");
          else {
            const end = await victim.child.ended;
            if (how === "SIGTERM" && end !== 0) throw new Error(`${victim.services} was told to stop and ended with ${end}`);
            await apart.bringBack(victim);
          }
          const lastedMs = performance.now() - startedMs;
          await sleep(random.between(200, 800));
          return lastedMs;
        });
        return { broken: `${how} of ${victim.services} for ${awayMs} ms after ${afterMs} ms`, backMs, findings: await apart.compare() };
      },
    };
  },
};

/** Accounts is away for minutes: orders are taken all the while, none becomes a dead letter, and all end when it is back. */
export const away: Drill = {
  name: "away",
  text: "the same three processes; accounts is killed and stays away for two to three minutes (only by its name)",
  onlyByName: true,
  async openStage(): Promise<Stage> {
    const apart = await openApart(await sharedSite(), PROCESSES);
    return {
      ...apart.stage,
      async round(random) {
        const { shop } = apart.stage;
        const awayMs = random.between(120_000, 180_000);
        await underLoad(shop, apart.addresses, random, () => sleep(1_000));
        const accounts = apart.parts.find(({ services }) => services === "accounts") as Part;
        accounts.child.signal("SIGKILL");
        await accounts.child.ended;
        await underLoad(shop, apart.addresses, random, () => sleep(awayMs), { workers: 1, ordersAlone: true });
        const startedMs = performance.now();
        await apart.bringBack(accounts);
        const findings = await apart.compare();
        return { broken: `accounts away for ${awayMs} ms`, backMs: performance.now() - startedMs, findings };
      },
    };
  },
};

export type Apart = {
  /** All of a stage but its rounds. */
  readonly stage: Omit<Stage, "round">;
  readonly parts: readonly Part[];
  readonly addresses: Addresses;
  /** It was ended; nobody asks it any more. */
  isGone(part: Part): void;
  bringBack(part: Part): Promise<void>;
  compare(): Promise<Findings>;
};

/** Starts processes of these services each, several of the same where they are named several times; accounts is in the last. */
export async function openApart(site: Site, processes: readonly string[]): Promise<Apart> {
  const shop = openShop();
  // Each process must come back to the port under which the others know it.
  const places = await Promise.all(processes.map(async (services) => ({ services, port: await freePort() })));
  const settings: Record<string, string> = {};
  for (const name of SERVICES) {
    const addresses = places.filter(({ services }) => services.split(",").includes(name)).map(({ port }) => `127.0.0.1:${port}`);
    settings[`${name.toUpperCase()}_URL`] = addresses.join(",");
  }
  const begin = ({ services, port }: Pick<Part, "services" | "port">): PolisChild =>
    site.start(["--services", services, "--grpc-port", String(port)], settings);
  const parts = places.map((place): Part => ({ ...place, child: begin(place), http: undefined }));
  for (const part of parts) part.http = (await part.child.ready).http;
  const gateways = parts.filter(({ services }) => services.split(",").includes("gateway"));
  const addresses = (): string[] => gateways.flatMap(({ http }) => http ?? []);
  const said: string[] = [];
  return {
    parts,
    addresses,
    isGone(part) {
      part.http = undefined;
    },
    async bringBack(part) {
      said.push(part.child.said());
      part.child = begin(part);
      part.http = (await part.child.ready).http;
    },
    async compare() {
      const { grpc } = await (parts.at(-1) as Part).child.ready;
      return compare(shop, site.books, { http: addresses()[0] ?? "", grpc, secret: await site.secret() });
    },
    stage: {
      folder: site.folder,
      shop,
      said: () => [...said.slice(-2), ...parts.map(({ child }) => child.said())].join("\n--- another process ---\n"),
      close: (options) => site.close(options),
    },
  };
}
