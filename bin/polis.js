#!/usr/bin/env node
// `polis …`: finds the right Node and hands over to cli/main.ts.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runUnderNode } from "./node.js";

runUnderNode(join(dirname(dirname(fileURLToPath(import.meta.url))), "cli", "main.ts"), process.argv.slice(2), {
  tied: true,
  // A thousand calls that wait for their batch outlive V8's default young generation (16 MiB) and are copied again and again:
  // with 64 MiB a posting costs a fifth less.
  nodeOptions: ["--max-semi-space-size=64"],
});
