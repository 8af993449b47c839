import { OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { find, query } from "#platform/reads/query.ts";
import { orders } from "./tables.ts";

/** One order; that it is the caller's, the contract demands (`owner`). */
export const getOrder = query(OrdersService.method.getOrder, ({ orderId }, { sql }) => find(sql, orders.row(orderId)));
