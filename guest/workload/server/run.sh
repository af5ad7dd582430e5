#!/bin/dash
# Runs one server and its load, in a root disk of variant "server" (guest/image/server-disk.ts). init.sh starts it for
# godwit.run=server, the words of the kernel command line as variables: app (postgres, redis, gcc), seed, and those below.
# A tick a second or an operation is proof that the load is at work: what is waited for before a recording begins.
set -u
export LC_ALL=C PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
seed=${seed:-1}

fail() {
  echo "godwit-guest FAILED $app: $1"
  tail -n 20 "${2:-/dev/null}"
  exit 1
}

as_user() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }

# The database lies in a tmpfs: its files are page cache as on a disk, which nobody writes back.
run_postgres() {
  data=/tmp/postgres log=/tmp/postgres.log
  mkdir -p /dev/shm "$data" && chmod 1777 /dev/shm && chown 1000:1000 "$data"
  as_user initdb -D "$data" -N --no-locale -E UTF8 -U postgres -A trust >"$log" 2>&1 || fail initdb "$log"
  cat >>"$data/postgresql.conf" <<-END
	listen_addresses = ''
	unix_socket_directories = '/tmp'
	shared_buffers = 48MB
	max_connections = 20
	min_wal_size = 32MB
	max_wal_size = 64MB
	checkpoint_timeout = 30s
	jit = off
	END
  echo "godwit-guest postgres made"
  as_user postgres -D "$data" >>"$log" 2>&1 &
  for _ in $(seq 120); do
    pg_isready -q -h /tmp -U postgres && break
    sleep 0.5
  done
  pgbench -h /tmp -U postgres -i -q -s "${scale:-4}" postgres >>"$log" 2>&1 || fail "pgbench -i" "$log"
  echo "godwit-guest postgres filled"
  tick=0
  # shellcheck disable=SC2086 # two words, or none
  pgbench -h /tmp -U postgres -n ${rate:+-R $rate} -c 2 -T 1000000 -P 1 --random-seed="$seed" postgres 2>&1 |
    while read -r word rest; do
      [ "$word" = progress: ] || continue
      tick=$((tick + 1))
      echo "godwit-guest tick $tick ok postgres $rest"
    done
  fail "pgbench ended" "$log"
}

# Persistence would fork: that is another workload.
run_redis() {
  redis-server --port 0 --unixsocket /tmp/redis.sock --save '' --appendonly no --daemonize no >/tmp/redis.log 2>&1 &
  /opt/workload/redis-load /tmp/redis.sock "seed=$seed" "keys=${keys:-120000}" "rate=${rate:-0}" || fail "the load ended" /tmp/redis.log
}

# The agent's own sources: C of every day with the system's headers.
run_gcc() {
  tick=0
  while :; do
    for file in /opt/workload/source/*.c; do
      gcc -std=gnu11 -D_GNU_SOURCE -O2 -w -c -o /tmp/out.o "$file" 2>/tmp/gcc.log || fail "gcc $file" /tmp/gcc.log
      tick=$((tick + 1))
      echo "godwit-guest tick $tick ok gcc ${file##*/}"
    done
  done
}

case ${app:-} in
  postgres) run_postgres ;;
  redis) run_redis ;;
  gcc) run_gcc ;;
  *) echo "godwit-guest FAILED unknown godwit.app=${app:-}" ;;
esac
