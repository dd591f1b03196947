#!/usr/bin/env bash
# Compare the agent metadata path with plain SQL, side by side in one run, on a private server in the
# scratch folder. Prints ratios; exits with 1 if one misses its target.
#
#   bench/metadata.sh       takes two minutes; ROUNDS (default 5), SECONDS_EACH (3) and PROTOCOL
#                           (of pgbench, default extended) change what is measured
#
# Other load on the machine affects the ratios. So the script measures throughputs in turns and takes
# the median of the ratios.

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-3}

# Transactions per second of 8 clients that run the script $1. Like drivers that get SQL and
# arguments, they parse each statement every time, because that is part of its cost.
throughput() {
	as_server_user "$BINDIR/pgbench" -n -M "${PROTOCOL:-extended}" -c 8 -j 2 -T "$SECONDS_EACH" -h "$SOCKETS" \
		-U postgres -D "keys=$KEYS" -D "vals=$VALUES" -f "$BENCH/$1.pgbench" fleet 2> /dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

KEYS="{$(printf 'key_%d,' $(seq 1 14))key_15}"
VALUES="{$(printf 'value number %d,' $(seq 1 14))value number 15}"

# A pgbench script that does something for a random agent, whose id is {id} in the statements.
pgbench_script() {
	local name=$1
	shift
	{ printf '%s\n' '\set n random(1, 10000)'; printf '%s\n' "${@//$'\n'/ }"; } |
		sed "s/{id}/md5('agent' || :n)::uuid/g" > "$BENCH/$name.pgbench"
	chmod a+r "$BENCH/$name.pgbench"
}

# Compare the throughput of our report with another's, in turns: name, other, bound.
compare_throughput() {
	local round ours other ratios=() all=()
	for round in $(seq "$ROUNDS"); do
		other=$(throughput "$2")
		ours=$(throughput ours)
		ratios+=("$(ratio "$ours" "$other")")
		all+=("$(printf '%.0f/%.0f' "$ours" "$other")")
	done
	report "$1" "$(printf '%s\n' "${ratios[@]}" | median)" 'at least' "$3" "tps ${all[*]}"
}

# App servers that listen, until the server stops.
start_listeners() {
	local n
	for n in $(seq "$1"); do
		sql fleet -c 'LISTEN workspace_agent_metadata_batch' -f - <<< 'SELECT 1 \watch 0.2' \
			> /dev/null 2>&1 &
	done
	sleep 1
}

start_bench metadata <<-CONF
	shared_preload_libraries = 'prebuild_ext'
	prebuild.databases = 'fleet'
	prebuild.worker_role = 'postgres'
	shared_buffers = 256MB
	max_wal_size = 4GB
CONF

say 'loading 10,000 agents with 15 keys each'
create_control_plane fleet
sql fleet -f "$BENCH/sql/metadata.sql"
pgbench_script ours "SELECT * FROM prebuild_agent_metadata_report({id}, :keys::text[], :vals::text[]);"
pgbench_script nothing "SELECT * FROM bench.nothing({id}, :keys::text[], :vals::text[]);"
# what an app server does for each report without a batcher
pgbench_script update \
	"UPDATE workspace_agent_metadata m SET value = d.value, error = d.error, collected_at = d.at
	FROM unnest(:keys::text[], :vals::text[], array_fill(''::text, ARRAY[15]), array_fill(now(), ARRAY[15]))
		AS d (key, value, error, at)
	WHERE m.workspace_agent_id = {id} AND m.key = d.key;" \
	"SELECT pg_notify('workspace_agent_metadata_batch',
		rtrim(encode(uuid_send({id}), 'base64'), '='));"

say 'measuring'
sql fleet -c 'CALL bench.batches(60)' > /dev/null
read -r ours bare <<< "$(sql fleet -F ' ' -c 'CALL bench.batches(200)' \
	-c 'SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ours),
		percentile_cont(0.5) WITHIN GROUP (ORDER BY bare) FROM elapsed')"
report 'a direct batch of 500 to the bare update' "$(ratio "$ours" "$bare")" 'at most' 1.2 \
	"$(printf '%.2f ms to %.2f ms' "$ours" "$bare")"

read -r slow fast <<< "$(sql fleet -F ' ' -c 'SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY sql_ms),
	percentile_cont(0.5) WITHIN GROUP (ORDER BY ours)
	FROM (SELECT (bench.encodings()).* FROM generate_series(1, 15)) e')"
report 'encoding 100,000 ids: SQL to the function' "$(ratio "$slow" "$fast")" 'at least' 12 \
	"$(printf '%.2f ms to %.2f ms' "$slow" "$fast")"

compare_throughput 'reports to a call that does nothing, 8 clients' nothing 0.8
start_listeners 4
compare_throughput 'reports to UPDATE and pg_notify each, 4 listeners' update 10

size=$(sql fleet -c "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'prebuild agent metadata%'")
setting=$(sql fleet -c "SELECT pg_size_bytes(current_setting('prebuild.metadata_buffer_size'))")
report "the buffer's shared memory to its setting" "$(ratio "$size" "$setting")" 'at most' 1 \
	"$size of $setting bytes"
exit $MISSED
