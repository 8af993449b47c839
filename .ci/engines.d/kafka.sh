# Kafka, one broker that is its own controller. From Maven Central, as a project's dependency: there is no other registry of it.
version=4.4.0

install() {
  debian default-jre-headless maven openssl
  # kafka-tools-api is named in this version's pom and was never published; a broker does without it.
  cat >"$files/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>engines</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version>
      <exclusions><exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion></exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
  mvn -q -B -f "$files/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$files/lib"
}

java_options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:MaxMetaspaceSize=160m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn)

# Two listeners for clients, one plain, one with TLS and SASL. Partitions of Kafka's own topics are few and rebalances begin at
# once, as suits a machine with one broker; members of groups may be given up after half a second, so that tests needn't wait. A
# broker that was killed comes back once its controller has given up the one before.
prepare() {
  local port secure controller
  port=$(free_port) secure=$(free_port) controller=$(free_port)
  echo "$port" >"$state/port"
  echo "$secure" >"$state/secure-port"
  certificates 2>>"$log"
  cat "$data/server.key" "$data/server.pem" >"$data/broker.pem"
  cat >"$data/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,SECURE://127.0.0.1:$secure,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SECURE://localhost:$secure
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location=$data/broker.pem
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_polis="polis";
inter.broker.listener.name=PLAINTEXT
log.dirs=$data/log
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
log.cleaner.dedupe.buffer.size=10485760
num.network.threads=2
num.io.threads=2
PROPERTIES
  # An id that began with '-' would be taken for an option.
  local id
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' '__' | cut -c 1-22)
  java "${java_options[@]}" -cp "$files/lib/*" kafka.tools.StorageTool format -t "$id" -c "$data/server.properties" \
    --add-scram 'SCRAM-SHA-512=[name=polis,password=polis]' --add-scram 'SCRAM-SHA-256=[name=polis,password=polis]' >>"$log" 2>&1
}

run() {
  java "${java_options[@]}" -Xms128m -Xmx384m -cp "$files/lib/*" kafka.Kafka "$data/server.properties" &
  pid=$!
}

# A broker listens only once it has started.
ready() { (exec 3<>"/dev/tcp/127.0.0.1/$(cat "$state/port")"); }

settings() {
  echo "KAFKA_URL=kafka://127.0.0.1:$(cat "$state/port")"
  # The same broker where it encrypts, and asks who comes.
  echo "TEST_SECURE_KAFKA_URL=kafkas://polis:polis@localhost:$(cat "$state/secure-port")"
  echo "TEST_KAFKA_CA_FILE=$data/ca.pem"
}
