import { OrderSchema } from "#contracts/polis/orders/v1/orders_pb.ts";
import { messageTable } from "#platform/writes/table.ts";

export const orders = messageTable("orders", OrderSchema);
