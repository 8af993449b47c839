import { networks, origins, requestLimit } from "#platform/config/edge-setting-types.ts";
import { publicUrl } from "#platform/config/public-url.ts";
import { wholeNumber } from "#platform/config/setting-types.ts";
import { type SettingsOf, setting } from "#platform/config/settings.ts";

/** What every edge reads from the environment to protect itself. */
export const edgeSettings = {
  publicUrl,
  proxies: setting({
    name: "POLIS_PROXIES",
    type: networks,
    default: [],
    text: "proxies in front of the gateway, whose X-Forwarded-For is believed, as 10.0.0.0/8; without it, a client's address is its connection's",
  }),
  corsOrigins: setting({
    name: "CORS_ORIGINS",
    type: origins,
    default: [],
    text: "origins whose pages may call the gateway from a browser, as https://app.example.com; without it, none but its own",
  }),
  limitPerAddress: setting({
    name: "LIMIT_PER_ADDRESS",
    type: requestLimit,
    default: { requests: 6_000, windowMs: 60_000 },
    text: "requests of one client address (IPv6: of 64 bits of it) in any window, over all gateways; off: any number",
  }),
  limitPerCaller: setting({
    name: "LIMIT_PER_CALLER",
    type: requestLimit,
    default: { requests: 3_000, windowMs: 60_000 },
    text: "requests of one user, or by one API key, in any window, over all gateways; off: any number",
  }),
  limitKeysMax: setting({
    name: "LIMIT_KEYS_MAX",
    type: wholeNumber(1_000, 10_000_000),
    default: 100_000,
    text: "clients that a gateway remembers for each limit; those that haven't called for longest go first",
  }),
  inFlightMax: setting({
    name: "IN_FLIGHT_MAX",
    type: wholeNumber(1, 1_000_000),
    default: 2_000,
    text: "requests that a gateway works on at once, streams apart; more get 503",
  }),
  inFlightPerAddressMax: setting({
    name: "IN_FLIGHT_PER_ADDRESS_MAX",
    type: wholeNumber(1, 1_000_000),
    default: 500,
    text: "requests of one client address that a gateway works on at once, streams among them; more get 503",
  }),
  connectionsMax: setting({
    name: "CONNECTIONS_MAX",
    type: wholeNumber(1, 1_000_000),
    default: 10_000,
    text: "connections of a gateway; more are closed at once",
  }),
  connectionsPerAddressMax: setting({
    name: "CONNECTIONS_PER_ADDRESS_MAX",
    type: wholeNumber(1, 1_000_000),
    default: 1_000,
    text: "connections from one address, proxies apart; more are closed at once",
  }),
  loopDelayMaxMs: setting({
    name: "EVENT_LOOP_DELAY_MAX_MS",
    type: wholeNumber(10, 60_000),
    default: 500,
    text: "how late a gateway's event loop may be for a second, in milliseconds; while it is later, requests get 503",
  }),
};

export type EdgeSettings = SettingsOf<typeof edgeSettings>;
