import { OrderSchema } from "#contracts/polis/orders/v1/orders_pb.ts";
import { text, uuid } from "#platform/writes/columns.ts";
import { messageTable, table } from "#platform/writes/table.ts";

export const orders = messageTable("orders", OrderSchema);

export const followUps = table<{ readonly id: string; readonly lookedThrough: string }>("follow_ups", { id: text, lookedThrough: uuid });
