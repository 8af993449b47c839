import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import {
  type AccountRef,
  type Posting,
  Posting_Outcome,
  PostingSchema,
  type PostRequest,
} from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { derivedUuid } from "#platform/ids.ts";
import type { PostingRow } from "../tables.ts";
import type { RejectionReason, ResolvedLeg } from "./ledger.ts";

/** At most so many legs has a posting; the contract says the same. */
export const LEGS_MAX = 64;

/** The id of a leg's row, and of its transaction: the posting's own for the first. */
export const legId = (postingId: string, leg: number): string =>
  leg === 0 ? postingId.toLowerCase() : derivedUuid("leg", postingId.toLowerCase(), String(leg));

/** What tells a repeat from another posting under the same id: a hash of all that the request says beside the id. */
export const contentOf = ({ legs, referenceOrderId }: PostRequest): string =>
  derivedUuid(
    "posting",
    referenceOrderId ?? "",
    ...legs.flatMap(({ debit, credit, amount, currency }) => [nameOf(debit), nameOf(credit), `${amount}${currency}`]),
  );

function nameOf(ref: AccountRef | undefined): string {
  switch (ref?.account.case) {
    case "accountId":
      return `id ${ref.account.value.toLowerCase()}`;
    case "owner":
      return `owner ${ref.account.value.userId.toLowerCase()} ${ref.account.value.kind}`;
    default:
      return `house ${ref?.account.value ?? ""}`;
  }
}

/** The rows of a posting that was made. */
export const postedRows = (request: PostRequest, legs: readonly ResolvedLeg[], createdAt: Timestamp): PostingRow[] => {
  const content = contentOf(request);
  return legs.map(({ debit, credit, amount, currency }, leg) => ({
    id: legId(request.postingId, leg),
    postingId: request.postingId,
    leg,
    outcome: "POSTED",
    reason: undefined,
    content,
    debitAccountId: debit?.account.id,
    creditAccountId: credit?.account.id,
    amount,
    currency,
    referenceOrderId: request.referenceOrderId,
    createdAt,
  }));
};

const nothing = { leg: 0, debitAccountId: undefined, creditAccountId: undefined, amount: 0n } as const;

/** The row that keeps a rejection under its id. */
export const rejectedRow = (request: PostRequest, reason: RejectionReason, createdAt: Timestamp): PostingRow => ({
  ...nothing,
  id: legId(request.postingId, 0),
  postingId: request.postingId,
  outcome: "REJECTED",
  reason,
  content: contentOf(request),
  currency: request.legs[0]?.currency ?? "",
  referenceOrderId: request.referenceOrderId,
  createdAt,
});

/** The row that claims an id, so that nothing can be posted under it any more. */
export const voidedRow = (postingId: string, createdAt: Timestamp): PostingRow => ({
  ...nothing,
  id: legId(postingId, 0),
  postingId,
  outcome: "VOIDED",
  reason: undefined,
  content: undefined,
  currency: "",
  referenceOrderId: undefined,
  createdAt,
});

/** The answer that the rows of one posting stand for, in the order of their legs. */
export function toPosting(rows: readonly [PostingRow, ...PostingRow[]]): Posting {
  const [{ postingId, outcome, reason, createdAt }] = rows;
  return create(PostingSchema, {
    id: postingId,
    outcome: Posting_Outcome[outcome],
    ...(reason === undefined ? {} : { reason }),
    legs:
      outcome === "POSTED"
        ? rows.map(({ id, debitAccountId = "", creditAccountId = "", amount, currency }) => ({
            id,
            debitAccountId,
            creditAccountId,
            amount,
            currency,
          }))
        : [],
    createdAt,
  });
}
