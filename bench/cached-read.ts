import { strict as assert } from "node:assert";
import { create } from "@bufbuild/protobuf";
import { CardSchema, CardsService, GetCardRequestSchema } from "#contracts/polis/cardtest/v1/cardtest_pb.ts";
import { nobody } from "#platform/access/caller.ts";
import { createKv } from "#platform/kv/kv.ts";
import { postgresEngine } from "#platform/kv/postgres-engine.ts";
import { AnswerCache } from "#platform/reads/answer-cache.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";
import { type Bench, type BenchContext, figure } from "./bench.ts";
import { openKvDatabase } from "./support/kv-database.ts";
import { benchLog } from "./support/log.ts";
import { median } from "./support/rounds.ts";
import { startServer } from "./support/server.ts";

const READS = 200_000;
const ROUNDS = 9;
const { getCard: method } = CardsService.method;

export const cachedRead: Bench = {
  name: "cached-read",
  text: "an answer that is cached, read where it is near",
  async run({ parts, report }: BenchContext) {
    const server = await startServer(parts);
    const database = await openKvDatabase(server, { name: "kv", maxConnections: 1 }, parts);
    const [kept, passing, metrics] = [postgresEngine(database, "kept"), postgresEngine(database, "passing"), new Metrics()];
    const kv = createKv({ kept, passing, copies: undefined, metrics });
    const cache = new AnswerCache({ service: "cardtest", methods: [method], kv, metrics, log: benchLog() });
    const request = create(GetCardRequestSchema, { cardId: crypto.randomUUID() });
    let made = 0;
    const read = () =>
      cache.answer(method, request, nobody, async () => {
        made += 1;
        return create(CardSchema, { id: request.cardId, text: "Two tickets to the opera" });
      });
    const rounds: number[] = [];
    for (let round = -1; round < ROUNDS; round++) {
      const startedMs = performance.now();
      for (let i = 0; i < READS; i++) await read();
      if (round >= 0) rounds.push(((performance.now() - startedMs) * 1000) / READS);
    }
    assert.equal(made, 1);
    report(
      figure({
        name: "cached read in a process",
        value: median(rounds),
        unit: "µs",
        goal: { of: "value", atMost: 2 },
        medianOf: ROUNDS,
        note: `rounds of ${READS.toLocaleString("en")} reads, one after the other; once a second it is read from PostgreSQL again`,
      }),
    );
  },
};
