import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createFileRegistry, type DescFile, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { buf } from "./buf.ts";

/** The file that buf makes of a text at a path, with others `beside` it by their paths, and what Google brings. Throws what buf says of it. */
export function fileOf(path: string, text: string, beside: Readonly<Record<string, string>> = {}): DescFile {
  const folder = mkdtempSync(join(tmpdir(), "polis-proto-"));
  try {
    for (const [name, content] of Object.entries({ ...beside, [path]: text })) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), content);
    }
    const descriptors = join(folder, "out.binpb");
    const faults = buf("build", folder, "--as-file-descriptor-set", "--output", descriptors);
    if (faults.length > 0) throw new Error(faults.join("\n"));
    return createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors))).getFile(path) as DescFile;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
