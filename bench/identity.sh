#!/usr/bin/env bash
# Compare look-ups of identities with the query that they replace, and updates with and without
# invalidation, side by side in one run, on a private server in the scratch folder. Prints ratios;
# exits with 1 if one misses its target.
#
#   bench/identity.sh       takes some minutes; TURNS (default 9) and WORKSPACES of people (100000)
#                           change what is measured
#
# Other load on the machine affects the ratios. So the script measures everything in turns and takes
# the median of the ratios.

. "$(dirname "$0")/common.sh"

TURNS=${TURNS:-9}
WORKSPACES=${WORKSPACES:-100000}

# One line of the result from two columns of microseconds on standard input: name, how the columns
# are compared (/ or -), the most that it may be.
report_columns() {
	local rows value
	rows=$(cat)
	value=$(printf '%s\n' "$rows" | awk -F'|' -v how="$2" '{ print how == "/" ? $1 / $2 : $1 - $2 }' | median)
	report "$1" "$value" 'at most' "$3" \
		"$(printf '%.2f us, %.2f us' "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")")"
}

# Build the functions to compare with.
build_empty() {
	cc -O2 -fPIC -shared -I"$("$PG_CONFIG" --includedir-server)" \
		-o "$BENCH/identity_empty.so" "$PROJECT/bench/identity_empty.c"
	chmod a+rX "$BENCH/identity_empty.so"
}

start_bench identity <<-CONF
	shared_preload_libraries = 'prebuild_ext'
	shared_buffers = 1GB
	maintenance_work_mem = 256MB
	wal_level = minimal
	max_wal_senders = 0
	max_wal_size = 8GB
	fsync = off
	autovacuum = off
	max_parallel_workers_per_gather = 0
CONF
build_empty

say 'loading the fleet'
create_control_plane fleet
sql fleet -v "workspaces=$WORKSPACES" -f "$BENCH/sql/fleet.sql"
sql fleet -v "library=$BENCH/identity_empty.so" -v builds=5 -f "$BENCH/sql/identity.sql"
sql fleet -c 'VACUUM ANALYZE'

say 'measuring'

# Two kinds of look-ups in turns, in one session; $3 is set before those of the first kind.
look_ups() {
	local turns='' turn
	for turn in $(seq "$TURNS"); do
		turns+="$3 SELECT bench.look_up('$1', $4) AS first \\gset
			RESET prebuild.identity_cache_size;
			SELECT :first, bench.look_up('$2', $4);"$'\n'
	done
	sql fleet <<-SQL
		SELECT bench.look_up('$1', 8000) + bench.look_up('$2', 8000) AS warm \\gset
		$turns
	SQL
}

look_ups identity empty '' 100000 |
	report_columns 'microseconds of a hit above a function without a row' - 1
look_ups identity constant '' 100000 |
	report_columns 'microseconds of a hit above a function of the same row' - 1
look_ups query identity '' 20000 |
	awk -F'|' '{ print $2 "|" $1 }' | report_columns 'a hit to the query' / 0.25
# of one entry that is never the right one: every look-up asks the tables, keeps, and drops
look_ups identity query 'SET prebuild.identity_cache_size = 1;' 20000 |
	report_columns 'a miss to the query' / 1.2

# Updates of workspaces with and without the trigger; $1: use or name.
updates() {
	sql fleet -c 'VACUUM ANALYZE bench.watched' -c 'VACUUM ANALYZE bench.plain' \
		-c "CALL bench.update_workspaces('$1', 300)" |
		sed 's/[{}]//g' | tr '|' '\n' | { IFS= read -r watched; IFS= read -r plain
			paste -d'|' <(tr ',' '\n' <<< "$watched") <(tr ',' '\n' <<< "$plain"); }
}

updates use | report_columns 'an update of a workspace with and without invalidation' / 1.05
updates name | report_columns 'a rename of a workspace with and without invalidation' / 1.05
exit $MISSED
