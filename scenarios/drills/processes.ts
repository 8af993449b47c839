import { freePort } from "#platform/process/free-port.testing.ts";
import { orderPayments } from "../../systems/order-payments.ts";
import type { PolisChild } from "../support/polis-child.ts";
import { compare, type Findings } from "./check.ts";
import type { Stage } from "./drill.ts";
import { type Addresses, countsOf, openShop, type Shop } from "./shop.ts";
import type { Site } from "./site.ts";

/** A process of some services, the port of its gRPC, and where it answers REST while it runs. */
export type PolisProcess = { readonly services: readonly string[]; readonly port: number; child: PolisChild; http: string | undefined };

/** Processes that call each other. */
export type Processes = {
  /** All of a stage but its rounds. */
  readonly stage: Omit<Stage, "round">;
  readonly shop: Shop;
  readonly all: readonly PolisProcess[];
  /** The first that runs this service. */
  of(service: string): PolisProcess;
  readonly addresses: Addresses;
  /** Ends one, which nobody asks any more; gives its exit code, or the signal that ended it. */
  end(process: PolisProcess, signal: "SIGKILL" | "SIGTERM"): Promise<number | string>;
  /** Starts again what was ended, and waits until it is ready. */
  bringBack(process: PolisProcess): Promise<void>;
  compare(): Promise<Findings>;
};

/** Starts a process of each of these lists of services; a list that stands there several times is so many replicas. */
export async function openProcesses(site: Site, lists: readonly (readonly string[])[]): Promise<Processes> {
  // Each process must come back to the port under which the others know it.
  const places = await Promise.all(lists.map(async (services) => ({ services, port: await freePort() })));
  const settings: Record<string, string> = {};
  for (const { name } of orderPayments.services) {
    const addresses = places.filter(({ services }) => services.includes(name)).map(({ port }) => `127.0.0.1:${port}`);
    settings[`${name.toUpperCase()}_URL`] = addresses.join(",");
  }
  const start = ({ services, port }: Pick<PolisProcess, "services" | "port">): PolisChild =>
    site.start(["--services", services.join(","), "--grpc-port", String(port)], settings);
  const all = places.map((place): PolisProcess => ({ ...place, child: start(place), http: undefined }));
  for (const process of all) process.http = (await process.child.ready).http;
  const shop = openShop(await site.identities());
  const addresses = (): string[] => all.filter(({ services }) => services.includes("gateway")).flatMap(({ http }) => http ?? []);
  const of = (service: string): PolisProcess => {
    const found = all.find(({ services }) => services.includes(service));
    if (found === undefined) throw new Error(`no process runs ${service}`);
    return found;
  };
  const said: string[] = [];
  return {
    shop,
    all,
    of,
    addresses,
    end(process, signal) {
      process.http = undefined;
      process.child.signal(signal);
      return process.child.ended;
    },
    async bringBack(process) {
      said.push(process.child.said());
      process.child = start(process);
      process.http = (await process.child.ready).http;
    },
    async compare() {
      const { grpc } = await of("accounts").child.ready;
      return compare(shop, site.books, { http: addresses()[0] ?? "", grpc, secret: await site.secret() });
    },
    stage: {
      folder: site.folder,
      counts: () => countsOf(shop),
      said: () => [...said.slice(-2), ...all.map(({ child }) => child.said())].join("\n--- another process ---\n"),
      close: (options) => site.close(options),
    },
  };
}
