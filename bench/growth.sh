#!/usr/bin/env bash
# How time, memory and kept bytes grow with the control plane: three fleets side by side on one private
# server, each ten times the workspaces of the one before. Prints a table: what, the three values, and the
# slope of each step on a log scale (1 is in proportion, 0 is no growth), all per tenfold workspaces.
#
#   bench/growth.sh         takes half an hour and 12 GB
#   SIZES='1000 10000' bench/growth.sh      smaller ones

. "$(dirname "$0")/common.sh"

SIZES=${SIZES:-10000 100000 1000000}
ROUNDS=${ROUNDS:-5}

start_bench growth <<-CONF
	shared_buffers = 4GB
	maintenance_work_mem = 512MB
	wal_level = minimal
	max_wal_senders = 0
	max_wal_size = 4GB
	checkpoint_timeout = 1h
	fsync = off
	autovacuum = off
	jit = off
	max_parallel_workers_per_gather = 0
CONF

# The versions of each template and the prebuilds of each active preset (of 400) of a fleet of this size.
versions_of() { case $1 in 1000000) echo 25 ;; 100000) echo 5 ;; *) echo 2 ;; esac; }
prebuilds_of() { case $1 in 1000000) echo 50 ;; 100000) echo 5 ;; *) echo 2 ;; esac; }

FLEETS=()
for size in $SIZES; do
	fleet=fleet_$size
	FLEETS+=("$fleet")
	say "loading $size workspaces"
	SECONDS=0
	create_control_plane "$fleet"
	sql "$fleet" -v versions="$(versions_of "$size")" -v prebuilds="$(prebuilds_of "$size")" \
		-v workspaces="$size" -f "$BENCH/sql/fleet.sql" -f "$BENCH/sql/measure.sql"
	sql "$fleet" -c 'VACUUM ANALYZE'
	say "that took $SECONDS s; the disk has $(df -h --output=avail "$BENCH" | tail -n 1 | tr -d ' ') left"
done

# Print a line: what, unit, and the values of the fleets.
line() {
	local what=$1 unit=$2
	shift 2
	printf '%s' "$what" | awk '{ printf "%-46s", $0 }'
	printf ' %12s' "$@"
	printf ' %-3s' "$unit"
	printf '%s\n' "$@" | awk '{ if (NR > 1) printf " %6s", ($1 > 0 && before > 0 ? sprintf("%.2f", log($1 / before) / log(10)) : "-"); before = $1 } END { print "" }'
}

# Count something in each fleet: what, unit, query, and arguments of psql for what comes before it.
count() {
	local values=() fleet
	for fleet in "${FLEETS[@]}"; do
		values+=("$(sql "$fleet" "${@:4}" -c "$3" | tail -n 1)")
	done
	line "$1" "$2" "${values[@]}"
}

# Time something in each fleet, in turns: what, and a query of the milliseconds that it takes, of which the last
# row counts. The medians of the rounds are printed.
times() {
	local values=() fleet round
	for fleet in "${FLEETS[@]}"; do
		: > "$BENCH/$fleet.times"
	done
	for ((round = 0; round < ${3:-$ROUNDS}; round++)); do
		for fleet in "${FLEETS[@]}"; do
			sql "$fleet" -c "$2" | tail -n 1 >> "$BENCH/$fleet.times"
		done
	done
	for fleet in "${FLEETS[@]}"; do
		values+=("$(median < "$BENCH/$fleet.times" | awk '{ printf "%.2f", $1 }')")
	done
	line "$1" ms "${values[@]}"
}

# Time a command by the clock of the server, once: what, statement.
timed() {
	times "$1" "SELECT bench.took(\$\$$2\$\$)" 1
}

for fleet in "${FLEETS[@]}"; do
	sql "$fleet" <<-'SQL'
		CREATE FUNCTION bench.took(statement text) RETURNS float8 LANGUAGE plpgsql AS $$
		DECLARE
			began timestamptz := clock_timestamp();
		BEGIN
			EXECUTE statement;
			RETURN extract(epoch FROM clock_timestamp() - began) * 1000;
		END
		$$;
		-- Milliseconds of a pass after the jobs of n pool members have changed, undone.
		CREATE FUNCTION bench.pass_after_changes(n int) RETURNS float8 LANGUAGE plpgsql AS $$
		DECLARE
			began timestamptz;
			took float8;
		BEGIN
			UPDATE public.provisioner_jobs SET completed_at = completed_at + interval '1 second'
			WHERE id IN (SELECT b.job_id FROM (SELECT p.id FROM public.prebuild_running() p LIMIT n) m
				JOIN public.workspace_builds b ON b.workspace_id = m.id);
			began := clock_timestamp();
			PERFORM public.prebuild_reconcile();
			took := extract(epoch FROM clock_timestamp() - began) * 1000;
			RAISE EXCEPTION USING ERRCODE = 'UNDO0';
		EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
			RETURN took;
		END
		$$;
		CREATE FUNCTION bench.third(query text) RETURNS float8 LANGUAGE sql AS
			'SELECT bench.milliseconds(query) FROM generate_series(1, 3) OFFSET 2';
	SQL
