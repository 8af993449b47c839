import { emailList } from "#platform/config/setting-types.ts";
import { setting } from "#platform/config/settings.ts";
import { resource } from "#platform/resource.ts";

/** The addresses of mail whose owner becomes an admin by signing up: somebody has to be the first who gives roles. */
export const firstAdmins = resource("auth.first-admins", {
  settings: {
    emails: setting({
      name: "AUTH_ADMINS",
      type: emailList,
      default: [],
      text: "addresses of mail, with commas between: who signs up with one, and confirms it, has the role admin",
    }),
  },
  open: ({ settings: { emails } }): ReadonlySet<string> => new Set(emails),
});
