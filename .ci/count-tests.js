// Prints `tests: N passed, N failed, N skipped` from Vitest's JSON report; fails where no test ran.
import { readFileSync } from "node:fs";

const report = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { numPassedTests: passed, numFailedTests: failed, numPendingTests: pending, numTodoTests: todo } = report;
console.log(`tests: ${passed} passed, ${failed} failed, ${pending + todo} skipped`);
process.exitCode = passed + failed === 0 ? 1 : 0;
