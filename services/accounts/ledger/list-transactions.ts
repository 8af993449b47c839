import { create } from "@bufbuild/protobuf";
import { AccountsService, ListTransactionsResponseSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { page } from "#platform/reads/page.ts";
import { find, query } from "#platform/reads/query.ts";
import { reject } from "#platform/rejection.ts";
import { accounts, transactions } from "../tables.ts";

/** What moved on one account of the caller, newest first. */
export const listTransactions = query(AccountsService.method.listTransactions, async (request, { sql, caller }) => {
  const account = await find(sql, accounts.row(request.accountId));
  if (account?.userId !== requireUser(caller).userId) return reject("account_not_found");
  const order = { where: { accountId: account.id }, by: ["createdAt", "id"], newestFirst: true } as const;
  const { rows, nextPageToken } = await page(sql, transactions, order, request);
  return create(ListTransactionsResponseSchema, { transactions: rows, nextPageToken });
});