done

printf '%-46s' what
printf ' %12s' $SIZES
printf '     slopes\n'
count 'workspaces' '' 'SELECT count(*) FROM workspaces'
count 'builds' '' 'SELECT count(*) FROM workspace_builds'
count 'agents' '' 'SELECT count(*) FROM workspace_agents'
count 'presets' '' 'SELECT count(*) FROM template_version_presets'
count 'members of the pool' '' 'SELECT count(*) FROM prebuild_pool()'
count 'the database' MB 'SELECT pg_database_size(current_database()) / 1000000'

say 'detached'
times 'detached: prebuild_running()' "SELECT bench.third('SELECT * FROM prebuild_running()')"
times 'detached: prebuild_plan()' "SELECT bench.third('SELECT * FROM prebuild_plan()')"
times 'detached: the hand-written query' 'SELECT bench.third(bench.handwritten())'
timed 'prebuild_attach(), with the first rebuild' 'SELECT prebuild_attach()'
timed 'prebuild_rebuild()' 'SELECT prebuild_rebuild()'

say 'attached'
sql_all() { for fleet in "${FLEETS[@]}"; do sql "$fleet" "$@" > /dev/null; done; }
sql_all -c "UPDATE provisioner_jobs SET completed_at = completed_at + interval '1 second'
	WHERE id IN (SELECT job_id FROM workspace_builds LIMIT 1000)"
count 'entries in the log' '' 'SELECT count(*) FROM prebuild_pool_log'
timed 'a fold of them' 'SELECT prebuild_fold()'
sql_all -c 'VACUUM ANALYZE'
times 'prebuild_running()' "SELECT bench.third('SELECT * FROM prebuild_running()')"
times 'prebuild_plan()' "SELECT bench.third('SELECT * FROM prebuild_plan()')"
times 'prebuild_state()' "SELECT bench.third('SELECT * FROM prebuild_state()')"
times 'prebuild_claim()' "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took)
	FROM (SELECT bench.claim_and_undo('prebuild_claim', n) AS took FROM generate_series(1, 60) n OFFSET 20) c"
times 'a claim in one statement by hand' "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took)
	FROM (SELECT bench.claim_and_undo('handwritten_claim', n) AS took FROM generate_series(1, 8) n OFFSET 3) c" 1
times "a hundred people's builds" 'SELECT min(bench.builds_and_undo()) FROM generate_series(1, 4)'
sql_all -c 'UPDATE template_version_presets SET desired_instances = least(desired_instances, 50)' \
	-c 'SELECT prebuild_reconcile()'
sql_all -c 'CALL bench.timed_passes(30)'
count 'an idle pass' ms 'SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY milliseconds))::numeric, 2) FROM (SELECT milliseconds FROM bench.timed_passes OFFSET 10) p'
for n in 10 100 400; do
	times "a pass after $n members changed" "SELECT bench.pass_after_changes($n) FROM generate_series(1, 3)" 3
done
sql_all -c "UPDATE template_version_presets p SET desired_instances = desired_instances + 5
	FROM templates t WHERE t.active_version_id = p.template_version_id AND p.name = 'preset-1'"
times 'a pass that creates 500' 'SELECT (t).pass FROM (SELECT bench.create_and_undo() AS t FROM generate_series(1, 4) OFFSET 0) x' 3
sql_all -c "UPDATE template_version_presets p SET desired_instances = desired_instances - 5
	FROM templates t WHERE t.active_version_id = p.template_version_id AND p.name = 'preset-1'"
count 'memory of a backend after 100 passes' kB 'SELECT sum(total_bytes)::bigint / 1024 FROM pg_backend_memory_contexts' -c 'CALL bench.passes(100)'
count 'the kept pool, with indexes' kB "SELECT (pg_total_relation_size('prebuild_pool_state') + pg_total_relation_size('prebuild_pool_log')) / 1024"
count 'the log of demand, with indexes' kB "SELECT pg_total_relation_size('prebuild_demand_log') / 1024"
sql_all -c 'CALL bench.first_passes()'
count 'passes until it has all builds' '' 'SELECT count(*) FROM bench.first_passes WHERE logging'
count 'the longest of them' ms 'SELECT round(max(milliseconds)::numeric, 1) FROM bench.first_passes WHERE logging'
count 'metrics' ms "SELECT round(bench.third('SELECT * FROM prebuild_metrics')::numeric, 2)"
exit $MISSED
