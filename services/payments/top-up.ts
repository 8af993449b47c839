import { create } from "@bufbuild/protobuf";
import { AccountsService, Posting_Outcome, Transaction_Type, TransactionSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { PaymentsService } from "#contracts/polis/payments/v1/payments_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { isRejection, reject } from "#platform/rejection.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { operation } from "#platform/writes/definitions.ts";
import { topUps } from "./tables.ts";

/**
 * Credits an account of the caller. The posting carries an id derived from the command, so a repeat after a crash between
 * the posting and our own row finds the money there and credits no second time.
 */
export const topUp = operation(PaymentsService.method.topUp, {
  async prepare({ accountId, amount }, { peer, commandId }) {
    const account = await peer(AccountsService).getAccount({ accountId }).catch(accountNotFound);
    if (isRejection(account)) return account;
    const leg = {
      debit: { account: { case: "house", value: "world" } },
      credit: { account: { case: "accountId", value: account.id } },
      amount,
      currency: account.currency,
    } as const;
    return peer(AccountsService)
      .post({ postingId: commandId, legs: [leg] })
      .catch(keyReused);
  },
  lock: (_, { commandId }) => topUps.row(commandId),
  write(tx, { accountId, amount }, { caller, commandId, prepared: posting, locked: earlier }) {
    if (isRejection(posting)) return posting;
    const [leg] = posting.legs;
    if (posting.outcome !== Posting_Outcome.POSTED || leg === undefined) return reject(posting.reason ?? "account_not_found");
    const createdAt = posting.createdAt as NonNullable<typeof posting.createdAt>;
    // There from the first time already where the key was forgotten since: the posting is the same one.
    if (earlier === undefined) tx.insert(topUps, { id: commandId, userId: requireUser(caller).userId, accountId, amount, createdAt });
    return create(TransactionSchema, { id: leg.id, accountId: leg.creditAccountId, amount, type: Transaction_Type.CREDIT, createdAt });
  },
});

function accountNotFound(error: unknown) {
  if (error instanceof CallError && error.status === "NOT_FOUND") return reject("account_not_found");
  throw error;
}

/** Nothing was stored under the key yet, but the money of its first request was posted: the same answer as if it had been. */
function keyReused(error: unknown): never {
  if (error instanceof CallError && error.code === "posting_id_reused")
    throw new CallError("ALREADY_EXISTS", "idempotency_key_reused", "This Idempotency-Key stands for another request.");
  throw error;
}
