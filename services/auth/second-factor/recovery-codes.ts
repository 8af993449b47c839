import { randomInt } from "node:crypto";

const CODES = 10;
/** 32 of them (Crockford): none is taken for another in handwriting. */
const LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS = 3;
/** Three groups of four letters of five bits: 60 bits. */
const GROUP_LETTERS = 4;

/** As they are shown: `7K3M-Q0ZT-94HD`. */
export const makeRecoveryCodes = (): string[] => Array.from({ length: CODES }, () => Array.from({ length: GROUPS }, makeGroup).join("-"));

const makeGroup = (): string => Array.from({ length: GROUP_LETTERS }, () => LETTERS[randomInt(LETTERS.length)]).join("");

/** What was typed, as it was meant. */
export const meantCode = (typed: string): string =>
  typed.toUpperCase().replaceAll(/[ -]/g, "").replaceAll("O", "0").replaceAll(/[IL]/g, "1");
