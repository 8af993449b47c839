// `polis …`. A command's code is loaded only when it is asked for.
import { inspect } from "node:util";
import { nearest, SettingsError } from "#platform/config/settings.ts";
import { type Command, helpOf, runCommand, UsageError } from "./command.ts";
import { release } from "./release.ts";

const commands: Readonly<Record<string, { readonly text: string; readonly load: () => Promise<Command> }>> = {
  start: { text: "run the services of one system, of all, or some", load: async () => (await import("./start.ts")).start },
  migrate: { text: "make and migrate the databases, and end", load: async () => (await import("./migrate.ts")).migrate },
  config: { text: "list every setting with its value", load: async () => (await import("./config.ts")).config },
  "caller-token": { text: "make a token to call gRPC with", load: async () => (await import("./caller-token.ts")).callerToken },
  "dead-letters": { text: "list, show, replay or drop parked events", load: async () => (await import("./dead-letters.ts")).deadLetters },
  outbox: { text: "list or retry events that the event log refused", load: async () => (await import("./outbox.ts")).outbox },
  groups: { text: "list or drop consumer groups of the event log", load: async () => (await import("./groups.ts")).groups },
  tasks: { text: "list, show, retry or cancel tasks, and their schedules", load: async () => (await import("./tasks.ts")).tasks },
  blocks: { text: "list, block or allow client addresses", load: async () => (await import("./blocks.ts")).blocks },
  backup: { text: "copy the embedded databases as of one moment", load: async () => (await import("./backup.ts")).backup },
  restore: { text: "make a data folder from a backup", load: async () => (await import("./restore.ts")).restore },
};

const overview = (): string =>
  [
    "usage: polis <command> [options]",
    "",
    ...Object.entries(commands).map(([name, { text }]) => `  ${name.padEnd(14)}${text}`),
    "",
    "`polis <command> --help` tells more. `polis --version` tells the release.",
  ].join("\n");

async function main([name, ...args]: readonly string[]): Promise<void> {
  if (name === undefined) throw new UsageError("say what to do");
  if (name === "--help" || name === "-h") return console.log(overview());
  if (name === "--version" || name === "-v") return console.log(release);
  if (name === "help") return console.log(args[0] === undefined ? overview() : helpOf(await find(args[0])));
  await runCommand(await find(name), args);
}

function find(name: string): Promise<Command> {
  const command = commands[name];
  if (command !== undefined) return command.load();
  const near = nearest(name, Object.keys(commands));
  throw new UsageError(`there is no command '${name}'${near === undefined ? "" : `; did you mean '${near}'?`}`);
}

/**
 * Usage and settings are the user's to mend (2). A plain Error was written for a reader, and so were the system's and the
 * database's; a TypeError, a failed assertion and their like are our faults, and shown whole.
 */
function explain(error: unknown): { message: string; exitCode: number } {
  if (error instanceof UsageError) return { message: `polis: ${error.message}\n\n${error.usage ?? overview()}`, exitCode: 2 };
  if (error instanceof SettingsError) return { message: `polis: ${error.message}`, exitCode: 2 };
  if (error instanceof Error && (["Error", "FolderTaken"].includes(error.name) || isRefusal(error)))
    return {
      message: `polis: ${error.message}${error.cause instanceof Error ? `\n  because: ${reasonOf(error.cause)}` : ""}`,
      exitCode: 1,
    };
  return { message: inspect(error), exitCode: 1 };
}

/** A host with several addresses fails once for each, and the error of them all says nothing. */
const reasonOf = (error: Error): string =>
  error instanceof AggregateError && error.message === "" ? error.errors.map(({ message }) => message).join("; ") : error.message;

/** Codes such as EADDRINUSE, and PostgreSQL's 3D000. */
const isRefusal = (error: Error): boolean => "code" in error && /^(E[A-Z]+|[0-9A-Z]{5})$/.test(String(error.code));

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // Who reads has enough, as `head` has.
  if (error.code === "EPIPE") process.exit(0);
  console.error(`polis: what it says can't be written: ${error.message}`);
  process.exit(1);
});

try {
  await main(process.argv.slice(2));
} catch (error) {
  const { message, exitCode } = explain(error);
  console.error(message);
  process.exit(exitCode);
}
