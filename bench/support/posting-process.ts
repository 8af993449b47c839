// One of several processes of accounts on the same database: `posting-process.ts POSTGRES_URL FOLDER`.
import { AccountsService } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { serviceCaller } from "#platform/access/caller.ts";
import { uuidv7 } from "#platform/ids.ts";
import { accountsService } from "../../services/accounts/service.ts";
import { keepCalling } from "./calling.ts";
import { answerJobs } from "./child.ts";
import { startPolis } from "./polis.ts";

/** Charge this account, with so many callers, for so long. */
export type PostingJob = { readonly accountId: string; readonly callers: number; readonly ms: number };
export type PostingsDone = { readonly count: number; readonly elapsedMs: number };

const [url = "", folder = ""] = process.argv.slice(2);
const parts = new AsyncDisposableStack();
const client = startPolis({ url, folder }, parts, [accountsService]).then((polis) =>
  polis.clientFor(serviceCaller("payments"))(AccountsService),
);

answerJobs<PostingJob, PostingsDone>(
  async ({ accountId, callers, ms }) => {
    const { post } = await client.then((accounts) => ({ post: accounts.post.bind(accounts) }));
    return keepCalling(callers, { ms }, () =>
      post({
        postingId: uuidv7(),
        legs: [
          {
            debit: { account: { case: "accountId", value: accountId } },
            credit: { account: { case: "house", value: "sales" } },
            amount: 1n,
            currency: "RUB",
          },
        ],
      }),
    );
  },
  () => parts.disposeAsync(),
);
