import { isIP } from "node:net";
import { MASK, maskUrlPassword } from "#platform/telemetry/mask.ts";

/** How a setting's text is read. */
export type SettingType<T> = {
  /** What a value must be, as it follows "must be". */
  readonly must: string;
  /** The value, or undefined where the text is none. */
  parse(text: string): T | undefined;
  /** The value as a list may show it. */
  show(value: T): string;
  /** What is at fault in a text that is none, of one that has parts. Shows nothing that is secret. */
  fault?(text: string): string | undefined;
};

/** 0 takes any free port. */
export const port: SettingType<number> = {
  must: "a port, 0 to 65535",
  parse: (text) => (/^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined),
  show: String,
};

export const text: SettingType<string> = { must: "a text", parse: (value) => value, show: String };

/** A part of a whole. */
export const ratio: SettingType<number> = {
  must: "a number from 0 to 1",
  parse: (value) => (value.trim() !== "" && Number(value) >= 0 && Number(value) <= 1 ? Number(value) : undefined),
  show: String,
};

/** A host name or an address to listen on. */
export const host: SettingType<string> = {
  must: "a host name or an IP address, without a port",
  parse: (value) => (isHost(value) ? value : undefined),
  show: String,
};

const path = (must: string): SettingType<string> => ({
  must,
  parse: (value) => (value.includes("\0") ? undefined : value),
  show: String,
});

export const folder = path("the path of a folder");
/** What is in it is read by whoever needs it. */
export const file = path("the path of a file");

/** A secret of at least `lengthMin` characters, never shown. */
export const secretText = (lengthMin: number): SettingType<string> => ({
  must: `a secret of at least ${lengthMin} characters`,
  parse: (value) => (value.trim().length >= lengthMin ? value : undefined),
  show: () => MASK,
});

/** One of the names given. */
export const choice = <N extends string>(...names: readonly N[]): SettingType<N> => ({
  must: `one of ${names.join(", ")}`,
  parse: (value) => names.find((name) => name === value),
  show: String,
});

/** A URL of one of these schemes, shown without its password. */
export const url = (...schemes: readonly string[]): SettingType<string> => ({
  must: `a URL that begins with ${schemes.map((scheme) => `${scheme}://`).join(" or ")}`,
  // With a space in it a URL is read one way here and another way there.
  parse: (value) =>
    !/\s/.test(value) && URL.canParse(value) && schemes.some((scheme) => value.startsWith(`${scheme}://`)) ? value : undefined,
  show: maskUrlPassword,
});

/** A Kafka cluster as its URL says it. */
export type KafkaUrl = {
  readonly brokers: readonly string[];
  /** The connection is encrypted. */
  readonly tls: boolean;
  readonly user: { readonly name: string; readonly password: string } | undefined;
};

/** `kafka://[user:password@]host:port[,host:port…]`, or `kafkas://…` for TLS; user and password percent-encoded where need be. */
export const kafkaUrl: SettingType<KafkaUrl> = {
  must: "kafka://host:port, or several with commas between; kafkas:// for TLS, user:password@ in front of the hosts",
  parse(value) {
    const found = /^(kafkas?):\/\/(?:([^\s:@/]+):([^\s@/]+)@)?([^\s@/]+)\/?$/.exec(value);
    const brokers = addresses.parse(found?.[4] ?? "");
    if (found === null || brokers === undefined) return undefined;
    const [name, password] = [found[2], found[3]].map((part) => part && decoded(part));
    const user = name === undefined || password === undefined ? undefined : { name, password };
    return found[2] !== undefined && user === undefined ? undefined : { brokers, tls: found[1] === "kafkas", user };
  },
  show: ({ brokers, tls, user }) =>
    `kafka${tls ? "s" : ""}://${user === undefined ? "" : `${encodeURIComponent(user.name)}:${MASK}@`}${brokers.join(",")}`,
};

/** A RabbitMQ as its URL says it. */
export type RabbitUrl = {
  /** host:port of each node. */
  readonly hosts: readonly string[];
  readonly tls: boolean;
  readonly user: { readonly name: string; readonly password: string };
  readonly vhost: string;
};

/**
 * `amqp://[user:password@]host[:port][,host[:port]…][/vhost]`, or `amqps://…` for TLS; percent-encoded where need be. Without IPv6
 * addresses, which the client takes apart at their colons.
 */
