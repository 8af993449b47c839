import type { SettingType } from "./setting-types.ts";

/** What a process may be told from outside: one variable of the environment. */
export type Setting<T, D extends T | undefined = T | undefined> = {
  /** The variable's name. */
  readonly name: string;
  readonly type: SettingType<T>;
  /** Undefined: unset unless said. */
  readonly default: D;
  /** What it is, for `polis config`. */
  readonly text: string;
  /** The command-line flag that overrides the variable, without its dashes. */
  readonly flag?: string;
  /** A setting without which this one makes no sense. */
  readonly needs?: string;
  /** A setting whose value this one can't have as well: two that listen on a host need a port each. 0, any free one, they can. */
  readonly apartFrom?: string;
};

// biome-ignore lint/suspicious/noExplicitAny: a setting of any type
type AnySetting = Setting<any>;
/** Settings by the property under which a process reads them; a nested table holds those of a kind, such as one a service. */
export type SettingsTable = { readonly [property: string]: AnySetting | SettingsTable };

type ValueOf<S> = S extends Setting<infer T, infer D> ? (undefined extends D ? T | undefined : T) : never;
/** The values of a table, under the same properties. */
export type SettingsOf<T extends SettingsTable> = {
  readonly [K in keyof T]: T[K] extends AnySetting ? ValueOf<T[K]> : T[K] extends SettingsTable ? SettingsOf<T[K]> : never;
};

export type Environment = { readonly [name: string]: string | undefined };

/** The settings can't be read; `faults` has a line for each of them. */
export class SettingsError extends Error {
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`these settings are wrong:\n${faults.map((fault) => `  ${fault}`).join("\n")}`);
    this.name = "SettingsError";
    this.faults = faults;
  }
}

/** Declares one setting. */
export const setting = <T, const D extends T | undefined>(declared: Setting<T, D>): Setting<T, D> => declared;

/**
 * Reads a table from the environment, or from `flags` (by the setting's flag), which go before. An empty text counts as
 * unset. Throws SettingsError with every fault.
 */
export function readSettings<T extends SettingsTable>(env: Environment, table: T, flags: Environment = {}): SettingsOf<T> {
  const faults: string[] = [];
  const read = (declared: AnySetting): unknown => {
    const given = source(env, declared, flags);
    if (given === undefined) return declared.default;
    if (declared.needs !== undefined && !env[declared.needs]) faults.push(`${given.label} needs ${declared.needs}, which is not set`);
    const value = declared.type.parse(given.text);
    if (value === undefined) faults.push(`${given.label} must be ${mustBe(declared, given.text)} (${declared.text})`);
    return value;
  };
  const readAll = (nested: SettingsTable): object =>
    Object.fromEntries(Object.entries(nested).map(([property, entry]) => [property, isSetting(entry) ? read(entry) : readAll(entry)]));
  const values = readAll(table);
  faults.push(...sharedValues(env, allSettings(table), flags));
  if (faults.length > 0) throw new SettingsError(faults);
  return values as SettingsOf<T>;
}

/** What a text that is none would have to be, and what of it is at fault, where its type can tell. */
function mustBe({ type }: AnySetting, given: string): string {
  const fault = type.fault?.(given);
  return fault === undefined ? type.must : `${type.must}: ${fault}`;
}

/** A fault for each setting that has the value of another from which it must keep apart. */
const sharedValues = (env: Environment, settings: readonly AnySetting[], flags: Environment): string[] =>
  settings.flatMap((declared) => {
    const other = settings.find(({ name }) => name === declared.apartFrom);
    const value = valueNow(env, declared, flags);
    if (other === undefined || value === undefined || value === 0 || value !== valueNow(env, other, flags)) return [];
    const [label, otherLabel] = [declared, other].map((one) => source(env, one, flags)?.label ?? one.name);
    return [`${label} is ${declared.type.show(value)}, and so is ${otherLabel}: each needs one of its own`];
  });

