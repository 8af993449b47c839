import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { defineService } from "#platform/service.ts";
import { getAccount } from "./accounts/get-account.ts";
import { listAccounts } from "./accounts/list-accounts.ts";
import { openAccount } from "./accounts/open-account.ts";
import { checkBooks } from "./ledger/check-books.ts";
import { listTransactions } from "./ledger/list-transactions.ts";
import { post } from "./ledger/post.ts";
import { voidPosting } from "./ledger/void.ts";

export const accountsService = defineService(AccountsService, {
  folder: import.meta.dirname,
  operations: { openAccount, getAccount, listAccounts, listTransactions, post, void: voidPosting, checkBooks },
});
