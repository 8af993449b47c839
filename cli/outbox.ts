import { listParked, type ParkedEvent, retryParked } from "#platform/outbox/parked.ts";
import type { Database } from "#platform/postgres/database.ts";
import { chooseServices } from "./choose-services.ts";
import { defineCommand, UsageError } from "./command.ts";
import { limitOf } from "./limit.ts";
import { printOfServices } from "./print-of-services.ts";
import { dataOption, openSettings } from "./process-settings.ts";
import { systems } from "./systems.ts";

/*
 * Apart from `polis dead-letters`: there a group names one reader of an event that others may have handled; here nobody has had
 * it yet. So none can be dropped: it tells of what its service has done, and its readers would never learn of it.
 */

export const outbox = defineCommand({
  usage: ["outbox list [SERVICE] [--key KEY] [--limit N] [--json] [--data FOLDER]", "outbox retry SERVICE [--key KEY]"],
  text: `
Events of a service that the event log refused, and those that wait behind them for the same key: no consumer has had them yet.
What a consumer could not handle is for \`polis dead-letters\`.

  list      what is parked, key by key in its order, with the cause (100 unless --limit says otherwise)
  retry     asks the service to publish it once more, in order, all or of one key; it does so within seconds, or when it runs again

Works beside running processes; an embedded database that isn't running is started for as long as it takes.`,
  options: {
    ...dataOption,
    key: { type: "string" },
    limit: { type: "string", default: "100" },
    json: { type: "boolean", default: false },
  },
  async run({ key, limit, json, ...flags }, [action, service, ...more]) {
    if (more.length > 0) throw new UsageError(`'${more.join(" ")}' is not expected here`);
    const act = actionOf(action, { service, key, limit: limitOf(limit), json });
    const asked = servicesOf(service);
    await printOfServices(asked, await openSettings(flags), {
      act: (database, { name }) => act(database, name),
      whenNothing: "nothing is parked",
    });
  },
});

type Asked = {
  readonly service: string | undefined;
  readonly key: string | undefined;
  readonly limit: number;
  readonly json: boolean;
};

/** What is to be done in the database of each service; returns what to print. Throws UsageError before anything is opened. */
function actionOf(
  action: string | undefined,
  { service, key, limit, json }: Asked,
): (database: Database, name: string) => Promise<string[]> {
  if (action === "list")
    return async (database, name) =>
      (await listParked(database, { key, limit })).map((event) =>
        json ? JSON.stringify({ service: name, ...event }) : lineOf(name, event),
      );
  if (action !== "retry") throw new UsageError("say list or retry");
  if (service === undefined) throw new UsageError("'retry' needs a SERVICE");
  return async (database) => [`${await retryParked(database, { key })} to be tried again`];
}

function lineOf(service: string, { topic, key, eventId, type, state, parkedAt, cause }: ParkedEvent): string {
  return [parkedAt.toISOString(), state.padEnd(8), service, topic, key, eventId, type, cause ?? ""].join("  ").trimEnd();
}

function servicesOf(service: string | undefined) {
  const { services } = chooseServices(systems, {});
  if (service === undefined) return services;
  const asked = services.filter(({ name }) => name === service);
  if (asked.length === 0)
    throw new UsageError(`there is no service '${service}'; there are ${services.map(({ name }) => name).join(", ")}`);
  return asked;
}
