import { AsyncLocalStorage } from "node:async_hooks";

const inTransaction = new AsyncLocalStorage<true>();

/**
 * Runs `run` so that every client called inside it throws. For open transactions: a call in there would hold rows and a
 * connection for as long as a peer takes.
 */
export const withoutCalls = <T>(run: () => T): T => inTransaction.run(true, run);

/** Throws where a transaction is open: a programmer's fault. */
export function assertCallsAllowed(method: { readonly name: string; readonly parent: { readonly typeName: string } }): void {
  if (inTransaction.getStore() === true)
    throw new Error(`${method.parent.typeName}/${method.name} was called inside a transaction; call peers before it`);
}
