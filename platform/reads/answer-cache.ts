import { createHash, randomBytes } from "node:crypto";
import { type DescMethod, type DescMethodUnary, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { BytesValueSchema } from "@bufbuild/protobuf/wkt";
import type { Caller } from "#platform/access/caller.ts";
import { type ValuesOf, values } from "#platform/kv/kinds.ts";
import { cacheKinds, type Kv } from "#platform/kv/kv.ts";
import { CACHED_MS_MAX, type CacheRule, cacheRule, groupName } from "#platform/reads/cache-rules.ts";
import { isRejection, type Rejection } from "#platform/rejection.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/** Answers to public reads are kept in the process for so long: as long as it hears nothing of what others forget. */
const NEAR_MS = 1_000;
const NEAR_BYTES_MAX = 32 * 1024 * 1024;
/** Of an answer that is kept, beside its bytes. */
const NEAR_OVERHEAD = 700;
/** Words that are changed by one operation. */
const WORDS_AT_ONCE = 500;
/** Groups whose word couldn't be changed: 15 MB of them. */
const UNFORGOTTEN_MAX = 100_000;
/** What is larger isn't kept. */
const ANSWER_BYTES_MAX = 64 * 1024;

/** Cached answers of one method that are forgotten together. */
export type AnswerGroup = { readonly method: DescMethod; readonly group: string };

type Answer = Message | Rejection | undefined;

/** What a method's answers are cached by, and how many of them came from where. */
type Rule = CacheRule & { readonly counts: Record<From, number> };

/** Where an answer came from. */
type From = "near" | "store" | "made";

type Kept = { readonly message: Message; readonly untilMs: number; readonly bytes: number };

/** The answers of one group in this process. One that is forgotten is thrown away whole. */
type Near = { readonly answers: Map<string, Kept> };

/**
 * Answers to reads, kept in the key-value store. Every answer stands under a word that its group has, and to forget a group is to
 * change its word: what is read from the database before a change can then only be kept under the word of before. Of a request that
 * is asked for many times at once, the answer is made once in a process. Where the store is away, answers are made as if there were
 * no cache.
 */
export class AnswerCache {
  readonly #rules: ReadonlyMap<DescMethod, Rule>;
  readonly #words: ValuesOf<typeof BytesValueSchema>;
  readonly #answers: ValuesOf<typeof BytesValueSchema>;
  readonly #near = new Map<string, Near>();
  /** What is being made or fetched, by its place. */
  readonly #flights = new Map<string, Promise<Found>>();
  /**
   * Where the word of a group may still be the one of before a change, the oldest change first. Each change has an object of its own:
   * what forgets one isn't what forgets another.
   */
  readonly #unforgotten = new Map<string, { readonly untilMs: number }>();
  /** Changes the words of all of them, once for all who ask meanwhile. */
  #catchingUp: Promise<void> | undefined;
  /** Until then no word is believed. */
  #blindUntilMs = Number.NEGATIVE_INFINITY;
  readonly #log: Log;
  #nearBytes = 0;

  /** Throws, naming the method, where the contract's word on its cache can't be kept. */
  constructor(options: {
    readonly service: string;
    readonly methods: readonly DescMethodUnary[];
    readonly kv: Kv;
    readonly metrics: Metrics;
    readonly log: Log;
  }) {
    const { service, methods, kv, metrics } = options;
    this.#log = options.log;
    this.#rules = new Map(methods.map((method) => [method, { ...cacheRule(method), counts: { near: 0, store: 0, made: 0 } }]));
    // A word lives as long as any answer under it.
    const cache = { loss: "cache", ttlMs: CACHED_MS_MAX } as const;
    const names = cacheKinds(service);
    this.#words = kv.of(values(names.groups, BytesValueSchema, cache));
    this.#answers = kv.of(values(names.answers, BytesValueSchema, cache));
    const counter = metrics.counter("polis_cache_answers_total", "Answers to reads that are cached, by where they came from", [
      "service",
      "method",
      "from",
    ]);
    // Counted apart, and told when somebody looks: a counter's own `inc` takes as long as all the rest of a near answer.
    metrics.measureWhenRead(() => {
      for (const [{ name: method }, { counts }] of this.#rules)
        for (const [from, count] of Object.entries(counts)) {
          counter.inc({ service, method, from }, count);
          counts[from as From] = 0;
        }
    });
  }

  caches(method: DescMethod): boolean {
    return this.#rules.has(method);
  }

  /** The answer to a request: one that is kept, or what `make` makes of it. What is handed out must not be changed. */
  async answer(method: DescMethodUnary, request: Message, caller: Caller, make: () => Promise<Answer>): Promise<Answer> {
    const rule = this.#rules.get(method) as Rule;
    const name = rule.groupOf(request);
    // Rights as well: a read may look at them.
    const key = rule.isPublic ? rule.keyOf(request) : `${rule.keyOf(request)} ${JSON.stringify(caller)}`;
    const kept = this.#near.get(name)?.answers.get(key);
    if (kept !== undefined && performance.now() < kept.untilMs) {
      rule.counts.near += 1;
      return kept.message;
    }
    const near = rule.isPublic ? this.#nearOf(name) : undefined;
    const untilMs = performance.now() + NEAR_MS;
    try {
      const { answer, bytes } = await this.#find({ method, rule, name, key }, make);
      // Its group may be another by now: then this is an answer of before.
      if (near !== undefined && bytes !== undefined && this.#near.get(name) === near)
        this.#keepNear(near, key, { message: answer as Message, untilMs, bytes: bytes + name.length + NEAR_OVERHEAD });
      return answer;
    } finally {
      if (near?.answers.size === 0 && this.#near.get(name) === near) this.#near.delete(name);
    }
  }

  /** Answers of these groups are over. Never rejects: a group whose word can't be changed now isn't read here until it is. */
  async forget(groups: readonly AnswerGroup[]): Promise<void> {
    const names = new Set(groups.map(({ method, group }) => groupName(method, group)));
    for (const name of names) this.#dropNear(name);
    const places = [...names].map(hashed);
    const isDone = await this.#changeWords(places);
    if (!isDone) for (const place of places) this.#remember(place);
    // Who has read the word just before it went may have kept an answer under it.
    for (const name of names) this.#dropNear(name);
    // For others: this process reads none of these.
    if (isDone && this.#unforgotten.size > 0) await this.#catchUp();
  }

  /** False where not all could be changed. Never rejects. */
  async #changeWords(places: Iterable<string>): Promise<boolean> {
    for (const some of inParts(places, WORDS_AT_ONCE)) {
      const changes = some.map((place) => this.#unforgotten.get(place));
      if (!(await this.#deleteWords(some))) return false;
      // Of one that has changed again, another process may have kept an answer between this and that, under a new word.
      for (const [n, place] of some.entries()) if (this.#unforgotten.get(place) === changes[n]) this.#unforgotten.delete(place);
    }
    return true;
  }

  async #deleteWords(places: readonly string[]): Promise<boolean> {
    try {
      return await this.#words.delete(...places);
    } catch (error) {
      this.#log.error({ err: error }, "cached answers that are over can't be forgotten, and are read by others until their time is up");
      return false;
    }
  }

  /**
   * A word that stood at a change is gone a day later by itself. Of too many, the oldest are forgotten, and until their day is over no
   * word is believed here: whose they are isn't known any more.
   */
  #remember(place: string): void {
    const nowMs = performance.now();
    this.#unforgotten.delete(place);
    this.#unforgotten.set(place, { untilMs: nowMs + CACHED_MS_MAX });
    for (const [oldest, { untilMs }] of this.#unforgotten) {
      if (this.#unforgotten.size <= UNFORGOTTEN_MAX) break;
      this.#unforgotten.delete(oldest);
      if (nowMs >= this.#blindUntilMs)
        this.#log.error("too much was changed while the store was away: no cached answers are read for a day");
      this.#blindUntilMs = untilMs;
    }
  }

  #catchUp(): Promise<void> {
    this.#catchingUp ??= this.#changeWords(this.#unforgotten.keys()).then(() => {
      this.#catchingUp = undefined;
    });
    return this.#catchingUp;
  }

  /** Joined by who has read the same word; who comes after a change has another. */
  async #find(asked: Asked, make: () => Promise<Answer>): Promise<Found> {
    const word = await this.#wordOf(asked.name);
    if (word === undefined) return { answer: await made(asked.rule, make) };
    const place = hashed(`${word} ${asked.key}`);
    const flying = this.#flights.get(place);
    // Who was first may have given up; that is no answer for the others.
    if (flying !== undefined) return flying.catch(async () => ({ answer: await made(asked.rule, make) }));
    const flight = this.#fetch(place, asked, make);
    this.#flights.set(place, flight);
    try {
      return await flight;
    } finally {
      this.#flights.delete(place);
    }
  }

  async #fetch(place: string, { method, rule, key }: Asked, make: () => Promise<Answer>): Promise<Found> {
    const stored = await this.#answers.get(place);
    if (stored !== undefined) {
      rule.counts.store += 1;
      return { answer: fromBinary(method.output, stored.value), bytes: key.length + stored.value.length };
    }
    const answer = await made(rule, make);
    if (!isMessage(answer)) return { answer };
    const value = toBinary(method.output, answer);
    if (value.length > ANSWER_BYTES_MAX) return { answer };
    await this.#answers.set(place, { value }, rule.ttlMs);
    return { answer, bytes: key.length + value.length };
  }

  /** The word of a group, a new one where it has none; undefined where the store is away. */
  async #wordOf(group: string): Promise<string | undefined> {
    if (performance.now() < this.#blindUntilMs) return undefined;
    const name = hashed(group);
    if (this.#unforgotten.has(name)) {
      await this.#catchUp();
      if (this.#unforgotten.has(name)) return undefined;
    }
    const known = await this.#words.get(name);
    if (known !== undefined) return Buffer.from(known.value).toString("base64");
    const value = randomBytes(12);
    if (await this.#words.add(name, { value })) return value.toString("base64");
    const others = await this.#words.get(name);
    return others && Buffer.from(others.value).toString("base64");
  }

  #nearOf(name: string): Near {
    const known = this.#near.get(name);
    if (known !== undefined) return known;
    const near: Near = { answers: new Map() };
    this.#near.set(name, near);
    return near;
  }

  #keepNear(near: Near, key: string, kept: Kept): void {
    this.#nearBytes += kept.bytes - (near.answers.get(key)?.bytes ?? 0);
    near.answers.set(key, kept);
    // The groups that were made first go first.
    for (const name of this.#near.keys()) {
      if (this.#nearBytes <= NEAR_BYTES_MAX) break;
      this.#dropNear(name);
    }
  }

  #dropNear(name: string): void {
    for (const { bytes } of this.#near.get(name)?.answers.values() ?? []) this.#nearBytes -= bytes;
    this.#near.delete(name);
  }
}

/** An answer, with how large it is where it is kept. */
type Found = { readonly answer: Answer; readonly bytes?: number };

type Asked = { readonly method: DescMethodUnary; readonly rule: Rule; readonly name: string; readonly key: string };

const isMessage = (answer: Answer): answer is Message => answer !== undefined && !isRejection(answer);

function made({ counts }: Rule, make: () => Promise<Answer>): Promise<Answer> {
  counts.made += 1;
  return make();
}

function* inParts<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let part: T[] = [];
  for (const item of items) {
    part.push(item);
    if (part.length < size) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}

/** Requests and groups are of any length. */
const hashed = (text: string): string => createHash("sha256").update(text, "utf8").digest("base64url");
