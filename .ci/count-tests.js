// Prints the tests that failed or were skipped, and `tests: N passed, N failed, N skipped`, from Vitest's JSON reports of several
// runs: a test counts as skipped that ran in none of them, as those on engines do in the run without. Fails where no test ran, or one
// in none.
import { readFileSync } from "node:fs";

// CI shows the end of what was printed: the reasons fit in there.
const MOST_SKIPPED = 10;
const MOST_OF_A_MESSAGE = 600;

const counts = { passed: 0, failed: 0 };
const ran = new Set();
const left = new Set();
for (const path of process.argv.slice(2))
  for (const { name: file, assertionResults } of JSON.parse(readFileSync(path, "utf8")).testResults)
    for (const { fullName, status, failureMessages } of assertionResults) {
      const isRun = status in counts;
      if (isRun) counts[status] += 1;
      (isRun ? ran : left).add(`${file} ${fullName}`);
      if (status === "failed") console.log(`failed: ${file} ${fullName}\n${failureMessages.join("\n").slice(0, MOST_OF_A_MESSAGE)}`);
    }
const skipped = [...left].filter((test) => !ran.has(test));
for (const test of skipped.slice(0, MOST_SKIPPED)) console.log(`skipped: ${test}`);
if (skipped.length > MOST_SKIPPED) console.log(`skipped: ${skipped.length - MOST_SKIPPED} more`);
console.log(`tests: ${counts.passed} passed, ${counts.failed} failed, ${skipped.length} skipped`);
process.exitCode = counts.passed + counts.failed === 0 || skipped.length > 0 ? 1 : 0;
