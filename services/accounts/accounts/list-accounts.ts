import { create } from "@bufbuild/protobuf";
import { AccountsService, ListAccountsResponseSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { requireUser } from "#platform/access/caller.ts";
import { page } from "#platform/reads/page.ts";
import { query } from "#platform/reads/query.ts";
import { accounts } from "../tables.ts";
import { toAccount } from "./account.ts";

/** The caller's accounts, oldest first: their ids are made in the order of time. */
export const listAccounts = query(AccountsService.method.listAccounts, async (request, { sql, caller }) => {
  const { userId } = requireUser(caller);
  const { rows, nextPageToken } = await page(sql, accounts, { where: { userId }, by: ["id"] }, request);
  return create(ListAccountsResponseSchema, { accounts: rows.map(toAccount), nextPageToken });
});
