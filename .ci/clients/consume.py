"""Reads events with Confluent's client for Python, its Protobuf deserialiser and its client of the schema registry.

consume.py BROKERS REGISTRY TOPIC MESSAGE DESCRIPTORS COUNT: prints each event of the type MESSAGE as a line of JSON, with the text
of the schema whose id stands in front of it, until COUNT of them were read. DESCRIPTORS is a google.protobuf.FileDescriptorSet, as
contracts/descriptors.binpb: all that is known of Polis here.

The deserialiser would fetch schemas by itself, as serialised descriptors in base64; Apicurio answers that with bytes that JSON
mangles. So it is left to the message's class, and the schema is fetched as text.
"""

import json
import sys

from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

brokers, registry, topic, name, descriptors, count = sys.argv[1:]
pool = descriptor_pool.DescriptorPool()
with open(descriptors, "rb") as file:
    for described in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
        pool.Add(described)
message = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
deserialize = ProtobufDeserializer(message, {"use.deprecated.format": False})
schemas = SchemaRegistryClient({"url": registry})

consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"outside.{topic}", "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
read = 0
while read < int(count):
    record = consumer.poll(20)
    if record is None:
        sys.exit(f"only {read} of {count} came within 20 s")
    if record.error():
        sys.exit(str(record.error()))
    if dict(record.headers())["event-type"].decode() != name:
        continue
    event = deserialize(record.value(), SerializationContext(topic, MessageField.VALUE))
    schema = schemas.get_schema(int.from_bytes(record.value()[1:5], "big")).schema_str
    print(json.dumps({"key": record.key().decode(), "event": json_format.MessageToDict(event), "schema": schema}))
    read += 1
consumer.close()
