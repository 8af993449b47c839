# PostgreSQL, Debian's: older than the embedded one. Its data needn't outlive the machine, so nothing waits for the disk; what was
# handed to the kernel outlives a SIGKILL all the same.
version=15
# TERM would wait for every session to end.
stop_signal=INT
binaries=/usr/lib/postgresql/$version/bin

install() { debian "postgresql-$version"; }

prepare() {
  free_port >"$state/port"
  echo polis >"$state/password"
  ((UID != 0)) || chown postgres: "$data"
  (as postgres "$binaries/initdb" --pgdata "$data/cluster" --username polis --pwfile /dev/stdin --auth scram-sha-256 \
    --encoding UTF8 --locale C.UTF-8 <"$state/password" >>"$log" 2>&1)
  cat >>"$data/cluster/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $(cat "$state/port")
unix_socket_directories = ''
max_connections = 300
shared_buffers = 256MB
fsync = off
full_page_writes = off
CONF
}

run() {
  # Backends of a server that was killed may still hold its shared memory for a moment, and it doesn't start beside them.
  if [[ -e cluster/postmaster.pid ]]; then
    local memory
    memory=$(awk 'NR == 7 { print $2 }' cluster/postmaster.pid)
    while ipcs -m -i "${memory:-0}" 2>/dev/null | grep -q 'nattch=[1-9]'; do sleep 0.05; done
  fi
  as postgres "$binaries/postgres" -D "$data/cluster" &
  pid=$!
}

ready() { "$binaries/pg_isready" --quiet --host 127.0.0.1 --port "$(cat "$state/port")"; }

settings() { echo "POSTGRES_URL=postgres://polis:$(cat "$state/password")@127.0.0.1:$(cat "$state/port")/postgres"; }
