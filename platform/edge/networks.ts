import { BlockList, isIP, SocketAddress } from "node:net";

/** An IPv4 address that came in the form of IPv6, as sockets that take both have it, is that IPv4 address. */
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** An address in its one written form; undefined where the text is none. */
export function readAddress(text: string): string | undefined {
  const mapped = MAPPED.exec(text)?.[1];
  const plain = mapped ?? text;
  const family = isIP(plain);
  if (family === 4) return plain;
  // A zone (`fe80::1%eth0`) is a matter of the machine that says it.
  return family === 6 && !plain.includes("%") ? new SocketAddress({ address: plain, family: "ipv6" }).address : undefined;
}

/** `10.0.0.0/8`, or an address, in its one written form; undefined where the text is neither. */
export function readNetwork(text: string): string | undefined {
  const [, said = "", bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text.trim()) ?? [];
  const address = readAddress(said);
  if (address === undefined) return undefined;
  if (bits === undefined) return address;
  return Number(bits) <= lengthOf(address) ? `${address}/${Number(bits)}` : undefined;
}

const lengthOf = (address: string): 32 | 128 => (address.includes(":") ? 128 : 32);
const familyOf = (address: string): "ipv4" | "ipv6" => (address.includes(":") ? "ipv6" : "ipv4");

/** Whether an address, in its written form, is in one of these networks. */
export function inNetworks(networks: readonly string[]): (address: string) => boolean {
  if (networks.length === 0) return () => false;
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits = lengthOf(network)] = network.split("/");
    list.addSubnet(address, Number(bits), familyOf(address));
  }
  return (address) => isIP(address) !== 0 && list.check(address, familyOf(address));
}

/**
 * What an address is counted as: IPv6 by its first 64 bits, which is what one connection to the internet is given, and within which a
 * client may have any address it likes.
 */
export function countedAs(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.split("::");
  const first = head === "" ? [] : head.split(":");
  const rest = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups = tail === undefined ? first : [...first, ...Array<string>(Math.max(0, 8 - first.length - rest.length)).fill("0"), ...rest];
  return `${groups.slice(0, 4).join(":")}::/64`;
}