export const rabbitUrl: SettingType<RabbitUrl> = {
  must: "amqp://host (a name or an IPv4 address), or several with commas between; amqps:// for TLS, user:password@ in front of the hosts, :port after each, /vhost at the end",
  parse(value) {
    const found = /^(amqps?):\/\/(?:([^\s:@/]+):([^\s@/]+)@)?([^\s@/[]+)(?:\/([^\s@/]*))?$/.exec(value);
    if (found === null) return undefined;
    const tls = found[1] === "amqps";
    const withPort = (one: string): string => (/:\d+$/.test(one) ? one : `${one}:${tls ? 5671 : 5672}`);
    const hosts = addresses.parse((found[4] ?? "").split(",").map(withPort).join(","));
    const [name, password, vhost] = [found[2] ?? "guest", found[3] ?? "guest", found[5] || "%2F"].map(decoded);
    if (hosts === undefined || name === undefined || password === undefined || vhost === undefined) return undefined;
    return { hosts, tls, user: { name, password }, vhost };
  },
  show: ({ hosts, tls, user, vhost }) =>
    `amqp${tls ? "s" : ""}://${encodeURIComponent(user.name)}:${MASK}@${hosts.join(",")}/${vhost === "/" ? "" : encodeURIComponent(vhost)}`,
};

/** A Redis as its URL says it. */
export type RedisUrl = {
  /** A name or an address, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly user: { readonly name: string; readonly password: string } | undefined;
  /** The number of the database. */
  readonly database: number;
};

/**
 * `redis://[[user]:password@]host[:port][/database]`, or `rediss://…` for TLS; percent-encoded where need be. A user without a
 * password is refused: some clients take the name for a password, and ours would come as `default`.
 */
export const redisUrl: SettingType<RedisUrl> = {
  must: "redis://host, of one host; rediss:// for TLS, user:password@ or :password@ in front of it, :port after it, /number of the database at the end",
  parse(value) {
    const found = /^(rediss?):\/\/(?:([^\s:@/]*):([^\s@/]+)@)?([^\s@/]+)(?:\/(\d{0,5}))?$/.exec(value);
    if (found === null) return undefined;
    const place = found[4] ?? "";
    const address = /:\d+$/.test(place) ? place : `${place}:6379`;
    if (!isAddress(address) || address.includes("%")) return undefined;
    const colon = address.lastIndexOf(":");
    const [name, password] = [found[2] || "default", found[3]].map((part) => part && decoded(part));
    if (name === undefined || (found[3] !== undefined && password === undefined)) return undefined;
    return {
      host: address.slice(0, colon).replace(/^\[(.*)\]$/, "$1"),
      port: Number(address.slice(colon + 1)),
      tls: found[1] === "rediss",
      user: password === undefined ? undefined : { name, password },
      database: Number(found[5] ?? 0),
    };
  },
  show: (url) =>
    `redis${url.tls ? "s" : ""}://${url.user === undefined ? "" : `${encodeURIComponent(url.user.name)}:${MASK}@`}${redisAddress(url)}/${url.database}`,
};

/** host:port */
export const redisAddress = ({ host, port }: RedisUrl): string => `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;

/** A server that takes letters, as its URL says it. */
export type SmtpUrl = {
  /** A name or an address, without brackets. */
  readonly host: string;
  readonly port: number;
  /** `tls` from the first byte, `starttls` after the greeting, or nothing, to this machine alone. */
  readonly security: "tls" | "starttls" | "none";
  readonly user: { readonly name: string; readonly password: string } | undefined;
};

/**
 * `smtps://[user:password@]host[:465]` for TLS from the start, `smtp://[user:password@]host[:587]` for STARTTLS, without which nothing is
 * sent, but to this machine; percent-encoded where need be.
 */
export const smtpUrl: SettingType<SmtpUrl> = {
  must: "smtp://host (STARTTLS) or smtps://host (TLS), user:password@ in front of it, :port after it",
  parse(value) {
    const found = /^(smtps?):\/\/(?:([^\s:@/]+):([^\s@/]+)@)?([^\s@/]+)\/?$/.exec(value);
    if (found === null) return undefined;
    const isTls = found[1] === "smtps";
    const place = found[4] ?? "";
    const address = /:\d+$/.test(place) ? place : `${place}:${isTls ? 465 : 587}`;
    if (!isAddress(address)) return undefined;
    const colon = address.lastIndexOf(":");
    const host = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
    const [name, password] = [found[2], found[3]].map((part) => part && decoded(part));
    if (found[2] !== undefined && (name === undefined || password === undefined)) return undefined;
    return {
      host,
      port: Number(address.slice(colon + 1)),
      security: isTls ? "tls" : isLoopback(host) ? "none" : "starttls",
      user: name === undefined || password === undefined ? undefined : { name, password },
    };
  },
  show: ({ host, port: at, security, user }) =>
    `smtp${security === "tls" ? "s" : ""}://${user === undefined ? "" : `${encodeURIComponent(user.name)}:${MASK}@`}${isIP(host) === 6 ? `[${host}]` : host}:${at}`,
};

/** Whoever sends text messages, as the URL says it. */
export type SmsUrl = { readonly base: string; readonly account: string; readonly token: string };

/** `https://account:token@host`; without TLS to this machine alone. */
export const smsUrl: SettingType<SmsUrl> = {
  must: "https://account:token@host, percent-encoded where need be",
  parse(value) {
    if (/\s/.test(value) || !URL.canParse(value)) return undefined;
    const { protocol, hostname, origin, pathname, username, password, search, hash } = new URL(value);
    if (protocol !== "https:" && !(protocol === "http:" && isLoopback(hostname))) return undefined;
    const [account, token] = [username, password].map(decoded);
    if (!account || !token || search !== "" || hash !== "") return undefined;
    return { base: origin + pathname.replace(/\/$/, ""), account, token };
  },
  show: ({ base, account }) => base.replace("://", `://${encodeURIComponent(account)}:${MASK}@`),
};

/** Addresses of mail, in lower case. */
export const emailList: SettingType<readonly string[]> = {
  must: "addresses of mail with commas between",
  parse(value) {
    const list = value.split(",").map((part) => part.trim().toLowerCase());
    return list.every((address) => /^[^\s<>@"]+@[^\s<>@"]+$/.test(address)) ? list : undefined;
  },
  show: (list) => list.join(",") || "-",
};

/** Whether only this machine reaches what listens there. */
export const isLoopback = (host: string): boolean => /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/.test(host);

/** Who sends a letter; the name may be empty. */
export type MailAddress = { readonly name: string; readonly address: string };

/** `Name <address>`, or an address alone. What is in the name means nothing: commas, brackets and colons are taken as they are. */
export const mailAddress: SettingType<MailAddress> = {
  must: "an address of mail, or as `Name <address>`",
  parse(value) {
    const [, name = "", bracketed, alone] = /^(?:([^<>"\p{Cc}]+) <([^<>]+)>|([^<>]+))$/u.exec(value) ?? [];
    const address = bracketed ?? alone ?? "";
    return /^[^\s<>@"(),:;[\]\\]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(address) ? { name: name.trim(), address } : undefined;
  },
  show: ({ name, address }) => (name === "" ? address : `${name} <${address}>`),
};

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

/** Queues by their names: these alone, or all but these. */
export type QueueChoice = { readonly names: readonly string[]; readonly isAllBut: boolean };

/** `a,b` are these alone, `-a,-b` all but these, `none` is none. */
export const queueChoice: SettingType<QueueChoice> = {
  must: "names of queues with commas between, each with a - in front of it for all but these; or none",
  parse(value) {
    if (value === "none") return { names: [], isAllBut: false };
    const list = value.split(",").map((part) => part.trim());
    const isAllBut = list.every((part) => part.startsWith("-"));
    const names = isAllBut ? list.map((part) => part.slice(1)) : list;
    return names.every((name) => /^[a-z0-9][a-z0-9.-]*$/.test(name)) ? { names, isAllBut } : undefined;
  },
  show: ({ names, isAllBut }) => names.map((name) => (isAllBut ? `-${name}` : name)).join(",") || "none",
};

/** A whole number within bounds, both included. */
export const wholeNumber = (min: number, max: number): SettingType<number> => ({
  must: `a whole number from ${min} to ${max}`,
  parse: (value) => (/^\d{1,9}$/.test(value) && Number(value) >= min && Number(value) <= max ? Number(value) : undefined),
  show: String,
});

/** Letters, digits, `.`, `_` and `-`, as names in Kafka have them, in RabbitMQ, and keys in Redis. */
export const namePrefix: SettingType<string> = {
  must: "of letters, digits, ., _ and -, at most 100",
  parse: (value) => (/^[A-Za-z0-9._-]{1,100}$/.test(value) ? value : undefined),
  show: String,
};

/** `host:port,host:port`; an IPv6 address stands in brackets. */
export const addresses: SettingType<readonly string[]> = {
  must: "host:port, or several with commas between",
  parse(value) {
    const list = value.split(",").map((part) => part.trim());
    return list.every(isAddress) ? list : undefined;
  },
  show: (list) => list.join(","),
};

function isAddress(value: string): boolean {
  const colon = value.lastIndexOf(":");
  const name = value.slice(0, colon);
  const number = port.parse(value.slice(colon + 1));
  if (colon < 1 || number === undefined || number === 0) return false;
  return name.startsWith("[") ? name.endsWith("]") && isHost(name.slice(1, -1)) : !name.includes(":") && isHost(name);
}

/** What is of digits and dots alone is an address or nothing: a name it can't be. */
const isHost = (value: string): boolean =>
  isIP(value) !== 0 || (/^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?$/.test(value) && /[A-Za-z_]/.test(value));
