import type { Resource, ResourceGround, Use } from "#platform/resource.ts";
import type { ServiceDefinition } from "#platform/service.ts";

export type OpenResources = {
  readonly use: Use;
  /** The last that was opened first. */
  close(): Promise<void>;
};

/** Opens a service's resources in the order of its manifest. Where one can't be opened, none stays so. */
export async function openResources(
  { name: service, resources }: Pick<ServiceDefinition, "name" | "resources">,
  { settings, ...ground }: Omit<ResourceGround<unknown>, "settings"> & { readonly settings: { readonly [owner: string]: unknown } },
): Promise<OpenResources> {
  const handles = new Map<Resource<unknown>, unknown>();
  const names = new Set<string>();
  await using opening = new AsyncDisposableStack();
  for (const each of resources) {
    const { name } = each;
    if (!name.startsWith(`${service}.`)) throw new Error(`${service} has the resource ${name}: its resources are named ${service}.…`);
    if (names.has(name)) throw new Error(`${service} has the resource ${name} twice: each has a name of its own`);
    names.add(name);
    const handle = await each.open({ ...ground, settings: settings[name] });
    opening.defer(async () => each.close(handle));
    handles.set(each, handle);
  }
  const opened = opening.move();
  return {
    use<Handle>(one: Resource<Handle>): Handle {
      if (!handles.has(one)) throw new Error(`${service} uses ${one.name}, which its manifest doesn't name among its resources`);
      return handles.get(one) as Handle;
    },
    close: () => opened.disposeAsync(),
  };
}
