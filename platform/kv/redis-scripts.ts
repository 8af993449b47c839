import { type CommandParser, defineScript } from "@redis/client";
import { WINDOW_PARTS } from "#platform/kv/engine.ts";

// What Redis has no command for. The time is Redis' own in all of them, so that processes whose clocks differ agree.

type Argument = string | Buffer;

const script = <Reply>(text: string) =>
  defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: text,
    parseCommand(parser: CommandParser, key: string, ...values: readonly Argument[]) {
      parser.pushKey(key);
      parser.push(...values);
    },
    transformReply: (reply: unknown) => reply as Reply,
  });

const NOW = `local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)`;

/** ARGV: from, whether there is a `to`, to, milliseconds or empty. */
const compareAndSet = script<number>(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1])
elseif ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1`);

/** ARGV: amount, limit, milliseconds of the window. A hash of what was taken in each part of a window. */
const take = script<readonly [number, number, number]>(`
${NOW}
local amount, limit, part_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]) / ${WINDOW_PARTS}
local part = math.floor(now / part_ms)
local used, oldest, taken = 0, nil, 0
local held = redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do
  local at = tonumber(held[i])
  if at < part - ${WINDOW_PARTS} or at > part + ${WINDOW_PARTS} then
    redis.call('HDEL', KEYS[1], held[i])
  else
    used = used + tonumber(held[i + 1])
    if oldest == nil or at < oldest then oldest = at end
  end
end
if amount > 0 and used + amount <= limit then
  redis.call('HINCRBY', KEYS[1], string.format('%.0f', part), amount)
  redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[3]) + part_ms))
  used, taken = used + amount, 1
  if oldest == nil then oldest = part end
end
if oldest == nil then return {taken, used, 0} end
return {taken, used, math.ceil((oldest + ${WINDOW_PARTS + 1}) * part_ms - now)}`);

/** A set is sorted by when each member expires. */
const KEPT_AS_LONG_AS_ITS_MEMBERS = `
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] == 'inf' then redis.call('PERSIST', KEYS[1])
elseif last[2] then redis.call('PEXPIREAT', KEYS[1], last[2]) end`;

/** ARGV: milliseconds or empty, members. */
const addMembers = script<number>(`
${NOW}
local expires = ARGV[1] == '' and 'inf' or string.format('%.0f', now + tonumber(ARGV[1]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], expires, ARGV[i]) end
${KEPT_AS_LONG_AS_ITS_MEMBERS}
return 1`);

/** ARGV: member. */
const hasMember = script<number>(`
${NOW}
local expires = redis.call('ZSCORE', KEYS[1], ARGV[1])
return (expires and (expires == 'inf' or tonumber(expires) > now)) and 1 or 0`);

/** ARGV: how many. */
const members = script<Buffer[]>(`
${NOW}
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf', 'LIMIT', 0, ARGV[1])`);

/** ARGV: how many are kept, milliseconds or empty, then scores and members in turn. */
const addItems = script<number>(`
for i = 3, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
if ARGV[2] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1`);

/**
 * ARGV: how many, the score and the member after which they come. Members of one score are in the order of their bytes; Lua's own `<`
 * goes by the locale.
 */
const items = script<(readonly [Buffer, Buffer])[]>(`
local function is_below(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local limit, score, member = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local ties = redis.call('ZCOUNT', KEYS[1], score, score)
local found = redis.call('ZRANGE', KEYS[1], score, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, ties + limit, 'WITHSCORES')
local page = {}
for i = 1, #found, 2 do
  if #page == limit then break end
  if i > 2 * ties or is_below(found[i], member) then page[#page + 1] = {found[i], found[i + 1]} end
end
return page`);

export const scripts = { compareAndSet, take, addMembers, hasMember, members, addItems, items };
