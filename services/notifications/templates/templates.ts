import { codeTemplates } from "./codes.ts";
import type { Template } from "./template.ts";
import { warningTemplates } from "./warnings.ts";

/** Every template by its name. */
export const templates: ReadonlyMap<string, Template> = new Map(Object.entries({ ...codeTemplates, ...warningTemplates }));
