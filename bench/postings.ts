import { join } from "node:path";
import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { serviceCaller } from "#platform/access/caller.ts";
import { uuidv7 } from "#platform/ids.ts";
import type { Bench } from "./bench.ts";
import { keepCalling, measureHere } from "./support/calling.ts";
import { type Child, startChild } from "./support/child.ts";
import { anyOf, assertBooksBalance, openCustomers } from "./support/customers.ts";
import { startPolis } from "./support/polis.ts";
import type { PostingJob, PostingsDone } from "./support/posting-process.ts";
import { alternate, type Round, ratioFigure } from "./support/rounds.ts";
import { type BenchServer, startServer } from "./support/server.ts";
import { openYardstick } from "./support/yardstick.ts";

const ROUNDS = 3;
const ROUND_MS = 2_000;
const YARDSTICK_S = 2;
const ACCOUNTS = 1_000;
const HOT_CALLERS = 768;
const FIGURES = [
  { side: "at64", callers: 64, atLeast: 4 },
  { side: "at256", callers: 256, atLeast: 6 },
  { side: "at1024", callers: 1_024, atLeast: 10 },
] as const;

export const postings: Bench = {
  name: "postings",
  text: "ledger postings under business ids, 64 to 1,024 callers waiting, beside pgbench TPC-B; three processes on one hot account beside one",
  async run({ parts, report }) {
    const server = await startServer(parts);
    const yardstick = await openYardstick(server, parts);
    const polis = await startPolis(server, parts);
    const accounts = await openCustomers(polis, ACCOUNTS);
    const client = polis.clientFor(serviceCaller("payments"))(AccountsService);
    const transfer = (): Promise<unknown> => {
      const from = anyOf(accounts).accountId;
      let to = from;
      while (to === from) to = anyOf(accounts).accountId;
      const [debit, credit] = [from, to].map((value) => ({ account: { case: "accountId", value } }) as const);
      return client.post({ postingId: uuidv7(), legs: [{ debit, credit, amount: 1n, currency: "RUB" }] } as never);
    };
    const post = (callers: number) => () => measureHere(server, () => keepCalling(callers, { ms: ROUND_MS }, transfer));
    const found = await alternate(
      { yardstick: () => yardstick.run(YARDSTICK_S), at64: post(64), at256: post(256), at1024: post(1_024) },
      ROUNDS,
      server.tidy,
    );
    const beside = { name: yardstick.name, rounds: found.yardstick };
    for (const { side, callers, atLeast } of FIGURES)
      report(
        ratioFigure({
          name: `postings, ${callers.toLocaleString("en")} callers waiting`,
          unit: "postings/s",
          rounds: found[side],
          beside,
          goal: { of: "ratio", atLeast },
          note: `between ${ACCOUNTS} accounts`,
        }),
      );

    const [hot] = await openCustomers(polis, 1);
    const processes = [1, 2, 3].map(() =>
      startChild<PostingJob, PostingsDone>(join(import.meta.dirname, "support", "posting-process.ts"), [server.url, server.folder], parts),
    );
    const job = { accountId: hot?.accountId ?? "", ms: ROUND_MS };
    const one = await alternate(
      {
        one: () => together(server, processes.slice(0, 1), { ...job, callers: HOT_CALLERS }),
        three: () => together(server, processes, { ...job, callers: HOT_CALLERS / processes.length }),
      },
      ROUNDS,
      server.tidy,
    );
    await assertBooksBalance(polis);
    report(
      ratioFigure({
        name: "postings on one hot account, three processes",
        unit: "postings/s",
        rounds: one.three,
        beside: { name: "one process", rounds: one.one },
        goal: { of: "ratio", atLeast: 0.8 },
        note: `${HOT_CALLERS} callers waiting, in all`,
      }),
    );
  },
};

/** A round of several processes at once; the CPU of Node is theirs together. */
async function together(server: BenchServer, processes: readonly Child<PostingJob, PostingsDone>[], job: PostingJob): Promise<Round> {
  const cpu = () => [processes.reduce((sum, child) => sum + (child.cpuUs() ?? Number.NaN), 0), server.cpuUs() ?? Number.NaN] as const;
  const [node, postgres] = cpu();
  const done = await Promise.all(processes.map((child) => child.ask(job)));
  const [nodeNow, postgresNow] = cpu();
  const count = done.reduce((sum, one) => sum + one.count, 0);
  const used = (us: number): number | undefined => (Number.isNaN(us) ? undefined : us / count);
  return {
    value: (count / Math.max(...done.map(({ elapsedMs }) => elapsedMs))) * 1000,
    nodeUs: used(nodeNow - node),
    postgresUs: used(postgresNow - postgres),
  };
}
