import { strict as assert } from "node:assert";
import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { reject } from "#platform/rejection.ts";
import { operation } from "#platform/writes/definitions.ts";
import { accountKinds, accounts } from "../tables.ts";
import { DEFAULT_CURRENCY, DEFAULT_KIND, open, ownerKey, toAccount } from "./account.ts";

/** Opens the caller's account, unless there is one of a kind that allows one. */
export const openAccount = operation(AccountsService.method.openAccount, {
  lock: (_, { caller }) => ({
    kind: accountKinds.row(DEFAULT_KIND),
    existing: accounts.rowBy("ownerKey", ownerKey(requireUser(caller).userId, DEFAULT_KIND)),
  }),
  write(tx, request, { caller, id, now, locked: { kind, existing } }) {
    assert(kind, `the kind ${DEFAULT_KIND} is missing`);
    if (existing !== undefined) return reject("account_exists");
    const currency = request.currency === "" ? DEFAULT_CURRENCY : request.currency;
    const account = open(kind, { id, userId: requireUser(caller).userId, currency, now });
    tx.insert(accounts, account);
    return toAccount(account);
  },
});