/** A setting as `polis config` shows it: secrets masked, `-` where there is nothing. */
export type SettingLine = {
  readonly name: string;
  readonly text: string;
  readonly default: string;
  readonly value: string;
  readonly from: "default" | "environment" | "flag";
};

/** Every setting of a table with its value now; one that can't be read says so in its place. */
export function describeSettings(env: Environment, table: SettingsTable, flags: Environment = {}): SettingLine[] {
  return allSettings(table).map((declared) => {
    const given = source(env, declared, flags);
    const value = valueNow(env, declared, flags);
    const unreadable = given !== undefined && value === undefined;
    return {
      name: declared.name,
      text: declared.text,
      default: declared.default === undefined ? "-" : declared.type.show(declared.default),
      value: unreadable ? `(wrong: must be ${mustBe(declared, given.text)})` : value === undefined ? "-" : declared.type.show(value),
      from: given?.from ?? "default",
    };
  });
}

/**
 * Names in the environment that look like ours and are none: likely a slip, each with what was likely meant. Only told, never
 * refused: an older release must start under the settings of a newer one.
 */
export function unknownSettings(env: Environment, table: SettingsTable, prefixes: readonly string[]): string[] {
  const known = allSettings(table).map(({ name }) => name);
  const isNearOne = (name: string): boolean =>
    name.length >= SLIP_LENGTH_MIN &&
    known.some((one) => Math.abs(one.length - name.length) <= SLIP_MAX && editDistance(name, one) <= SLIP_MAX);
  return Object.keys(env)
    .filter((name) => !known.includes(name) && !KUBERNETES.test(name))
    .filter((name) => prefixes.some((prefix) => name.startsWith(prefix)) || isNearOne(name))
    .sort()
    .map((name) => {
      const near = nearest(name, known);
      return near === undefined ? `${name} is no setting of Polis` : `${name} is no setting of Polis; did you mean ${near}?`;
    });
}

/** A name that isn't under our prefixes is a slip where it differs from one of ours by so few letters, and is long enough for that to be no chance. */
const SLIP_MAX = 2;
const SLIP_LENGTH_MIN = 8;

// Kubernetes puts these beside every container for each of its services, one called `polis` included.
const KUBERNETES = /_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/;

/** The name that differs from `name` in the fewest letters, three at the most. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const ranked = names.map((candidate) => ({ candidate, distance: editDistance(name, candidate) })).sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best !== undefined && best.distance <= Math.min(3, name.length / 2) ? best.candidate : undefined;
}

/** Letters to insert, delete or replace (Levenshtein). */
function editDistance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = (above[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, (above[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    above = current;
  }
  return above[b.length] ?? 0;
}

type Given = { readonly text: string; readonly label: string; readonly from: "environment" | "flag" };

function source(env: Environment, declared: AnySetting, flags: Environment): Given | undefined {
  const flagged = declared.flag === undefined ? undefined : flags[declared.flag];
  if (flagged !== undefined) return { text: flagged, label: `--${declared.flag}`, from: "flag" };
  const said = env[declared.name];
  return said === undefined || said === "" ? undefined : { text: said, label: declared.name, from: "environment" };
}

/** Undefined where there is none, or its text can't be read. */
function valueNow(env: Environment, declared: AnySetting, flags: Environment): unknown {
  const given = source(env, declared, flags);
  return given === undefined ? declared.default : declared.type.parse(given.text);
}

const isSetting = (entry: SettingsTable[string]): entry is AnySetting => typeof entry.name === "string";

/** Each once, though several tables may hold it. */
const allSettings = (table: SettingsTable): AnySetting[] => [...new Set(settingsIn(table))];

const settingsIn = (table: SettingsTable): AnySetting[] =>
  Object.values(table).flatMap((entry) => (isSetting(entry) ? [entry] : settingsIn(entry)));
