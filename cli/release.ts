import manifest from "../package.json" with { type: "json" };

/** The release of this code: x.y.z. */
export const release: string = manifest.version;
