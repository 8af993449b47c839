import {
  addresses,
  choice,
  file,
  folder,
  host,
  kafkaUrl,
  namePrefix,
  port,
  queueChoice,
  rabbitUrl,
  ratio,
  redisUrl,
  secretText,
  text,
  url,
  wholeNumber,
} from "./setting-types.ts";
import { type SettingsOf, type SettingsTable, setting } from "./settings.ts";

/** Where a service answers gRPC unless said: on a host of its name, as orchestrators have it. */
const PEER_PORT = 50_051;

/** The event log in PostgreSQL has a database beside those of the services. */
export const EVENTS_DATABASE = "events";

/** So has the key-value store. */
export const KV_DATABASE = "kv";

const PLATFORM_DATABASES: Readonly<Record<string, string>> = {
  [EVENTS_DATABASE]: "the event log, where that isn't Kafka",
  [KV_DATABASE]: "the key-value store",
};

/** The settings by which a service has a database of its own. */
export const ownDatabaseSettings = (service: string) =>
  ({ url: `POSTGRES_URL_${service.toUpperCase()}`, directUrl: `POSTGRES_DIRECT_URL_${service.toUpperCase()}` }) as const;

/** The files with which an engine is met over TLS. */
const tlsFiles = (engine: string, { signed, who }: { readonly signed: string; readonly who: string }) => ({
  caFile: setting({
    name: `${engine}_CA_FILE`,
    type: file,
    default: undefined,
    needs: `${engine}_URL`,
    text: `PEM file of the authorities that sign ${signed}; without it, those that Node knows`,
  }),
  certFile: setting({
    name: `${engine}_CERT_FILE`,
    type: file,
    default: undefined,
    needs: `${engine}_KEY_FILE`,
    text: `PEM file of our own certificate, where ${who} for one`,
  }),
  keyFile: setting({
    name: `${engine}_KEY_FILE`,
    type: file,
    default: undefined,
    needs: `${engine}_CERT_FILE`,
    text: "PEM file of its key",
  }),
});

/** Kafka, where it is the event log. */
const kafkaSettings = {
  url: setting({
    name: "KAFKA_URL",
    type: kafkaUrl,
    default: undefined,
    text: "Kafka as the event log; without it, tables in PostgreSQL",
  }),
  mechanism: setting({
    name: "KAFKA_SASL_MECHANISM",
    type: choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    default: "SCRAM-SHA-512",
    needs: "KAFKA_URL",
    text: "how the user of KAFKA_URL is authenticated",
  }),
  ...tlsFiles("KAFKA", { signed: "the brokers' certificates", who: "brokers ask" }),
  prefix: setting({
    name: "KAFKA_PREFIX",
    type: namePrefix,
    default: undefined,
    needs: "KAFKA_URL",
    text: "stands in front of the names of topics and groups, so that deployments can share a cluster",
  }),
  replicas: setting({
    name: "KAFKA_REPLICAS",
    type: wholeNumber(1, 99),
    default: undefined,
    needs: "KAFKA_URL",
    text: "copies of each partition of topics that are made; without it, as many as the cluster makes by default",
  }),
};

/** RabbitMQ, where it carries tasks to workers. */
const rabbitSettings = {
  url: setting({
    name: "RABBITMQ_URL",
    type: rabbitUrl,
    default: undefined,
    text: "RabbitMQ, which carries tasks to workers; without it, they are taken from PostgreSQL",
  }),
  ...tlsFiles("RABBITMQ", { signed: "its certificates", who: "it asks" }),
  prefix: setting({
    name: "RABBITMQ_PREFIX",
    type: namePrefix,
    default: undefined,
    needs: "RABBITMQ_URL",
    text: "stands in front of the names of queues, so that deployments can share a virtual host",
  }),
};

/** Redis, where it holds what is short-lived. */
const redisSettings = {
  url: setting({
    name: "REDIS_URL",
    type: redisUrl,
    default: undefined,
    text: "Redis, which holds what is short-lived, and copies of what isn't; without it, tables in PostgreSQL do",
  }),
  ...tlsFiles("REDIS", { signed: "its certificate", who: "it asks" }),
  prefix: setting({
    name: "REDIS_PREFIX",
    type: namePrefix,
    default: undefined,
    needs: "REDIS_URL",
    text: "stands in front of every key, so that deployments can share a Redis",
  }),
};

