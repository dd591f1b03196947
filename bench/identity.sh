#!/usr/bin/env bash
# Measure look-ups of identities, and what keeping them right costs an update, against what they are
# compared with, side by side in one run, on a private server in the scratch folder. Prints ratios;
# exits with 1 where one misses its target.
#
#   bench/identity.sh       takes some minutes; TURNS (default 9) and WORKSPACES of people (100000)
#                           change what is measured
#
# Other load on the machine shows in the ratios: everything is measured in turns, and the median of
# the turns' ratios is what counts.

. "$(dirname "$0")/../script/common.sh"
exec < /dev/null

TURNS=${TURNS:-9}
WORKSPACES=${WORKSPACES:-100000}
BENCH=
MISSED=0

finish() {
	local status=$?
	trap - EXIT
	if [ -n "$BENCH" ] && [ -e "$BENCH/pgdata/postmaster.pid" ]; then
		as_server_user "$BINDIR/pg_ctl" -D "$BENCH/pgdata" -m immediate -s stop || true
	fi
	[ -z "${SOCKETS:-}" ] || rm -rf "$SOCKETS"
	[ -z "$BENCH" ] || rm -rf "$BENCH"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

sql() {
	as_server_user "$BINDIR/psql" -XAtq -v ON_ERROR_STOP=1 -h "$SOCKETS" -U postgres -d fleet "$@"
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# One line of the result from two columns of microseconds on standard input: name, how the columns
# are compared (/ or -), the most that it may be.
report() {
	local rows value verdict=ok
	rows=$(cat)
	value=$(printf '%s\n' "$rows" | awk -F'|' -v how="$2" '{ print how == "/" ? $1 / $2 : $1 - $2 }' | median)
	if ! awk -v value="$value" -v bound="$3" 'BEGIN { exit !(value <= bound) }'; then
		verdict=MISS
		MISSED=1
	fi
	printf '%-58s %6.2f   at most %.2f   %-4s   %s\n' "$1" "$value" "$3" "$verdict" \
		"$(printf '%.2f us, %.2f us' "$(printf '%s\n' "$rows" | cut -d'|' -f1 | median)" \
			"$(printf '%s\n' "$rows" | cut -d'|' -f2 | median)")"
}

start_server() {
	SOCKETS=$(as_server_user mktemp -d /tmp/prebuild-bench.XXXXXX)
	BENCH=$SCRATCH/bench-identity
	rm -rf "$BENCH"
	as_server_user mkdir "$BENCH"
	as_server_user "$BINDIR/initdb" -D "$BENCH/pgdata" -U postgres -A trust --encoding=UTF8 \
		--locale=C --no-sync > "$SCRATCH/bench-initdb.log" 2>&1 || die "see $SCRATCH/bench-initdb.log"
	cat >> "$BENCH/pgdata/postgresql.conf" <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$SOCKETS'
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
	as_server_user "$BINDIR/pg_ctl" -D "$BENCH/pgdata" -l "$BENCH/server.log" -w -s start ||
		die "the server did not start, see $BENCH/server.log"
}

# Build the functions to compare with.
build_empty() {
	cc -O2 -fPIC -shared -I"$("$PGLIB/bin/pg_config" --includedir-server)" \
		-o "$BENCH/identity_empty.so" "$PROJECT/bench/identity_empty.c"
	mkdir -p "$BENCH/sql"
	cp "$PROJECT"/bench/*.sql "$BENCH/sql/"
	chmod -R a+rX "$BENCH/sql" "$BENCH/identity_empty.so"
}

need_packages "${BUILD_PACKAGES[@]}"
prepare_scratch
say 'building'
stage_server
build_and_install
cd /
start_server
build_empty

say 'loading the fleet'
as_server_user "$BINDIR/createdb" -h "$SOCKETS" -U postgres fleet
sql -c 'CREATE EXTENSION prebuild_ext SCHEMA public' -c 'SELECT prebuild_create_control_plane()' > /dev/null
sql -v "workspaces=$WORKSPACES" -f "$BENCH/sql/fleet.sql"
sql -v "library=$BENCH/identity_empty.so" -v builds=5 -f "$BENCH/sql/identity.sql"
sql -c 'VACUUM ANALYZE'

say 'measuring'

# Two kinds of look-ups in turns, in one session; $3 is set before those of the first kind.
look_ups() {
	local turns='' turn
	for turn in $(seq "$TURNS"); do
		turns+="$3 SELECT bench.look_up('$1', $4) AS first \\gset
			RESET prebuild.identity_cache_size;
			SELECT :first, bench.look_up('$2', $4);"$'\n'
	done
	sql <<-SQL
		SELECT bench.look_up('$1', 8000) + bench.look_up('$2', 8000) AS warm \\gset
		$turns
	SQL
}

look_ups identity empty '' 100000 |
	report 'microseconds of a hit above a function without a row' - 1
look_ups identity constant '' 100000 |
	report 'microseconds of a hit above a function of the same row' - 1
look_ups query identity '' 20000 |
	awk -F'|' '{ print $2 "|" $1 }' | report 'a hit to the query' / 0.25
# of one entry that is never the right one: every look-up asks the tables, keeps, and drops
look_ups identity query 'SET prebuild.identity_cache_size = 1;' 20000 |
	report 'a miss to the query' / 1.2

# Updates of workspaces with and without the trigger; $1: use or name.
updates() {
	sql -c 'VACUUM ANALYZE bench.watched' -c 'VACUUM ANALYZE bench.plain' \
		-c "CALL bench.update_workspaces('$1', 300)" |
		sed 's/[{}]//g' | tr '|' '\n' | { IFS= read -r watched; IFS= read -r plain
			paste -d'|' <(tr ',' '\n' <<< "$watched") <(tr ',' '\n' <<< "$plain"); }
}

updates use | report 'an update of a workspace with and without invalidation' / 1.05
updates name | report 'a rename of a workspace with and without invalidation' / 1.05
exit $MISSED
