import { create } from "@bufbuild/protobuf";
import { AccountsService, CheckBooksResponseSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { query } from "#platform/reads/query.ts";

const FAULTS_MAX = 100;

/**
 * One statement, so one snapshot: every account's balance as its postings make it, beside what is stored. Balances of the
 * house are only ever summed, so an asset sums to zero exactly when each stored balance is what its postings say and no
 * posting names an account that isn't there.
 */
const BOOKS = `
  WITH entries AS (
    SELECT debit_account_id AS account_id, currency, -amount AS amount FROM postings WHERE outcome = 'POSTED'
    UNION ALL
    SELECT credit_account_id, currency, amount FROM postings WHERE outcome = 'POSTED'
  ), derived AS (
    SELECT account_id, currency, sum(amount) AS balance FROM entries GROUP BY account_id, currency
  ), books AS (
    SELECT coalesce(a.id, h.id, d.account_id) AS id, coalesce(a.currency, h.currency) AS currency, d.currency AS posted_in,
           coalesce(d.balance, 0) AS derived, CASE WHEN h.id IS NULL THEN a.balance ELSE d.balance END AS stored
    FROM derived d FULL JOIN accounts a ON a.id = d.account_id LEFT JOIN house_accounts h ON h.id = d.account_id
  )
  SELECT currency, sum(stored)::text AS sum, NULL AS fault FROM books WHERE currency IS NOT NULL GROUP BY currency
  UNION ALL
  (SELECT NULL, NULL, CASE
      WHEN currency IS NULL THEN format('account %s has postings and no row', id)
      WHEN posted_in <> currency THEN format('account %s is in %s and has postings in %s', id, currency, posted_in)
      ELSE format('account %s has %s, its postings make %s', id, stored, derived) END
    FROM books WHERE currency IS NULL OR posted_in <> currency OR stored <> derived LIMIT ${FAULTS_MAX})
  ORDER BY 1 NULLS LAST`;

const COUNTS = "SELECT (SELECT count(*) FROM accounts) AS accounts, (SELECT count(*) FROM postings WHERE outcome = 'POSTED') AS postings";

/** Checks the books: every asset sums to zero, every balance is what its postings make it. */
export const checkBooks = query(AccountsService.method.checkBooks, async (_, { sql }) => {
  const [books, counts] = await Promise.all([
    sql.query<{ currency: string | null; sum: string; fault: string | null }>({ text: BOOKS }),
    sql.query<{ accounts: bigint; postings: bigint }>({ text: COUNTS }),
  ]);
  const sums = books.rows
    .filter(({ fault }) => fault === null)
    .map(({ currency, sum }) => ({ currency: currency ?? "", sum: BigInt(sum) }));
  const faults = books.rows.flatMap(({ fault }) => (fault === null ? [] : [fault]));
  for (const { currency, sum } of sums) if (sum !== 0n) faults.push(`${currency} sums to ${sum}`);
  return create(CheckBooksResponseSchema, { balanced: faults.length === 0, assets: sums, faults, ...counts.rows[0] });
});
