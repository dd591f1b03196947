#!/usr/bin/env bash
# Measure what it costs to keep pools healthy: prebuild_plan() with every setting of health on, to the
# same with all of them off, in turns, on the fleet of bench/run and on a private server in the scratch
# folder. Every agent has had a heartbeat in the last 30 seconds. Prints ratios; exits with 1 if one
# misses its target.
#
#   bench/health.sh     takes three minutes and about 1 GB

. "$(dirname "$0")/common.sh"

# Compare the plan on the database "fleet" with health on and off. The argument is the name of the line.
report_plan() {
	local rows
	rows=$(sql fleet -c 'CALL bench.plans(6)' -c 'CALL bench.plans(60)' -c 'TABLE bench.plan_times')
	report "$1" "$(ratio "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")")" 'at most' 1.25 \
		"$(printf '%.2f ms to %.2f ms' "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")")"
}

# Compare a fold that renews everything with a plan. The argument is the name of the line.
report_old() {
	local rows
	rows=$(sql fleet -c 'CALL bench.folds(9)' -c 'TABLE bench.fold_times')
	report "$1" "$(ratio "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")")" 'at most' 2 \
		"$(printf '%.2f ms to %.2f ms' "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")")"
}

start_bench health <<-CONF
	shared_buffers = 1GB
	maintenance_work_mem = 256MB
	wal_level = minimal
	max_wal_senders = 0
	max_wal_size = 8GB
	fsync = off
	autovacuum = off
	jit = off
	max_parallel_workers_per_gather = 0
CONF

say 'loading the fleet'
create_control_plane fleet
sql fleet -f "$BENCH/sql/fleet.sql" -f "$BENCH/sql/measure.sql" -f "$BENCH/sql/health.sql"
sql fleet -c 'VACUUM ANALYZE'

say 'measuring'
report_plan 'prebuild_plan() with health on to off'
sql fleet -c 'SELECT prebuild_attach()' -c 'VACUUM ANALYZE' > /dev/null
report_plan 'attached: prebuild_plan() with health on to off'

# The fleet's heartbeats write nothing for the stored pool to catch up on.
logged=$(sql fleet -c 'SELECT bench.heartbeats()' -c 'SELECT count(*) FROM prebuild_pool_log' | tail -n 1)
report 'attached: entries that 2,000 heartbeats append to the log' "$logged" 'at most' 0 "$logged entries"

# An hour later what is stored of the heartbeats is too old to decide by, until a fold renews it.
sql fleet -c 'SELECT bench.age()' -c 'VACUUM ANALYZE' > /dev/null
report_old 'attached: a fold that renews 2,000 to a plan, an hour later'
report_plan 'attached: prebuild_plan() after it, health on to off'

rows=$(sql fleet -c 'CALL bench.beats(200)' -c 'TABLE bench.beat_times')
report 'a heartbeat, attached to detached' "$(ratio "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")")" \
	'at most' 1.15 "$(printf '%.1f us to %.1f us' "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")")"
exit $MISSED
