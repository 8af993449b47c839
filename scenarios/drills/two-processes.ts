import { setTimeout as sleep } from "node:timers/promises";
import type { PolisChild } from "../support/polis-child.ts";
import { allSettled, compare } from "./check.ts";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import { countsOf, openShop } from "./shop.ts";
import { sharedSite } from "./site.ts";

type Member = { child: PolisChild; url: string | undefined };

/** Leases of 4 s, and the limits of a session that was frozen within a transaction, 5 s, are over by then. */
const TAKEOVER_TIMEOUT_MS = 20_000;

/** Two Polis on one PostgreSQL; one is killed or frozen, and while it is away every order must end. */
export const two: Drill = {
  name: "two",
  text: "two Polis on one PostgreSQL by URL; one is killed or frozen under load, and the other ends every order alone",
  async openStage(): Promise<Stage> {
    const site = await sharedSite();
    // At once, so that two starters make and migrate the databases.
    const members: Member[] = [site.start(), site.start()].map((child) => ({ child, url: undefined }));
    for (const member of members) member.url = (await member.child.ready).http;
    const shop = openShop(await site.identities());
    const addresses = () => members.flatMap(({ url }) => url ?? []);
    return {
      folder: site.folder,
      counts: () => countsOf(shop),
      async round(random) {
        const victim = random.pick(members);
        const isKill = random.chance(0.5);
        const afterMs = random.between(50, 1_200);
        await underLoad(shop, addresses, random, async () => {
          await sleep(afterMs);
          victim.child.signal(isKill ? "SIGKILL" : "SIGSTOP");
          // Who shares the requests out takes a while to see it; until then half of them go astray.
          await sleep(random.between(0, 1_000));
          victim.url = undefined;
          await sleep(random.between(0, 300));
        });
        const startedMs = performance.now();
        const left = await allSettled(site.books, TAKEOVER_TIMEOUT_MS);
        const backMs = performance.now() - startedMs;
        if (left.length > 0) throw new Error(`the other didn't take over within ${TAKEOVER_TIMEOUT_MS} ms:\n${left.join("\n")}`);

        if (isKill) {
          await victim.child.ended;
          victim.child = site.start();
        } else victim.child.signal("SIGCONT");
        // One that wakes up goes on where it was frozen: whatever it still wants to write must be refused.
        victim.url = (await victim.child.ready).http;
        await underLoad(shop, addresses, random, () => sleep(random.between(100, 600)));
        const urls = await random.pick(members).child.ready;
        const findings = await compare(shop, site.books, { ...urls, secret: await site.secret() });
        return { broken: `${isKill ? "SIGKILL" : "SIGSTOP"} of one of two after ${afterMs} ms`, backMs, findings };
      },
      said: () => members.map(({ child }) => child.said()).join("\n--- the other process ---\n"),
      close: (options) => site.close(options),
    };
  },
};
