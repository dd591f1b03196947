#!/usr/bin/env bash
# Read from two hot standbys while 45 claims, 200 reports of metadata and two passes a second keep the
# primary busy: what the reads cost the primary there, on itself and not at all, in turns, and whether the
# standbys answer what the primary does. All three servers are private ones in the scratch folder. Prints
# ratios; exits with 1 if a line misses its target.
#
#   bench/standbys.sh      takes ten minutes and 2 GB; ROUNDS (5), SECONDS_EACH (20) of each turn, READS a
#                          second and standby (5) and COMPARISONS (20) change what is measured

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-20}
READS=${READS:-5}
COMPARISONS=${COMPARISONS:-20}
PERSON=1

start_bench standbys <<-CONF
	shared_preload_libraries = 'prebuild_ext'
	prebuild.databases = 'fleet'
	prebuild.worker_role = 'postgres'
	wal_level = replica
	wal_keep_size = 1GB
	hot_standby_feedback = on
	max_standby_streaming_delay = -1
	max_connections = 100
	max_wal_size = 2GB
	shared_buffers = 128MB
	jit = off
CONF

STANDBYS=(5433 5434)
stop_standbys() {
	local status=$? port
	for port in "${STANDBYS[@]}"; do
		[ ! -e "$BENCH/standby-$port/postmaster.pid" ] ||
			as_server_user "$BINDIR/pg_ctl" -D "$BENCH/standby-$port" -m immediate -s stop || true
	done
	set +e
	(exit $status)
	finish
}
trap stop_standbys EXIT

need_packages libpq-dev
cc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" -o "$BENCH/claims" \
	"$PROJECT/bench/load/claims.c" "$PROJECT/bench/load/clients.c" -lpq -lm
chmod a+rx "$BENCH/claims"

say 'loading the fleet'
create_control_plane fleet
sql fleet -v workspaces=20000 -v builds=1 -v agents=1 -f "$BENCH/sql/fleet.sql" -f "$BENCH/sql/claims.sql"
sql fleet -c 'SELECT prebuild_attach()' > /dev/null
sql fleet -c 'CALL bench.fill(100)' -c 'VACUUM ANALYZE'

say 'making two standbys'
for port in "${STANDBYS[@]}"; do
	as_server_user "$BINDIR/pg_basebackup" -h "$SOCKETS" -U postgres -D "$BENCH/standby-$port" -R -X stream \
		-c fast --no-sync
	echo "port = $port" >> "$BENCH/standby-$port/postgresql.conf"
	as_server_user "$BINDIR/pg_ctl" -D "$BENCH/standby-$port" -l "$BENCH/standby-$port.log" -w -s start
done

# The processor time of the primary's processes so far, in seconds.
cpu() {
	local postmaster
	postmaster=$(head -n 1 "$BENCH/pgdata/postmaster.pid")
	{ cat /proc/[0-9]*/stat 2> /dev/null || true; } | sed 's/^\([0-9]*\) (.*) /\1 /' |
		awk -v postmaster="$postmaster" -v tick="$(getconf CLK_TCK)" '
			$1 == postmaster { sum += $13 + $14 + $15 + $16 }
			$3 == postmaster { sum += $13 + $14 + $15 + $16 }
			END { printf "%.2f", sum / tick }'
}

CLAIM="SELECT c.id FROM prebuild_claim(bench.preset(), bench.id('user', \$1 % 10000 + 1), 'claim-' || \$1::int4) c"
cat > "$BENCH/sql/report.pgbench" <<-'SQL'
	\set n random(1, 2000)
	SELECT prebuild_agent_metadata_report(bench.id('prebuild agent', :n), '{cpu,memory,disk,load}', '{1,2,3,4}');
SQL
# passes, and what plays the provisioner, come as often on a busy machine
cat > "$BENCH/sql/passes.pgbench" <<-'SQL'
	SELECT bench.finish_jobs();
	SELECT created FROM prebuild_reconcile();
SQL
cat > "$BENCH/sql/reads.pgbench" <<-'SQL'
	SELECT count(*) FROM prebuild_running() r WHERE r.ready;
	SELECT sum(desired - eligible) FROM prebuild_state() s;
	SELECT count(p.reason) FROM prebuild_plan() p;
	SELECT sum(value) FROM prebuild_metrics_read(now(), 'pool');
	SELECT count(*) FROM prebuild_forecast(bench.preset(), now(), now() + interval '1 week');
	SELECT count(*) FROM prebuild_target(bench.preset(), now());
