# PgBouncer, Debian's, in front of postgres, in transaction mode: no session outlives a transaction, and this version knows no
# prepared statements (1.21 is the first to).
version=1.18
needs=(postgres)
postgres=$states/postgres

install() { debian pgbouncer; }

prepare() {
  free_port >"$state/port"
  printf '"polis" "%s"\n' "$(cat "$postgres/password")" >"$data/users"
  cat >"$data/pgbouncer.ini" <<INI
[databases]
* = host=127.0.0.1 port=$(cat "$postgres/port")

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $(cat "$state/port")
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $data/users
pool_mode = transaction
default_pool_size = 8
max_client_conn = 2000
server_idle_timeout = 10
server_login_retry = 1
INI
  ((UID != 0)) || chown -R postgres: "$data"
}

run() {
  as postgres /usr/sbin/pgbouncer --quiet "$data/pgbouncer.ini" &
  pid=$!
}

ready() { (exec 3<>"/dev/tcp/127.0.0.1/$(cat "$state/port")"); }

settings() {
  local user
  user=polis:$(cat "$postgres/password")
  echo "POSTGRES_URL=postgres://$user@127.0.0.1:$(cat "$state/port")/postgres"
  echo "POSTGRES_DIRECT_URL=postgres://$user@127.0.0.1:$(cat "$postgres/port")/postgres"
}
