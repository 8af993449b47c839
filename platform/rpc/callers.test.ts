import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { OwnedSchema } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { type Caller, nobody, serviceCaller, userCaller } from "#platform/access/caller.ts";
import { describeCalls, failure, say, texts, user } from "#platform/rpc/conformance.testing.ts";

describeCalls(({ serve, client, clientOf }) => {
  describe("as somebody", () => {
    const callers: [string, Caller][] = [
      ["a user", userCaller("someone", { roles: ["auditor"], scopes: ["a", "b"], secondFactor: true })],
      ["a service", serviceCaller("tester")],
      ["a service for a user", serviceCaller("tester", userCaller("someone", { roles: ["admin"] }))],
    ];
    test.each(callers)("tells the service who calls: %s", async (_, caller) => {
      let seen: Caller | undefined;
      serve({
        ask: async (_request, context) => {
          seen = context.caller;
          return say("");
        },
      });
      await clientOf(caller).ask({});
      expect(seen).toEqual(caller);
    });

    test("lets nobody call what is public, and nothing else", async () => {
      expect(texts([await clientOf(nobody).askPublic({ text: "hi" })])).toEqual(["hi"]);
      expect(await failure(clientOf(nobody).ask({}))).toMatchObject({ status: "UNAUTHENTICATED", code: "unauthenticated" });
    });

    const guarded = { roles: ["auditor"], scopes: ["secrets", "more"], secondFactor: true };
    test.each<[string, Caller, boolean]>([
      ["all that is asked for", userCaller("a", guarded), true],
      ["another of the roles", userCaller("a", { ...guarded, roles: ["admin"] }), true],
      ["no such role", userCaller("a", { ...guarded, roles: [] }), false],
      ["no such scope", userCaller("a", { ...guarded, scopes: ["other"] }), false],
      ["no second factor", userCaller("a", { ...guarded, secondFactor: false }), false],
      ["the user's rights, as a service that isn't named", serviceCaller("tester", userCaller("a", guarded)), false],
    ])("with %s is let in or not by the contract", async (_, caller, allowed) => {
      const call = clientOf(caller).askGuarded({ text: "x" });
      if (allowed) expect((await call).text).toBe("x");
      else expect(await failure(call)).toMatchObject({ status: "PERMISSION_DENIED", code: "forbidden" });
    });

    test("lets only the named services call what is for services", async () => {
      expect((await clientOf(serviceCaller("tester")).askInternal({ text: "x" })).text).toBe("x");
      for (const other of [serviceCaller("other"), serviceCaller("other", user), user])
        expect(await failure(clientOf(other).askInternal({}))).toMatchObject({ code: "forbidden" });
    });

    test("is checked before the request is", async () => {
      expect(await failure(clientOf(serviceCaller("other")).ask({ amount: -1n }))).toMatchObject({ code: "forbidden" });
    });

    test.each<[string, Caller, boolean]>([
      ["the owner", user, true],
      ["another user", userCaller("another"), false],
      ["a service for the owner", serviceCaller("tester", user), true],
      ["a service for another user", serviceCaller("tester", userCaller("another")), false],
      ["a service on its own", serviceCaller("tester"), true],
    ])("shows what is owned to %s, or says that there is none", async (_, caller, shown) => {
      serve({ getOwned: async () => create(OwnedSchema, { owner: { userId: user.userId } }) });
      const call = clientOf(caller).getOwned({});
      if (shown) expect((await call).owner?.userId).toBe(user.userId);
      else expect(await failure(call)).toMatchObject({ status: "NOT_FOUND", code: "not_found" });
    });

    test("shows what has no owner to no user", async () => {
      serve({ getOwned: async () => create(OwnedSchema) });
      expect(await failure(client().getOwned({}))).toMatchObject({ code: "not_found" });
    });
  });
});
