# Redis, Debian's: one server, whose data are on its disk a second after they are written. It listens twice: plainly, and with TLS
# for clients that show a certificate.
version=7.0

install() { debian redis-server openssl; }

prepare() {
  free_port >"$state/port"
  free_port >"$state/secure-port"
  certificates 2>>"$log"
  cat >"$data/redis.conf" <<CONF
bind 127.0.0.1
port $(cat "$state/port")
tls-port $(cat "$state/secure-port")
tls-ca-cert-file $data/ca.pem
tls-cert-file $data/server.pem
tls-key-file $data/server.key
tls-auth-clients yes
requirepass polis
dir $data
appendonly yes
appendfsync everysec
save ""
CONF
}

run() {
  /usr/bin/redis-server "$data/redis.conf" &
  pid=$!
}

# Not before it has read its data: until then it answers with an error.
ready() { [[ $(REDISCLI_AUTH=polis redis-cli -p "$(cat "$state/port")" ping) == PONG ]]; }

settings() {
  echo "REDIS_URL=redis://:polis@127.0.0.1:$(cat "$state/port")"
  secure_settings REDIS rediss://:polis
}
