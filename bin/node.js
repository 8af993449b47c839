#!/usr/bin/env node
// Runs a script under the Node that Polis is written for, whatever Node started this one:
//   node bin/node.js path/to/script.ts args…
// Plain JavaScript on purpose: it must run on Node 20. The right Node comes as an npm package without install scripts.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const NODE_MAJOR = 24;
/** How often it is looked whether the parent is still there. */
const PARENT_PAUSE_MS = 250;
const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The path of a Node of at least NODE_MAJOR, or a message that says how to get one. */
export function findNode() {
  if (Number.parseInt(process.versions.node, 10) >= NODE_MAJOR) return process.execPath;
  const require = createRequire(import.meta.url);
  const platform = process.platform === "win32" ? "win" : process.platform;
  for (const name of [`node-${platform}-${process.arch}`, `node-bin-${platform}-${process.arch}`]) {
    try {
      const manifest = require.resolve(`${name}/package.json`);
      return join(dirname(manifest), "bin", platform === "win" ? "node.exe" : "node");
    } catch {
      // Not the package of this platform, or optional dependencies were left out.
    }
  }
  throw new Error(
    `Polis needs Node ${NODE_MAJOR} or later; this is ${process.version}. For ${process.platform}-${process.arch} ` +
      "npm has none, or `npm install` was told to omit optional dependencies: install them, or Node itself.",
  );
}

/**
 * Runs `script` with `args` as a child that shares the terminal, and ends as it ends. A child that is `tied` has a channel to
 * this process, and by its end ("disconnect") learns that this one was killed.
 */
export function runUnderNode(script, args, { tied = false, nodeOptions = [] } = {}) {
  let node;
  try {
    node = findNode();
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
  const child = spawn(node, ["--disable-warning=ExperimentalWarning", ...nodeOptions, script, ...args], {
    stdio: tied ? ["inherit", "inherit", "inherit", "ipc"] : "inherit",
    env: {
      ...process.env,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(root, "node_modules", ".cache", "compile"),
      // Tools that start `node` by name (buf's plugins) get the same one.
      PATH: `${dirname(node)}${delimiter}${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH ?? ""}`,
    },
  });
  // A terminal signals the whole group, a supervisor only this process: hand on what arrives, and let the child decide.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
    });
  }
  // npm's signals go to the shell that it runs scripts in, and end there: what tells of the end of npm is that the shell is gone.
  if (process.env.npm_lifecycle_event !== undefined) {
    const shell = process.ppid;
    const watch = setInterval(() => {
      if (process.ppid === shell) return;
      clearInterval(watch);
      child.kill("SIGTERM");
    }, PARENT_PAUSE_MS);
    watch.unref();
  }
  child.on("error", (error) => {
    console.error(`${node} can't be started: ${error.message}`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    if (signal !== null) {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    } else process.exit(code ?? 1);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [script, ...args] = process.argv.slice(2);
  if (script === undefined) {
    console.error("usage: node bin/node.js <script> [args…]");
    process.exit(2);
  }
  runUnderNode(script, args);
}
