#!/usr/bin/env node
// `polis …`: finds the right Node and hands over to cli/main.ts.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runUnderNode } from "./node.js";

runUnderNode(join(dirname(dirname(fileURLToPath(import.meta.url))), "cli", "main.ts"), process.argv.slice(2), { tied: true });
