import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { createClient } from "#platform/rpc/client.ts";
import { type Bench, figure } from "./bench.ts";
import { createOrder, ordersEndpoint } from "./support/constant-orders.ts";
import { alternate, median, type Round } from "./support/rounds.ts";

const CALLS = 100_000;
const ROUNDS = 9;
const request = { amount: 1_000n, currency: "RUB", description: "Two tickets to the opera" };

export const callInProcess: Bench = {
  name: "call-in-process",
  text: "a call to a service of the same process beside the same function called directly",
  async run({ report }) {
    const client = createClient(OrdersService, ordersEndpoint(), { caller: userCaller(crypto.randomUUID()) });
    const options = { idempotencyKey: crypto.randomUUID() };
    const found = await alternate(
      {
        direct: () => microseconds(() => createOrder()),
        call: () => microseconds(() => client.createOrder(request, options)),
      },
      ROUNDS,
    );
    const values = (rounds: readonly Round[]): number[] => rounds.map(({ value }) => value);
    const direct = median(values(found.direct));
    const over = found.call.map(({ value }, i) => value - (found.direct[i]?.value ?? Number.NaN));
    report(
      figure({
        name: "in-process call, over a direct function",
        value: median(over),
        unit: "µs",
        beside: { name: "µs the direct function", value: direct },
        goal: { of: "value", atMost: 5 },
        medianOf: ROUNDS,
        note: `rounds of ${CALLS.toLocaleString("en")} calls, one after the other; access, validation, copies of both messages, deadline, metrics included`,
      }),
    );
  },
};

async function microseconds(call: () => Promise<unknown>): Promise<Round> {
  const startedMs = performance.now();
  for (let i = 0; i < CALLS; i++) await call();
  return { value: ((performance.now() - startedMs) * 1000) / CALLS };
}
