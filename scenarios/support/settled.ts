import type { Order, Rest } from "./rest-client.ts";
import { until } from "./until.ts";

/** The order once it has ended. */
export const settled = (rest: Rest, orderId: string, withinMs = 15_000): Promise<Order> =>
  until(
    `the end of order ${orderId}`,
    async () => {
      const { status, body } = await rest.order(orderId);
      return status === 200 && body.status !== "NEW" && body;
    },
    { withinMs, everyMs: 2 },
  );
