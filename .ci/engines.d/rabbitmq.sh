# RabbitMQ, Debian's: one node, whose quorum queues have one member each. Erlang's port mapper, which outlives it, listens on a port
# of this checkout's own. It listens twice: plainly, and with TLS for clients that show a certificate.
version=3.10

install() { debian rabbitmq-server openssl; }

prepare() {
  free_port >"$state/port"
  free_port >"$state/secure-port"
  certificates 2>>"$log"
  free_port >"$state/dist-port"
  free_port >"$state/epmd-port"
  printf '[].' >"$data/enabled_plugins"
  cat >"$data/rabbitmq.conf" <<CONF
listeners.tcp.default = 127.0.0.1:$(cat "$state/port")
listeners.ssl.default = 127.0.0.1:$(cat "$state/secure-port")
ssl_options.cacertfile = $data/ca.pem
ssl_options.certfile = $data/server.pem
ssl_options.keyfile = $data/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
default_user = polis
default_pass = polis
# All of a machine with one broker may be its memory's; a confirm needn't wait for the disk longer than this.
vm_memory_high_watermark.absolute = 400MB
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
CONF
}

run() {
  export HOME=$data ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT RABBITMQ_DIST_PORT
  ERL_EPMD_PORT=$(cat "$state/epmd-port") RABBITMQ_DIST_PORT=$(cat "$state/dist-port")
  export RABBITMQ_NODENAME=polis@localhost RABBITMQ_MNESIA_BASE=$data/mnesia RABBITMQ_LOG_BASE=$data/log RABBITMQ_PID_FILE=$data/pid
  export RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE=$data/rabbitmq RABBITMQ_ENABLED_PLUGINS_FILE=$data/enabled_plugins
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +sbwt none'
  rm -f "$RABBITMQ_PID_FILE"
  /usr/lib/rabbitmq/bin/rabbitmq-server &
  # The server writes its own id down; what was started is a shell around it.
  local shell=$! ends=$((SECONDS + seconds_to_start))
  until [[ -s $RABBITMQ_PID_FILE ]]; do
    kill -0 "$shell" 2>/dev/null && ((SECONDS < ends)) || fail "$name ended before it had begun"
    sleep 0.05
  done
  pid=$(cat "$RABBITMQ_PID_FILE")
}

# It begins to listen at one port after the other.
ready() {
  local one
  for one in port secure-port; do (exec 3<>"/dev/tcp/127.0.0.1/$(cat "$state/$one")") || return; done
}

ended() { [[ ! -e $state/epmd-port ]] || ERL_EPMD_PORT=$(cat "$state/epmd-port") epmd -kill >/dev/null 2>&1 || true; }

settings() {
  echo "RABBITMQ_URL=amqp://polis:polis@127.0.0.1:$(cat "$state/port")"
  secure_settings RABBITMQ amqps://polis:polis
}
