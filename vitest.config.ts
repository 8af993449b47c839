import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["{platform,services,scenarios,cli,contracts,bench,deploy,.ci}/**/*.test.ts"],
    // Node loads the code itself, as `npm start` does: what runs here runs there.
    experimental: { viteModuleRunner: false },
    // One PostgreSQL server for the run; what other engines there are is told.
    globalSetup: ["platform/postgres/server.testing.ts", "platform/engines.testing.ts"],
    // Processes, since parts set timers, sockets and signals of their own; two, since the machines have two cores.
    pool: "forks",
    maxWorkers: 2,
    // Bounds for a machine that others work on as well; nothing waits for them where all is well.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 15_000,
    reporters:
      process.env.CI === undefined
        ? ["default"]
        : [
            ["default", { summary: false }],
            ["json", { outputFile: process.env.TESTS_REPORT ?? ".cache/reports/tests.json" }],
          ],
  },
});
