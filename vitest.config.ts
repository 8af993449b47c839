import { existsSync } from "node:fs";
import { defineConfig } from "vitest/config";

const postgres = "platform/postgres/testing-server.ts";

export default defineConfig({
  test: {
    include: ["{platform,services,scenarios,cli,contracts,bench,.ci}/**/*.test.ts"],
    // One PostgreSQL server for the run.
    globalSetup: existsSync(postgres) ? [postgres] : [],
    // Processes, since parts set timers, sockets and signals of their own; two, since the machines have two cores.
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 30_000,
    teardownTimeout: 15_000,
    reporters: process.env.CI === undefined ? ["default"] : [["default", { summary: false }]],
  },
});
