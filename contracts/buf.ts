import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");

// What buf exits with when it ran and found fault.
const FOUND_FAULT = 100;

/**
 * Runs buf at the root of the repository, under bin/node.js, whose PATH lets it find protoc-gen-es. Returns what it printed
 * about the faults that it found, a line each, and nothing where it found none; throws when it could not run.
 */
export function buf(...args: readonly string[]): string[] {
  const command = [join(root, "node_modules", "@bufbuild", "buf", "bin", "buf"), ...args];
  const { status, stdout, stderr, error } = spawnSync(process.execPath, command, { cwd: root, encoding: "utf8" });
  if (status === 0) return [];
  const printed = `${stdout ?? ""}${stderr ?? ""}`.trimEnd();
  if (status === FOUND_FAULT) return printed.split("\n");
  throw new Error(`buf ${args[0]} failed:\n${printed}`, { cause: error });
}
