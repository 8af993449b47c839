import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Account, AccountSchema } from "#contracts/polis/accounts/v1/accounts_pb.ts";
import { derivedUuid } from "#platform/ids.ts";
import type { AccountKind, AccountRow } from "../tables.ts";

export const DEFAULT_KIND = "current";
export const DEFAULT_CURRENCY = "RUB";

/** Names the one account that an owner may have of a kind. */
export const ownerKey = (userId: string, kind: string): string => derivedUuid("owner", userId.toLowerCase(), kind);

/** A new account, empty. */
export const open = (kind: AccountKind, facts: { id: string; userId: string; currency: string; now: Timestamp }): AccountRow => ({
  id: facts.id,
  userId: facts.userId,
  kind: kind.kind,
  currency: facts.currency,
  balance: 0n,
  ownerKey: kind.onePerOwner ? ownerKey(facts.userId, kind.kind) : undefined,
  createdAt: facts.now,
  updatedAt: facts.now,
});

/** The account as its owner sees it. Nothing is held yet, so all of the balance is available. */
export const toAccount = ({ ownerKey: _, ...row }: AccountRow): Account => create(AccountSchema, { ...row, available: row.balance });
