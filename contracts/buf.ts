import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");

/**
 * Runs buf at the root of the repository, under bin/node.js, whose PATH lets buf find protoc-gen-es. Returns what it printed;
 * throws with all of that when it fails.
 */
export function buf(...args: readonly string[]): string {
  const command = [join(root, "node_modules", "@bufbuild", "buf", "bin", "buf"), ...args];
  const { status, stdout, stderr, error } = spawnSync(process.execPath, command, { cwd: root, encoding: "utf8" });
  if (status === 0) return stdout;
  throw new Error(`buf ${args.join(" ")} failed:\n${stdout ?? ""}${stderr ?? ""}`, { cause: error });
}
