# Redis, Debian's: one server, whose data are on its disk a second after they are written.
version=7.0

install() { debian redis-server; }

prepare() {
  free_port >"$state/port"
  cat >"$data/redis.conf" <<CONF
bind 127.0.0.1
port $(cat "$state/port")
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

settings() { echo "REDIS_URL=redis://:polis@127.0.0.1:$(cat "$state/port")"; }
