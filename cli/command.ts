import { type ParseArgsConfig, type ParseArgsOptionsConfig, parseArgs } from "node:util";

/** A command of `polis`. */
export type Command<O extends ParseArgsOptionsConfig = ParseArgsOptionsConfig> = {
  /** How it is called, a line a way, without `polis`. */
  readonly usage: readonly string[];
  /** What it does, and what each option means. */
  readonly text: string;
  readonly options: O;
  /** Resolves when the command has done its work; the process then ends by itself, or lives on what was started. */
  run(values: OptionValues<O>, positionals: readonly string[]): Promise<void>;
};

type OptionValues<O extends ParseArgsOptionsConfig> = ReturnType<typeof parseArgs<{ options: O; strict: true }>>["values"];

/** The command line is wrong: told in a line, with exit code 2 and how it is right. What isn't there to act on is a plain Error. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  /** Of the command that it is about, once that is known. */
  usage: string | undefined;
}

/** Declares a command, so that `run` knows the types of its options. */
export const defineCommand = <const O extends ParseArgsOptionsConfig>(command: Command<O>): Command => command as unknown as Command;

/** Parses a command's arguments and runs it; prints its help where `--help` is among them. Throws UsageError. */
export async function runCommand(command: Command, args: readonly string[]): Promise<void> {
  const config = {
    args: [...args],
    options: { ...command.options, help: { type: "boolean", short: "h" } },
    allowPositionals: true,
    strict: true,
  } satisfies ParseArgsConfig;
  try {
    const { values, positionals } = parseCommandLine(config);
    if (values.help === true) console.log(helpOf(command));
    else await command.run(values, positionals);
  } catch (error) {
    if (error instanceof UsageError) error.usage = usageOf(command);
    throw error;
  }
}

const usageOf = ({ usage }: Command): string => usage.map((line) => `usage: polis ${line}`).join("\n");

export const helpOf = (command: Command): string => `${usageOf(command)}\n\n${command.text.trim()}`;

/** Node's `parseArgs`. Throws UsageError. */
export function parseCommandLine<C extends ParseArgsConfig>(config: C): ReturnType<typeof parseArgs<C>> {
  try {
    return parseArgs(config);
  } catch (error) {
    if (error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS")) {
      throw new UsageError(error.message.replace(/\. To specify a positional.*$/s, ""), { cause: error });
    }
    throw error;
  }
}

/** Runs a script beside `polis`, which resolves with its exit code. A UsageError is told in a sentence, above how it is called (2). */
export async function runScript(usage: string, run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${error.message}\n\n${usage}`);
    return 2;
  }
}

/** Refuses arguments that a command has no use for. */
export function noPositionals(positionals: readonly string[]): void {
  if (positionals.length > 0) throw new UsageError(`'${positionals.join(" ")}' is not expected here`);
}
