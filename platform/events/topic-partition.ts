export type TopicPartition = { readonly topic: string; readonly partition: number };

/** A partition as the key of a map. */
export const partitionKey = ({ topic, partition }: TopicPartition): string => `${partition} ${topic}`;
