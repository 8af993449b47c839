/** How `bin/polis.js` has Node run Polis: whoever measures it runs it so. */
export const nodeOptions: readonly string[] = ["--disable-warning=ExperimentalWarning", "--max-semi-space-size=64"];
