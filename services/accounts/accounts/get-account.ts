import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { find, query } from "#platform/reads/query.ts";
import { accounts } from "../tables.ts";
import { toAccount } from "./account.ts";

/** One account; that it is the caller's, the contract demands (`owner`). */
export const getAccount = query(AccountsService.method.getAccount, async ({ accountId }, { sql }) => {
  const account = await find(sql, accounts.row(accountId));
  return account === undefined ? undefined : toAccount(account);
});
