// Are the contracts as they ought to be: buf's rules and format, generated code up to date, and nothing taken away that
// others rely on, compared with what landed last.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorSet, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { buf } from "../contracts/buf.ts";
import { layImports } from "../contracts/imports.ts";
import { breakingChanges } from "./breaking.ts";

// In a clone of what is to land, nothing says what landed before it; no change waits longer than this to land.
const LANDED_AFTER_S = 4 * 3600;

const root = join(import.meta.dirname, "..");

function git(...args: readonly string[]): Buffer | undefined {
  const { status, stdout } = spawnSync("git", args, { cwd: root, maxBuffer: 64 * 1024 * 1024 });
  return status === 0 ? stdout : undefined;
}

const gitText = (...args: readonly string[]): string =>
  git(...args)
    ?.toString()
    .trim() ?? "";

/**
 * The commit that landed last: where HEAD left origin/main; HEAD itself under contracts that aren't committed yet; or else the
 * newest that is older than any change may wait.
 */
function lastLanded(): string | undefined {
  const head = gitText("rev-parse", "HEAD");
  if (gitText("status", "--porcelain", "--", "contracts") !== "") return head;
  const fork = gitText("merge-base", "HEAD", "origin/main");
  if (fork !== "" && fork !== head) return fork;
  const headTimeS = Number(gitText("log", "-1", "--format=%ct"));
  const older = gitText("rev-list", "-1", `--before=${headTimeS - LANDED_AFTER_S}`, "HEAD");
  return older === "" ? undefined : older;
}

const descriptorsOf = (commit: string): FileDescriptorSet | undefined => {
  const content = git("show", `${commit}:contracts/descriptors.binpb`);
  return content === undefined ? undefined : fromBinary(FileDescriptorSetSchema, content);
};

function breaking(): string[] {
  const landed = lastLanded();
  const before = landed === undefined ? undefined : descriptorsOf(landed);
  if (landed === undefined || before === undefined) {
    console.log("breaking changes: nothing has landed yet to compare with");
    return [];
  }
  const now = fromBinary(FileDescriptorSetSchema, readFileSync(join(root, "contracts", "descriptors.binpb")));
  const { version } = JSON.parse(gitText("show", `${landed}:package.json`)) as { version: string };
  const released = Number.parseInt(version, 10) >= 1;
  console.log(
    `breaking changes: compared with ${landed.slice(0, 12)}, ${released ? "events, tasks, kept values and methods" : "events, tasks and kept values"}`,
  );
  return breakingChanges(before, now, { released });
}

layImports();
const faults = [...buf("lint"), ...buf("format", "contracts", "--diff", "--exit-code"), ...breaking()];
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