/** How what processes say to each other over gRPC is kept from others. */
const grpcTlsSettings = {
  mode: setting({
    name: "GRPC_TLS",
    type: choice("off", "on", "mutual"),
    default: "off",
    text: "whether gRPC is encrypted, both ways of a process; mutual: callers must show a certificate as well",
  }),
  certFile: setting({
    name: "GRPC_CERT_FILE",
    type: file,
    default: undefined,
    needs: "GRPC_KEY_FILE",
    text: "PEM file of our own certificate, and those between it and its authority; read again when it changes",
  }),
  keyFile: setting({ name: "GRPC_KEY_FILE", type: file, default: undefined, needs: "GRPC_CERT_FILE", text: "PEM file of its key" }),
  caFile: setting({
    name: "GRPC_CA_FILE",
    type: file,
    default: undefined,
    needs: "GRPC_TLS",
    text: "PEM file of the authorities that sign the others' certificates; without it, those that Node knows",
  }),
};

/** The schemas of events in Kafka, for readers that aren't ours. */
const schemaRegistrySettings = {
  url: setting({
    name: "SCHEMA_REGISTRY_URL",
    type: url("http", "https"),
    default: undefined,
    needs: "KAFKA_URL",
    text: "schema registry with Confluent's API, user:password@ in front of its host where it wants them; without it, messages in Kafka are plain Protobuf",
  }),
  compatibility: setting({
    name: "SCHEMA_REGISTRY_COMPATIBILITY",
    type: choice("FULL_TRANSITIVE", "BACKWARD_TRANSITIVE", "keep"),
    default: "FULL_TRANSITIVE",
    needs: "SCHEMA_REGISTRY_URL",
    text: "the compatibility that the registry is told to ask of a new schema with all before it; keep: it is told nothing. BACKWARD_TRANSITIVE for Apicurio, which refuses every new field otherwise",
  }),
};

