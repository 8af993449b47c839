import { ResealSecondFactorsSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import type { Sql } from "#platform/postgres/database.ts";
import { task } from "#platform/tasks/define-task.ts";
import { secondFactors } from "../tables.ts";
import { resealed } from "./second-factor.ts";
import { type SecondFactorSecrets, secondFactorSecrets } from "./second-factor-secrets.ts";

const AT_ONCE = 500;

/** Whose secret lies under a key that opens still, and doesn't seal any more. */
export async function toReseal(sql: Sql, { otherKeyNames }: SecondFactorSecrets): Promise<string[]> {
  if (otherKeyNames.length === 0) return [];
  const { rows } = await sql.query<{ user_id: string }>({
    text: "SELECT user_id FROM second_factors WHERE sealed_by = ANY($1) ORDER BY user_id LIMIT $2",
    values: [[...otherKeyNames], AT_ONCE],
  });
  return rows.map(({ user_id }) => user_id);
}

/** Seals anew what lies under the deployment's last secret, before that counts no more. */
export const resealSecondFactors = task(ResealSecondFactorsSchema, {
  async prepare(_, { sql, use }) {
    const secrets = use(secondFactorSecrets);
    return { secrets, userIds: await toReseal(sql, secrets) };
  },
  lock: (_, { prepared: { userIds } }) => userIds.map((userId) => secondFactors.row(userId)),
  write(tx, _, { prepared: { secrets }, locked: factors }) {
    // Changed since: it is sealed under the key of now, or gone.
    const others = factors.filter((factor) => factor !== undefined).filter(({ sealedBy }) => secrets.otherKeyNames.includes(sealedBy));
    for (const factor of others) tx.update(secondFactors, resealed(secrets, factor));
    if (factors.length === AT_ONCE) tx.enqueue(ResealSecondFactorsSchema, {});
    return `${others.length} sealed anew`;
  },
});
