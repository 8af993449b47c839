import type { GroupStatus, Groups } from "#platform/events/event-log.ts";
import { reachGroups } from "#platform/process/event-log.ts";
import { defineCommand, UsageError } from "./command.ts";
import { dataOption, openSettings } from "./process-settings.ts";

export const groups = defineCommand({
  usage: ["groups list [--json] [--data FOLDER]", "groups drop GROUP"],
  text: `
Consumer groups of the event log. GROUP is service.consumer, such as orders.on-payment-settled. The log in PostgreSQL keeps every
event until all groups have handled it, so one that is run no more, as after a consumer got another name, has to be dropped;
Kafka forgets such a group by itself after a while.

  list      each group, the events that it has still before it (lag), and how many processes run it now (members)
  drop      forgets a group for good; refused while a process runs it. Should it be run again, it begins with the oldest event

Works beside running processes; an embedded database that isn't running is started for as long as it takes.`,
  options: { ...dataOption, json: { type: "boolean", default: false } },
  async run({ json, ...flags }, [action, group, ...more]) {
    if (more.length > 0) throw new UsageError(`'${more.join(" ")}' is not expected here`);
    const act = actionOf(action, { group, json });
    const { settings, log } = await openSettings(flags);
    const { groups, close } = await reachGroups({ settings, log });
    try {
      const lines = await act(groups);
      for (const line of lines) console.log(line);
      if (lines.length === 0) console.error("there are no groups");
    } finally {
      await close();
    }
  },
});

/** What is to be done; returns what to print. Throws UsageError before anything is opened. */
function actionOf(action: string | undefined, { group, json }: { readonly group: string | undefined; readonly json: boolean }) {
  if (action === "list") {
    if (group !== undefined) throw new UsageError("'list' takes no group");
    return async (groups: Groups) => (await groups.list()).map(json ? jsonOf : lineOf);
  }
  if (action !== "drop") throw new UsageError("say list or drop");
  if (group === undefined) throw new UsageError("'drop' needs a GROUP");
  return async (groups: Groups) => {
    await groups.drop(group);
    return [`${group} dropped`];
  };
}

const jsonOf = (status: GroupStatus): string => JSON.stringify({ ...status, lag: String(status.lag) });

const lineOf = ({ group, lag, members }: GroupStatus): string => [group.padEnd(40), `lag ${lag}`, `members ${members}`].join("  ");