/** OpenTelemetry reads these itself; they stand here to be seen, and to be refused where it would go on with something else. */
const otelSettings = {
  endpoint: setting({
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    type: url("http", "https"),
    default: undefined,
    text: "collector of traces (OTLP over HTTP); without it, none are sent",
  }),
  tracesEndpoint: setting({
    name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    type: url("http", "https"),
    default: undefined,
    text: "the same, as the whole URL for traces",
  }),
  headers: setting({ name: "OTEL_EXPORTER_OTLP_HEADERS", type: secretText(1), default: undefined, text: "headers for the collector" }),
  serviceName: setting({
    name: "OTEL_SERVICE_NAME",
    type: text,
    default: undefined,
    text: "name of this process in traces; without it, what it hosts, or polis where that is everything",
  }),
  resource: setting({
    name: "OTEL_RESOURCE_ATTRIBUTES",
    type: text,
    default: undefined,
    text: "more attributes of this process in traces",
  }),
  sampler: setting({
    name: "OTEL_TRACES_SAMPLER",
    type: choice("always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
    default: "parentbased_always_on",
    text: "which traces are kept",
  }),
  samplerArgument: setting({
    name: "OTEL_TRACES_SAMPLER_ARG",
    type: ratio,
    default: undefined,
    text: "which part of all traces a sampler keeps that goes by their ids",
  }),
};

/** Settings of services and edges themselves, by what they are for. */
export type OwnSettings = { readonly [owner: string]: SettingsTable };

/**
 * The settings of a process that may host, or call, these services: what each variable means stands in its text.
 *
 * @param own what the services and edges read beside that of all
 */
export const platformSettings = (services: readonly string[], own: OwnSettings = {}) => ({ ...settingsOfAll(services), own });

const settingsOfAll = (services: readonly string[]) => ({
  port: setting({ name: "PORT", flag: "port", type: port, default: 8080, text: "port of HTTP; 0 takes a free one" }),
  grpcPort: setting({
    name: "GRPC_PORT",
    flag: "grpc-port",
    type: port,
    default: undefined,
    apartFrom: "PORT",
    text: "port of gRPC; without it, no gRPC is served",
  }),
  host: setting({ name: "HOST", flag: "host", type: host, default: "127.0.0.1", text: "address that HTTP and gRPC listen on" }),
  dataFolder: setting({
    name: "POLIS_DATA",
    flag: "data",
    type: folder,
    default: ".polis",
    text: "folder of the embedded PostgreSQL and of keys",
  }),
  secret: setting({
    name: "POLIS_SECRET",
    type: secretText(32),
    default: undefined,
    text: "key that signs callers between processes, the same in all of them, 32 characters at the least; without it, one is made in the data folder",
  }),
  secretAlso: setting({
    name: "POLIS_SECRET_ALSO",
    type: secretText(32),
    default: undefined,
    needs: "POLIS_SECRET",
    text: "another key that is taken as well: the next one before a change of POLIS_SECRET, the last one after it",
  }),
  grpcTls: grpcTlsSettings,
  postgresUrl: setting({
    name: "POSTGRES_URL",
    type: url("postgres", "postgresql"),
    default: undefined,
    text: "PostgreSQL in which each service gets a database; without it, the embedded one",
  }),
  postgresDirectUrl: setting({
    name: "POSTGRES_DIRECT_URL",
    type: url("postgres", "postgresql"),
    default: undefined,
    needs: "POSTGRES_URL",
    text: "the same server around its pooler, for what needs a session of its own",
  }),
  postgresUrlOf: ofEach([...services, ...Object.keys(PLATFORM_DATABASES)], (service) =>
    setting({
      name: ownDatabaseSettings(service).url,
      type: url("postgres", "postgresql"),
      default: undefined,
      text: `database of ${PLATFORM_DATABASES[service] ?? service} alone`,
    }),
  ),
  postgresDirectUrlOf: ofEach([...services, ...Object.keys(PLATFORM_DATABASES)], (service) =>
    setting({
      name: ownDatabaseSettings(service).directUrl,
      type: url("postgres", "postgresql"),
      default: undefined,
      needs: ownDatabaseSettings(service).url,
      text: "the same database around its pooler",
    }),
  ),
  postgresPrepare: setting({
    name: "POSTGRES_PREPARE",
    type: choice("auto", "on", "off"),
    default: "auto",
    text: "whether statements are prepared; auto: unless a direct URL says that a pooler stands between; on: this pooler knows them, as PgBouncer does from 1.21 on. Where one shows that it doesn't, preparing ends by itself, with a warning",
  }),
  addressesOf: ofEach(services, (service) =>
    setting({
      name: `${service.toUpperCase()}_URL`,
      type: addresses,
      default: [`${service}:${PEER_PORT}`],
      text: `where ${service} answers gRPC when this process doesn't host it`,
    }),
  ),
  kafka: kafkaSettings,
  schemaRegistry: schemaRegistrySettings,
  rabbit: rabbitSettings,
  redis: redisSettings,
  queues: setting({
    name: "POLIS_QUEUES",
    type: queueChoice,
    default: undefined,
    text: "queues whose tasks this process does, of the services that it hosts: reports.generate,docs.ocr; all but some: -docs.ocr; or none. Without it, all",
  }),
  logLevel: setting({
    name: "LOG_LEVEL",
    type: choice("trace", "debug", "info", "warn", "error", "fatal", "silent"),
    default: "info",
    text: "the least that is logged",
  }),
  logFormat: setting({
    name: "LOG_FORMAT",
    type: choice("auto", "json", "pretty"),
    default: "auto",
    text: "auto: for a reader on a terminal, JSON elsewhere",
  }),
  otel: otelSettings,
});

export type PlatformSettings = SettingsOf<ReturnType<typeof settingsOfAll>> & {
  readonly own: { readonly [owner: string]: Readonly<Record<string, unknown>> };
};

/** Variables that begin so are ours: one that no setting has is reported. */
export const settingPrefixes = [
  "POLIS_",
  "POSTGRES_URL_",
  "POSTGRES_DIRECT_",
  "POSTGRES_PREPARE",
  "KAFKA_",
  "RABBITMQ_",
  "REDIS_",
  "SCHEMA_REGISTRY_",
  "GRPC_TLS",
  "GRPC_CERT_",
  "GRPC_KEY_",
  "GRPC_CA_",
];

const ofEach = <S>(services: readonly string[], make: (service: string) => S): Record<string, S> =>
  Object.fromEntries(services.map((service) => [service, make(service)]));
