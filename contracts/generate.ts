// Generates what is made from the contracts: *_pb.ts beside each .proto file, and descriptors.binpb, which holds them all with
// their comments. With --check nothing is written: it fails, naming the files, when what lies there isn't what comes out.
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { buf } from "./buf.ts";
import { layImports } from "./imports.ts";

const contracts = import.meta.dirname;

/** What ought to lie in contracts/, by path. */
function generated(): Map<string, Uint8Array> {
  layImports();
  const folder = mkdtempSync(join(tmpdir(), "polis-contracts-"));
  try {
    const descriptors = join(folder, "contracts", "descriptors.binpb");
    const faults = [...buf("generate", "--output", folder), ...buf("build", "--as-file-descriptor-set", "--output", descriptors)];
    if (faults.length > 0) throw new Error(faults.join("\n"));
    const read = (path: string): Uint8Array => readFileSync(join(folder, "contracts", path));
    return new Map([
      ["descriptors.binpb", inOrder(read("descriptors.binpb"))],
      ...globSync("**/*_pb.ts", { cwd: join(folder, "contracts") }).map((path) => [path, read(path)] as const),
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The same descriptors, files by name but after what they import: buf's own order depends on more than the contracts. */
function inOrder(set: Uint8Array): Uint8Array {
  const { file: files } = fromBinary(FileDescriptorSetSchema, set);
  const left = new Map(files.sort((a, b) => (a.name < b.name ? -1 : 1)).map((file) => [file.name, file]));
  const ordered: FileDescriptorProto[] = [];
  const place = (name: string): void => {
    const file = left.get(name);
    if (file === undefined) return;
    left.delete(name);
    for (const imported of file.dependency) place(imported);
    ordered.push(file);
  };
  for (const { name } of files) place(name);
  return toBinary(FileDescriptorSetSchema, { $typeName: "google.protobuf.FileDescriptorSet", file: ordered });
}

const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
const expected = generated();
const stale = globSync("**/*_pb.ts", { cwd: contracts }).filter((path) => !expected.has(path));
const changed = [...expected].filter(([path, content]) => !isSame(join(contracts, path), content));
if (values.check && stale.length + changed.length > 0) {
  console.error("What is generated from the contracts isn't up to date; run `npm run contracts`, and commit:");
  for (const path of [...changed.map(([name]) => name), ...stale].sort()) console.error(`  contracts/${path}`);
  process.exitCode = 1;
} else if (!values.check) {
  for (const path of stale) rmSync(join(contracts, path));
  for (const [path, content] of changed) writeFileSync(join(contracts, path), content);
  console.log(`${expected.size} files from the contracts; ${changed.length} written, ${stale.length} removed`);
}

function isSame(path: string, content: Uint8Array): boolean {
  try {
    return readFileSync(path).equals(content);
  } catch {
    return false;
  }
}
