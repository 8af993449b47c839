/**
 * How the embedded server runs: one machine, many small databases, tables that are queues. `durable: false` gives up every
 * promise about a crash.
 */
export const serverSettings = (durable: boolean): Record<string, string> => ({
  max_connections: "100",
  shared_buffers: "256MB",
  effective_cache_size: "1GB",
  // Statements are short and many: neither compiling them nor splitting them among workers ever pays.
  jit: "off",
  max_parallel_workers_per_gather: "0",
  io_method: "sync",
  random_page_cost: "1.1",
  // What a backup and a standby need.
  wal_level: "replica",
  max_wal_size: "2GB",
  checkpoint_timeout: "15min",
  checkpoint_completion_target: "0.9",
  // Queues are emptied all the time: dead rows must go before scans trip over them.
  autovacuum_naptime: "10s",
  autovacuum_vacuum_scale_factor: "0.05",
  autovacuum_vacuum_cost_delay: "1ms",
  autovacuum_analyze_scale_factor: "0.05",
  timezone: "UTC",
  log_timezone: "UTC",
  log_line_prefix: "%m [%p] %d ",
  log_checkpoints: "off",
  fsync: durable ? "on" : "off",
  full_page_writes: durable ? "on" : "off",
  synchronous_commit: durable ? "on" : "off",
});
