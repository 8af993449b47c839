import { create } from "@bufbuild/protobuf";
import { ListOrdersResponseSchema, OrdersService } from "#contracts/polis/orders/v1/orders_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { page } from "#platform/reads/page.ts";
import { query } from "#platform/reads/query.ts";
import { orders } from "./tables.ts";

/** The caller's orders, newest first: their ids are made in the order of time. */
export const listOrders = query(OrdersService.method.listOrders, async (request, { sql, caller }) => {
  const { userId } = requireUser(caller);
  const { rows, nextPageToken } = await page(
    sql,
    orders,
    { where: { userId, status: request.status }, by: ["id"], newestFirst: true },
    request,
  );
  return create(ListOrdersResponseSchema, { orders: rows, nextPageToken });
});
