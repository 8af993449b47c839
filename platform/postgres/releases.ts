const RELEASE = /^(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z.-]+)?$/;

const partsOf = (release: string): [number, number, number] => {
  const [, major, minor, patch] = RELEASE.exec(release) ?? [];
  if (major === undefined) throw new Error(`${release} is no release (x.y.z)`);
  return [Number(major), Number(minor), Number(patch)];
};

export const isRelease = (text: string): boolean => RELEASE.test(text);

/** Less than zero where `a` is older than `b`. What is made towards a release (`1.2.0-rc.1`) counts as it. */
export function compareReleases(a: string, b: string): number {
  const [x, y] = [partsOf(a), partsOf(b)];
  return x[0] - y[0] || x[1] - y[1] || x[2] - y[2];
}

/** `1.3.2` → `1.2.0`; undefined for x.0.z, since only people know what came before a major release. */
export function previousMinor(release: string): string | undefined {
  const [major, minor] = partsOf(release);
  return minor === 0 ? undefined : `${major}.${minor - 1}.0`;
}
