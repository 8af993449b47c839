import type { System } from "#platform/system.ts";
import { accountsService } from "../services/accounts/service.ts";
import { authService } from "../services/auth/service.ts";
import { gatewayService } from "../services/gateway/service.ts";
import { notificationsService } from "../services/notifications/service.ts";
import { ordersService } from "../services/orders/service.ts";
import { paymentsService } from "../services/payments/service.ts";
import { orderPaymentsDemo } from "./order-payments-demo.ts";

/** A shop takes orders and charges them to accounts that it keeps for its customers. */
export const orderPayments: System = {
  name: "order-payments",
  title: "Order payments",
  services: [accountsService, paymentsService, ordersService, authService, notificationsService],
  edges: [gatewayService],
  demo: orderPaymentsDemo,
};
