/**
 * Where a browser may be sent back to: a path of the public URL, or a URL of an allowed origin. What decides is the origin as the URL is
 * read, so that no way to write it (`//host`, `/\host`, `https:host`) leads elsewhere.
 */
export function returnTarget(returnTo: string, publicUrl: string, origins: ReadonlySet<string>): string | undefined {
  if (!URL.canParse(returnTo, publicUrl)) return undefined;
  const url = new URL(returnTo, publicUrl);
  // A blob: has the origin of the page that has made it.
  const isPlain = /^https?:$/.test(url.protocol) && url.username === "" && url.password === "" && url.hash === "";
  return isPlain && origins.has(url.origin) ? url.href : undefined;
}
