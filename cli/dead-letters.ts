import { groupName, noSuchGroup } from "#platform/events/define-consumer.ts";
import { type DeadLetter, dropDeadLetters, listDeadLetters, replayDeadLetters, showDeadLetter } from "#platform/inbox/dead-letters.ts";
import type { Database } from "#platform/postgres/database.ts";
import { chooseServices } from "./choose-services.ts";
import { defineCommand, UsageError } from "./command.ts";
import { limitOf } from "./limit.ts";
import { printOfServices } from "./print-of-services.ts";
import { dataOption, openSettings } from "./process-settings.ts";
import { systems } from "./systems.ts";

export const deadLetters = defineCommand({
  usage: [
    "dead-letters list [GROUP] [--key KEY] [--limit N] [--json] [--data FOLDER]",
    "dead-letters show GROUP EVENT_ID",
    "dead-letters replay GROUP [--key KEY]",
    "dead-letters drop GROUP (EVENT_ID | --key KEY)",
  ],
  text: `
Events that a consumer group could not handle, and those that wait behind them for the same key. GROUP is service.consumer, such
as orders.on-payment-settled. What is personal is masked.

  list      what is parked, key by key in its order (100 unless --limit says otherwise)
  show      one event, with its headers and the cause
  replay    asks the group to try its dead events again, in order; those of one key, or all
  drop      gives up one event, or all of a key, for good: should it come again, it counts as handled

Works beside running processes; an embedded database that isn't running is started for as long as it takes.`,
  options: {
    ...dataOption,
    key: { type: "string" },
    limit: { type: "string", default: "100" },
    json: { type: "boolean", default: false },
  },
  async run({ key, limit, json, ...flags }, [action, group, eventId, ...more]) {
    if (more.length > 0) throw new UsageError(`'${more.join(" ")}' is not expected here`);
    const act = actionOf(action, { group, eventId, key, limit: limitOf(limit), json });
    const asked = servicesOf(group);
    await printOfServices(asked, await openSettings(flags), {
      act(database, { consumers }) {
        const schemas = Object.values(consumers).flatMap(({ handlers }) => handlers.map(({ schema }) => schema));
        return act(database, schemas);
      },
      whenNothing: "nothing is parked",
    });
  },
});

type Asked = {
  readonly group: string | undefined;
  readonly eventId: string | undefined;
  readonly key: string | undefined;
  readonly limit: number;
  readonly json: boolean;
};
type Schemas = Parameters<typeof showDeadLetter>[2];

/** What is to be done in each database; returns what to print. Throws UsageError before anything is opened. */
function actionOf(action: string | undefined, asked: Asked): (database: Database, schemas: Schemas) => Promise<string[]> {
  const { group, eventId, key, limit, json } = asked;
  if (action === "list") {
    if (eventId !== undefined) throw new UsageError("'list' takes a group at the most");
    return async (database) =>
      (await listDeadLetters(database, { group, key, limit })).map((letter) => (json ? JSON.stringify(letter) : lineOf(letter)));
  }
  if (action === undefined || !["show", "replay", "drop"].includes(action)) throw new UsageError("say list, show, replay or drop");
  if (group === undefined) throw new UsageError(`'${action}' needs a GROUP`);
  if (action === "show") {
    if (eventId === undefined) throw new UsageError("'show' needs an EVENT_ID");
    return async (database, schemas) => {
      const letter = await showDeadLetter(database, { group, eventId }, schemas);
      if (letter === undefined) throw new Error(`${group} has no parked event ${eventId}`);
      return [JSON.stringify(letter, undefined, 2)];
    };
  }
  if (action === "replay") {
    if (eventId !== undefined) throw new UsageError("'replay' takes a group and --key: events of a key are tried in their order");
    return async (database) => [`${await replayDeadLetters(database, { group, key })} to be tried again`];
  }
  if ((eventId === undefined) === (key === undefined)) throw new UsageError("'drop' needs an EVENT_ID or --key");
  return async (database) => {
    const what = eventId === undefined ? { group, key: key as string } : { group, eventId };
    return [`${await dropDeadLetters(database, what)} dropped`];
  };
}

function lineOf({ group, key, eventId, type, state, tries, parkedAt, cause }: DeadLetter): string {
  return [parkedAt.toISOString(), state.padEnd(8), group, key, eventId, type, `tries ${tries}`, cause ?? ""].join("  ").trimEnd();
}

/** The services whose databases are to be asked: a group's own, or all that consume anything. */
function servicesOf(group: string | undefined) {
  const consuming = chooseServices(systems, {}).services.filter(({ consumers }) => Object.keys(consumers).length > 0);
  if (group === undefined) return consuming;
  const groups = consuming.flatMap((service) => Object.keys(service.consumers).map((name) => groupName(service.name, name)));
  if (!groups.includes(group)) throw noSuchGroup(group, groups);
  return consuming.filter(({ name }) => group.startsWith(`${name}.`));
}
