import { settingsTableOf } from "#platform/process/own-settings.ts";
import type { System } from "#platform/system.ts";
import { orderPayments } from "../systems/order-payments.ts";

/** Every system that `polis` knows. */
export const systems: readonly System[] = [orderPayments];

/** The table of every setting that there is. */
export const settingsTable = settingsTableOf(
  [...new Set(systems.flatMap(({ services }) => services))],
  [...new Set(systems.flatMap(({ edges }) => edges))],
);
