#!/usr/bin/env bash
# Report the metadata of thousands of agents by coderd's batch, by one update and message for each
# report, by prebuild_agent_metadata_report(), by it with larger batches, and by it during passes of ten
# seconds, one after the other on a private server in the scratch folder. Prints what each costs the
# server and how long listeners wait; exits with 1 if a line misses its target.
#
#   bench/metadata_scale.sh     takes an hour; DURATION (default 300 seconds, in steps of 10), AGENTS
#                               ('2000 6000'), LISTENERS (200) and WAYS ('batch each function large
#                               passes') change what is measured
#
# Each agent reports ten keys every ten seconds. Half of coderd's batch is the target from 6,000 agents on:
# the batches of fewer cost less than it takes to receive their reports one by one.

. "$(dirname "$0")/common.sh"

DURATION=${DURATION:-300}
AGENTS=${AGENTS:-2000 6000}
LISTENERS=${LISTENERS:-200}
WAYS=${WAYS:-batch each function large passes}
ROUNDS=$(((DURATION + 9) / 10))
# the flush interval and 100 ms
LONGEST_DELAY=5100

start_bench metadata_scale <<-CONF
	shared_preload_libraries = 'prebuild_ext'
	prebuild.databases = 'fleet'
	prebuild.worker_role = 'postgres'
	prebuild.metadata_flush_interval = '5s'
	max_connections = 400
	shared_buffers = 256MB
	max_wal_size = 4GB
CONF

need_packages libpq-dev
cc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" -o "$BENCH/metadata" "$PROJECT/bench/load/metadata.c" \
	"$PROJECT/bench/load/server_cpu.c" "$PROJECT/bench/load/clients.c" -lpq -lm
chmod a+rx "$BENCH/metadata"
POSTMASTER=$(head -n 1 "$BENCH/pgdata/postmaster.pid")

create_control_plane fleet
sql fleet -v templates=1 -v versions=1 -v prebuilds=0 -v workspaces=10 -f "$BENCH/sql/fleet.sql" \
	-f "$BENCH/sql/metadata_scale.sql"

# Set the server up for a way, and WAY to what the load generator calls it.
set_up() {
	local batch=500 interval=0
	WAY=function
	case $1 in
	batch | each) WAY=$1 ;;
	large) batch=5000 ;;
	passes) interval=1 ;;
	esac
	sql fleet -c "ALTER SYSTEM SET prebuild.metadata_batch_size = $batch" \
		-c "ALTER SYSTEM SET prebuild.reconcile_interval = $interval" -c 'SELECT pg_reload_conf()' > /dev/null
}

passes() { sql fleet -c "SELECT passes FROM prebuild_worker_status WHERE lane = 'passes'"; }

# Have agents report: how many, by which way. Sets CORES, LOST (missing messages included), P99,
# PASSES (how many ended meanwhile) and WORDS.
measure() {
	local before cpu listening reporting own wal ids p50 p100 missing took dead size
	set_up "$2"
	sql fleet -c "CALL bench.store($1)" -c 'VACUUM ANALYZE workspace_agents, workspace_agent_metadata' \
		-c 'CHECKPOINT' -c 'SELECT pg_stat_reset()' > /dev/null
	before=$(passes)
	IFS='|' read -r cpu listening reporting own wal ids p50 P99 p100 missing took < <(as_server_user \
		"$BENCH/metadata" "host=$SOCKETS user=postgres dbname=fleet" "$POSTMASTER" "$WAY" "$1" "$ROUNDS" \
		"$LISTENERS")
	LOST=$(sql fleet -c "SELECT bench.lost($1, '$WAY', $ROUNDS)")
	LOST=$((LOST + missing))
	sleep 2
	IFS='|' read -r dead size < <(sql fleet -c "SELECT n_dead_tup,
		round(pg_total_relation_size(relid) / 1e6, 1)
		FROM pg_stat_user_tables WHERE relname = 'workspace_agent_metadata'")
	CORES=$(ratio "$cpu" $((ROUNDS * 10)))
	WORDS="$cpu s of the server in $took s, $listening of them to listen, $reporting to report (load: $own s)"
	WORDS+="; WAL $(ratio "$wal" 1000000) MB, $ids transaction ids, $dead dead rows, $size MB"
	WORDS+="; delay p50 $p50, p99 $P99, most $p100 ms"
	PASSES=$(($(passes) - before))
}

declare -A NAMES=([batch]="coderd's batch" [each]='an update and a message each' [function]='our reports'
	[large]='our reports, batches of 5,000' [passes]='our reports, passes of 10 s')
declare -A COST

say 'measuring'
for agents in $AGENTS; do
	for way in $WAYS; do
		measure "$agents" $way
		COST[$way]=$CORES
		if [ $way = batch ] || [ $way = each ]; then
			printf '%-58s %7.3f   %s; %s lost\n' "$agents agents, ${NAMES[$way]}: cores" "$CORES" "$WORDS" "$LOST"
			continue
		fi
		[ $way != passes ] || WORDS="$PASSES passes; $WORDS"
		report "$agents agents, ${NAMES[$way]}: cores" "$CORES" 'at most' 0.25 "$WORDS"
		if [ -n "${COST[batch]:-}" ]; then
			part=$(ratio "$CORES" "${COST[batch]}")
			name="$agents agents, ${NAMES[$way]}: to coderd's batch"
			if [ "$agents" -ge 6000 ]; then
				report "$name" "$part" 'at most' 0.5 "$CORES to ${COST[batch]}"
			else
				printf '%-58s %7.2f   %s\n' "$name" "$part" "$CORES to ${COST[batch]}"
			fi
		fi
		report "$agents agents, ${NAMES[$way]}: lost" "$LOST" 'at most' 0 ''
		report "$agents agents, ${NAMES[$way]}: p99 in ms" "$P99" 'at most' $LONGEST_DELAY ''
	done
done
exit $MISSED
