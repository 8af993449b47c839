import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { AddressEntry } from "#contracts/polis/edge/v1/kept_pb.ts";
import { systemClock } from "#platform/clock.ts";
import { parseDuration } from "#platform/config/duration.ts";
import { addEntry, addressListOf, type KeptAddresses, REASON_LENGTH_MAX, readList, removeEntries } from "#platform/edge/address-list.ts";
import { readNetwork } from "#platform/edge/networks.ts";
import { reachKeyValueStore } from "#platform/process/key-value-store.ts";
import { defineCommand, UsageError } from "./command.ts";
import { dataOption, openSettings } from "./process-settings.ts";
import { systems } from "./systems.ts";

/** How each action is called: an option that isn't in its line is refused, and not passed over. */
const usage = {
  list: "[--json]",
  add: "ADDRESS [--allow] [--for 1h] [--reason TEXT]",
  remove: "ADDRESS",
};
type Action = keyof typeof usage;

export const blocks = defineCommand({
  usage: Object.entries(usage).map(([action, takes]) => `blocks ${action} ${takes} [--data FOLDER]`),
  text: `
Client addresses that may not call the gateway (403 address_blocked), and such as its general limits spare. ADDRESS is one, as
203.0.113.7, or a network of them, as 203.0.113.0/24 or 2001:db8::/32.

  list              what holds now
  add               blocks it, or puts it anew; what is both blocked and allowed is blocked
    --allow         it is spared by the general limits, instead
    --for DURATION  so long: 90s, 15m, 1h, 7d; without it, until it is removed
    --reason TEXT   for those who read the list
  remove            takes it from the list, blocked and allowed

Every gateway knows it within a second. Works beside running processes; an embedded database that isn't running is started for as long
as it takes.`,
  options: {
    ...dataOption,
    allow: { type: "boolean" },
    for: { type: "string" },
    reason: { type: "string" },
    json: { type: "boolean" },
  },
  async run({ data, ...said }, [action = "", address, ...more]) {
    if (more.length > 0) throw new UsageError(`'${more.join(" ")}' is not expected here`);
    if (!Object.hasOwn(usage, action)) throw new UsageError("say list, add or remove");
    for (const option of Object.keys(said))
      if (!usage[action as Action].includes(`--${option}`)) throw new UsageError(`'${action}' takes no --${option}`);
    const act = actionOf(action as Action, address, said);
    const store = await reachKeyValueStore(await openSettings({ data }));
    try {
      const lines = await act(store.kv.of(addressListOf(edgeName())));
      for (const line of lines) console.log(line);
      if (lines.length === 0) console.error("there are none");
    } finally {
      await store.close();
    }
  },
});

type Said = {
  readonly allow?: boolean | undefined;
  readonly for?: string | undefined;
  readonly reason?: string | undefined;
  readonly json?: boolean | undefined;
};

/** What is to be done with the list; returns what to print. Throws UsageError before anything is opened. */
function actionOf(action: Action, address: string | undefined, said: Said): (kept: KeptAddresses) => Promise<string[]> {
  if (action === "list") {
    if (address !== undefined) throw new UsageError("'list' takes no ADDRESS");
    return async (kept) => (await readList(kept, systemClock)).map(said.json === true ? jsonOf : lineOf);
  }
  if (address === undefined) throw new UsageError(`'${action}' needs an ADDRESS`);
  const network = readNetwork(address);
  if (network === undefined) throw new UsageError(`'${address}' is no IP address, and no network such as 203.0.113.0/24`);
  if (action === "remove")
    return async (kept) => {
      if ((await removeEntries(kept, network, systemClock)) === 0)
        throw new Error(`${network} isn't on the list: \`blocks list\` shows it`);
      return [`${network} is off the list`];
    };
  const { allow: isAllowed = false, reason = "" } = said;
  if (reason.length > REASON_LENGTH_MAX) throw new UsageError(`--reason has at most ${REASON_LENGTH_MAX} characters`);
  const forMs = said.for === undefined ? undefined : parseDuration(said.for);
  if (said.for !== undefined && forMs === undefined) throw new UsageError("--for must be a duration such as 90s, 15m, 1h or 7d");
  return async (kept) => {
    await addEntry(kept, { network, isAllowed, reason, forMs }, systemClock);
    return [`${network} is ${isAllowed ? "allowed" : "blocked"}`];
  };
}

function edgeName(): string {
  const [name] = systems.flatMap(({ edges }) => edges.map((edge) => edge.name));
  if (name === undefined) throw new Error("no system has an edge");
  return name;
}

const untilOf = ({ expiresAt }: AddressEntry): string | undefined => expiresAt && timestampDate(expiresAt).toISOString();

const lineOf = (entry: AddressEntry): string =>
  [entry.network, entry.isAllowed ? "allowed" : "blocked", `until ${untilOf(entry) ?? "removed"}`, entry.reason].join("  ").trimEnd();

const jsonOf = (entry: AddressEntry): string =>
  JSON.stringify({
    network: entry.network,
    isAllowed: entry.isAllowed,
    expiresAt: untilOf(entry),
    reason: entry.reason,
    addedAt: entry.addedAt && timestampDate(entry.addedAt).toISOString(),
  });
