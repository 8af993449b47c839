import type { System } from "#platform/system.ts";
import { orderPayments } from "../systems/order-payments.ts";

/** Every system that `polis` knows. */
export const systems: readonly System[] = [orderPayments];

/** The names of every service of every system. */
export const serviceNames: readonly string[] = [...new Set(systems.flatMap(({ services }) => services.map(({ name }) => name)))];
