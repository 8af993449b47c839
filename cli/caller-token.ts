import { userCaller } from "#platform/access/caller.ts";
import { callerTokens } from "#platform/access/caller-token.ts";
import { existingSecret } from "#platform/access/secret.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { parseDuration } from "#platform/config/duration.ts";
import { readSettings } from "#platform/config/settings.ts";
import { isUuid } from "#platform/ids.ts";
import { defineCommand, noPositionals, UsageError } from "./command.ts";
import { dataOption } from "./process-settings.ts";
import { settingsTable } from "./systems.ts";

const DAY_MS = 86_400_000;

export const callerToken = defineCommand({
  usage: ["caller-token --user UUID [--role NAME]… [--scope NAME]… [--second-factor] [--ttl 1h] [--data FOLDER]"],
  text: `
Prints a token that names a user, signed with the secret of this deployment (POLIS_SECRET, or the data folder's own):
  grpcurl -plaintext -H "authorization: Bearer $(node bin/polis.js caller-token --user …)" 127.0.0.1:50051 list

  --user UUID       whom it names
  --role NAME       a role beside \`user\`, which everyone has; may be repeated
  --scope NAME      a scope; may be repeated
  --second-factor   as if the user had shown a second factor
  --ttl DURATION    how long it is good: 90s, 15m, 1h (unless said), 1d at the most
  --data FOLDER     the data folder (POLIS_DATA)`,
  options: {
    ...dataOption,
    user: { type: "string" },
    role: { type: "string", multiple: true, default: [] },
    scope: { type: "string", multiple: true, default: [] },
    "second-factor": { type: "boolean", default: false },
    ttl: { type: "string", default: "1h" },
  },
  async run({ user = "", role, scope, ttl, "second-factor": secondFactor, ...flags }, positionals) {
    noPositionals(positionals);
    if ([...role, ...scope].some((name) => name.trim() === "")) throw new UsageError("--role and --scope must be names");
    const userId = user.toLowerCase();
    if (!isUuid(userId)) throw new UsageError("--user must be a UUID");
    const lifeMs = parseDuration(ttl);
    if (lifeMs === undefined || lifeMs > DAY_MS) throw new UsageError("--ttl must be a duration such as 15m, a day at the most");
    const { secret, dataFolder } = readSettings(process.env, settingsTable, flags);
    const signedWith = await existingSecret({ fromSetting: secret, folder: dataFolder });
    if (signedWith === undefined)
      throw new Error(`there is no secret in ${dataFolder}: start Polis there first, or name its folder by --data, or set POLIS_SECRET`);
    const tokens = callerTokens({ secrets: secretsOf([signedWith]), lifeMs });
    console.log(await tokens.sign(userCaller(userId, { roles: role, scopes: scope, secondFactor })));
  },
});
