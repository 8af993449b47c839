import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type User, User_Status, UserSchema } from "#contracts/polis/auth/v1/auth_pb.ts";
import { isOn } from "../second-factor/second-factor.ts";
import type { SecondFactorRow, UserRow } from "../tables.ts";
import { type Contact, contactColumns } from "./contact.ts";

/** A new account. */
export const makeUser = (facts: {
  readonly id: string;
  readonly contact: Contact;
  /** Without one, nobody signs in by a password. */
  readonly passwordHash: string | undefined;
  readonly roles: readonly string[];
  readonly locale: string;
  readonly now: Timestamp;
}): UserRow => ({
  id: facts.id,
  status: "ACTIVE",
  ...contactColumns(facts.contact),
  passwordHash: facts.passwordHash,
  roles: rolesText(facts.roles),
  tokenVersion: 1,
  sessionEpoch: 1,
  locale: facts.locale,
  blockedReason: undefined,
  createdAt: facts.now,
  updatedAt: facts.now,
});

export const rolesText = (roles: readonly string[]): string => roles.toSorted().join(" ");
export const rolesOf = ({ roles }: Pick<UserRow, "roles">): string[] => (roles === "" ? [] : roles.split(" "));

/** With another word about who the user is, tokens of before are of an earlier version. */
export const changed = (user: UserRow, change: Partial<UserRow>, now: Timestamp): UserRow => ({
  ...user,
  ...change,
  tokenVersion: user.tokenVersion + 1,
  updatedAt: now,
});

export const toUser = (user: UserRow, factor: SecondFactorRow | undefined): User =>
  create(UserSchema, {
    id: user.id,
    status: User_Status[user.status],
    ...(user.email === undefined ? {} : { email: user.email }),
    ...(user.phone === undefined ? {} : { phone: user.phone }),
    roles: rolesOf(user),
    secondFactor: isOn(factor),
    createdAt: user.createdAt,
    ...(user.blockedReason === undefined ? {} : { blockedReason: user.blockedReason }),
  });