SQL
chmod a+r "$BENCH"/sql/*.pgbench

# Ask a server by its port, READS times a second. Sets the file's words: reads a second, average ms.
read_from() {
	as_server_user "$BINDIR/pgbench" -n -h "$SOCKETS" -p "$1" -U postgres -c 2 -T "$SECONDS_EACH" -R "$READS" \
		-f "$BENCH/sql/reads.pgbench" fleet 2>&1 |
		awk '/^latency average/ { ms = $4 } /^tps/ { tps = $3 } END { printf "%.1f %.1f\n", tps, ms }' > "$BENCH/reads.$1.$2"
}

# A turn: "none", or "standbys" or "primary" that are asked. Appends the cores of the primary and the p99 of
# the claims to the turn's file.
turn() {
	local before after port claims=$((45 * SECONDS_EACH)) none failed p99 readers=()
	sql fleet -c 'CALL bench.fill(100)'
	before=$(cpu)
	as_server_user "$BINDIR/pgbench" -n -h "$SOCKETS" -U postgres -c 2 -T "$SECONDS_EACH" -R 200 \
		-f "$BENCH/sql/report.pgbench" fleet > "$BENCH/reports.log" 2>&1 &
	readers+=($!)
	as_server_user "$BINDIR/pgbench" -n -h "$SOCKETS" -U postgres -c 1 -T "$SECONDS_EACH" -R 2 \
		-f "$BENCH/sql/passes.pgbench" fleet > "$BENCH/passes.log" 2>&1 &
	readers+=($!)
	case $1 in
	standbys) for port in "${STANDBYS[@]}"; do read_from "$port" "$1" & readers+=($!); done ;;
	primary) for port in 5432 5432; do read_from "$port" "$1" & readers+=($!); done ;;
	esac
	IFS='|' read -r _ none _ failed _ _ p99 _ < <(as_server_user "$BENCH/claims" \
		"host=$SOCKETS user=postgres dbname=fleet" "$CLAIM" "$PERSON" 16 45 "$claims" 0 0)
	wait "${readers[@]}" || die "a client failed: $(cat "$BENCH"/*.log)"
	after=$(cpu)
	PERSON=$((PERSON + claims))
	[ "$failed" = 0 ] || die "$failed claims failed"
	awk -v a="$after" -v b="$before" -v s="$SECONDS_EACH" -v p="$p99" -v n="$none" \
		'BEGIN { printf "%.4f|%s|%s\n", (a - b) / s, p, n }' >> "$BENCH/turn.$1"
}

say 'measuring'
for turn in none standbys primary; do : > "$BENCH/turn.$turn"; done
for round in $(seq "$ROUNDS"); do
	for turn in none standbys primary; do turn $turn; done
done

words() { printf 'cores %s; claims p99 %s ms' "$(median_of 1 < "$BENCH/turn.$1")" "$(median_of 2 < "$BENCH/turn.$1")"; }
none=$(median_of 1 < "$BENCH/turn.none")
printf '%-58s %7.2f   %s\n' "the primary's cores, no reads" "$none" "$(words none)"
report "reads on two standbys: the primary's cores to none" "$(ratio "$(median_of 1 < "$BENCH/turn.standbys")" "$none")" \
	'at most' 1.15 "$(words standbys); scripts a second, ms: $(cat "$BENCH"/reads.543[34].standbys | paste -sd,)"
printf '%-58s %7.2f   %s\n' "the same reads on the primary: its cores to none" \
	"$(ratio "$(median_of 1 < "$BENCH/turn.primary")" "$none")" "$(words primary)"

# Compare answers at one point of the log in the midst of the load: a lock on the tables keeps writers out while the
# primary answers and the standbys replay up to there and stop; then the load goes on, and they answer.
say 'comparing'
answers() {
	local at=$2
	sql fleet -p "$1" -c "SELECT 'running', md5(string_agg(r::text, ',' ORDER BY r.id)), count(*) FROM prebuild_running() r" \
		-c "SELECT 'state', md5(string_agg(s::text, ',' ORDER BY s::text)), count(*) FROM prebuild_state('$at') s" \
		-c "SELECT 'plan', md5(string_agg(p::text, ',' ORDER BY p::text)), count(*) FROM prebuild_plan('$at') p" \
		-c "SELECT 'metrics', md5(string_agg(m.name || m.labels || m.value, ',' ORDER BY m.name || m.labels)), count(*)
			FROM prebuild_metrics_read('$at', 'pool') m WHERE m.name <> 'coderd_prebuilt_workspaces_metrics_last_updated'" \
		-c "SELECT 'forecast', md5(string_agg(f::text, ',' ORDER BY f::text)), count(*)
			FROM prebuild_forecast(bench.preset(), '$at', '$at'::timestamptz + interval '1 week') f" \
		-c "SELECT 'target', md5(string_agg(t::text, ',' ORDER BY t::text)), count(*) FROM prebuild_target(bench.preset(), '$at') t"
}
differ=0
compare_once() {
	local at lsn port expected
	at=$(sql fleet -c 'SELECT now()')
	coproc LOCKER { as_server_user "$BINDIR/psql" -XAtq -v ON_ERROR_STOP=1 -h "$SOCKETS" -U postgres -d fleet; }
	# shellcheck disable=SC2153
	echo 'BEGIN; LOCK TABLE workspaces, workspace_builds, provisioner_jobs, workspace_resources, workspace_agents,
		template_version_presets, templates IN SHARE MODE; SELECT pg_current_wal_flush_lsn();' >&"${LOCKER[1]}"
	read -r lsn <&"${LOCKER[0]}"
	expected=$(answers 5432 "$at")
	for port in "${STANDBYS[@]}"; do
		until [ "$(sql fleet -p "$port" -c "SELECT pg_last_wal_replay_lsn() >= '$lsn'")" = t ]; do sleep 0.01; done
		sql fleet -p "$port" -c 'SELECT pg_wal_replay_pause()' > /dev/null
		until [ "$(sql fleet -p "$port" -c 'SELECT pg_get_wal_replay_pause_state()')" = paused ]; do sleep 0.01; done
	done
	echo 'COMMIT;' >&"${LOCKER[1]}"
	eval "exec ${LOCKER[1]}>&-"
	wait "$LOCKER_PID" 2> /dev/null || true
	for port in "${STANDBYS[@]}"; do
		if [ "$(answers "$port" "$at")" != "$expected" ]; then
			differ=$((differ + 1))
			diff <(echo "$expected") <(answers "$port" "$at") >&2 || true
		fi
		sql fleet -p "$port" -c 'SELECT pg_wal_replay_resume()' > /dev/null
	done
}
sql fleet -c 'CALL bench.fill(100)'
cat > "$BENCH/sql/load.pgbench" <<-'SQL'
	SELECT bench.finish_jobs();
	SELECT count(*) FROM generate_series(1, 3) i, LATERAL prebuild_claim(bench.preset(), bench.id('user', 1), gen_random_uuid()::text) c WHERE i > 0;
	SELECT created FROM prebuild_reconcile();
SQL
chmod a+r "$BENCH/sql/load.pgbench"
as_server_user env PGOPTIONS='-c lock_timeout=1min' "$BINDIR/pgbench" -n -h "$SOCKETS" -U postgres -c 2 -T 3600 -R 20 \
	-f "$BENCH/sql/load.pgbench" fleet > "$BENCH/load.log" 2>&1 &
LOAD=$!
for n in $(seq "$COMPARISONS"); do compare_once; sleep 0.3; done
kill -0 $LOAD 2> /dev/null || die "the load ended, see $(cat "$BENCH/load.log")"
moved=$(sql fleet -c "SELECT count(*) FROM workspaces WHERE owner_id = bench.id('user', 1) AND length(name::text) = 36")
kill $LOAD
wait $LOAD 2> /dev/null || true
[ "$moved" -gt "$COMPARISONS" ] || die "there were only $moved claims meanwhile"
report 'answers of the standbys that differ from the primary' $differ 'at most' 0 \
	"of $((COMPARISONS * 2)), of six functions each; $moved claims meanwhile"
exit $MISSED
