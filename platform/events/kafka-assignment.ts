import type { ClusterMetadata, GroupPartitionsAssigner } from "@platformatic/kafka";

/**
 * Shares each topic out among those members that read it, as the one of them computes whom Kafka has made the leader. During a
 * roll-out not all read the same: the library's own assigner gives any member any topic, and only topics that the leader reads.
 */
export const assignPartitions: GroupPartitionsAssigner = (_leader, members, _topics, metadata) => {
  const assigned = [...members].map(([memberId, { topics }]) => ({
    memberId,
    reads: new Set(topics),
    assignments: new Map<string, { topic: string; partitions: number[] }>(),
  }));
  let turn = 0;
  for (const topic of new Set(assigned.flatMap(({ reads }) => [...reads]).sort())) {
    const readers = assigned.filter(({ reads }) => reads.has(topic)).sort((a, b) => (a.memberId < b.memberId ? -1 : 1));
    for (let partition = 0; partition < partitionsOf(metadata, topic); partition++) {
      const reader = readers[turn++ % readers.length];
      const known = reader?.assignments.get(topic) ?? { topic, partitions: [] };
      known.partitions.push(partition);
      reader?.assignments.set(topic, known);
    }
  }
  return assigned.map(({ memberId, assignments }) => ({ memberId, assignments }));
};

const partitionsOf = ({ topics }: ClusterMetadata, topic: string): number => topics.get(topic)?.partitionsCount ?? 0;
