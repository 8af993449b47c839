import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, createFileRegistry, type DescMessage, getOption, hasOption, toBinary } from "@bufbuild/protobuf";
import { type FileDescriptorSet, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { event, task } from "#contracts/polis/options/v1/options_pb.ts";
import { buf } from "../contracts/buf.ts";

/** Events, and what is kept in the key-value store. */
const isEventsOrKept = (path: string): boolean => /^polis\/.*\/(events|kept)\.proto$/.test(path);
const isContract = (path: string): boolean => path.startsWith("polis/") && !path.startsWith("polis/options/");

/** Files with messages that are tasks. */
function taskFiles(set: FileDescriptorSet): ReadonlySet<string> {
  const types = [...createFileRegistry(set)].filter((type) => type.kind === "message" && hasOption(type, task));
  return new Set(types.map((type) => `${type.file.name}.proto`));
}

/**
 * What a reader of `before` would stumble over in `now`, a line each. Events, tasks and kept values are read by older and newer code
 * alike, and lie in logs, tables and Redis: of them nothing may be taken away or change, ever. Methods are promised with the first release (`released`).
 */
export function breakingChanges(before: FileDescriptorSet, now: FileDescriptorSet, { released }: { released: boolean }): string[] {
  const tasks = taskFiles(before);
  const watched = (path: string): boolean => (released ? isContract(path) : isEventsOrKept(path) || tasks.has(path));
  return [...changedShapes(withImports(before, watched), withImports(now, watched), watched), ...changedEvents(before, now)];
}

/** buf's rules FILE: no file, message, field, value or method goes, none changes its name, number or type. */
function changedShapes(before: FileDescriptorSet, now: FileDescriptorSet, watched: (path: string) => boolean): string[] {
  const folder = mkdtempSync(join(tmpdir(), "polis-breaking-"));
  try {
    const write = (name: string, set: FileDescriptorSet): string => {
      writeFileSync(join(folder, name), toBinary(FileDescriptorSetSchema, set));
      return join(folder, name);
    };
    const ignored = before.file.map(({ name }) => name).filter((name) => !watched(name));
    const config = JSON.stringify({ version: "v1", breaking: { use: ["FILE"], ignore: ignored } });
    return buf("breaking", write("now.binpb", now), "--against", write("before.binpb", before), "--config", config);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What buf's rules don't see: an event that moves to another topic, or is ordered by another field. */
function changedEvents(before: FileDescriptorSet, now: FileDescriptorSet): string[] {
  const messages = createFileRegistry(now);
  return [...createFileRegistry(before)].flatMap((type) => {
    if (type.kind !== "message" || !hasOption(type, event)) return [];
    const successor = messages.getMessage(type.typeName);
    if (successor === undefined) return []; // that it went, buf says
    const [was, is] = [place(type), place(successor)];
    return was === is ? [] : [`${type.file.name}.proto: ${type.typeName} was ${was} and is ${is}`];
  });
}

function place(message: DescMessage): string {
  const { topic, key, partitions } = getOption(message, event);
  return `on topic "${topic}" by "${key}" in ${partitions} partitions`;
}

/** The files of a set that are watched, with all that they import. */
function withImports(set: FileDescriptorSet, watched: (path: string) => boolean): FileDescriptorSet {
  const files = new Map(set.file.map((file) => [file.name, file]));
  const taken = new Set<string>();
  const take = (name: string): void => {
    if (taken.has(name)) return;
    taken.add(name);
    files.get(name)?.dependency.forEach(take);
  };
  for (const name of files.keys()) if (watched(name)) take(name);
  return create(FileDescriptorSetSchema, { file: set.file.filter(({ name }) => taken.has(name)) });
}
