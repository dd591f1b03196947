# Shared by the benchmarks beside it; sourced, never run.
#
# A benchmark calls start_bench, then sql, and report for each line of its result. It ends with
# "exit $MISSED". Its files are in $BENCH. finish() stops the server and removes $BENCH.

. "$(dirname "${BASH_SOURCE[0]}")/../script/common.sh"
exec < /dev/null
# run the last command of a pipe in this shell, so that report can set MISSED there
shopt -s lastpipe

BENCH=
SOCKETS=
MISSED=0

finish() {
	local status=$?
	trap - EXIT
	if [ -n "$BENCH" ] && [ -e "$BENCH/pgdata/postmaster.pid" ]; then
		as_server_user "$BINDIR/pg_ctl" -D "$BENCH/pgdata" -m immediate -s stop || true
	fi
	[ -z "$SOCKETS" ] || rm -rf "$SOCKETS"
	[ -z "$BENCH" ] || rm -rf "$BENCH"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# Build the project and start a server for the benchmark $1, whose settings are on standard input;
# the benchmarks' SQL files are in $BENCH/sql, where the servers' user can read them.
start_bench() {
	need_packages "${BUILD_PACKAGES[@]}"
	prepare_scratch
	say 'building'
	stage_server
	build_and_install < /dev/null
	cd /
	SOCKETS=$(as_server_user mktemp -d /tmp/prebuild-bench.XXXXXX)
	BENCH=$SCRATCH/bench-$1
	rm -rf "$BENCH"
	as_server_user mkdir "$BENCH"
	as_server_user "$BINDIR/initdb" -D "$BENCH/pgdata" -U postgres -A trust --encoding=UTF8 \
		--locale=C --no-sync > "$SCRATCH/bench-initdb.log" 2>&1 < /dev/null ||
		die "see $SCRATCH/bench-initdb.log"
	{
		printf "listen_addresses = ''\nunix_socket_directories = '%s'\n" "$SOCKETS"
		cat
	} >> "$BENCH/pgdata/postgresql.conf"
	as_server_user "$BINDIR/pg_ctl" -D "$BENCH/pgdata" -l "$BENCH/server.log" -w -s start < /dev/null ||
		die "the server did not start, see $BENCH/server.log"
	mkdir "$BENCH/sql"
	cp "$PROJECT"/bench/*.sql "$BENCH/sql/"
	chmod -R a+rX "$BENCH/sql"
}

# psql on database $1, with the other arguments
sql() {
	local database=$1
	shift
	as_server_user "$BINDIR/psql" -XAtq -v ON_ERROR_STOP=1 -h "$SOCKETS" -U postgres -d "$database" "$@"
}

# A database $1 with the extension and its control plane.
create_control_plane() {
	sql postgres -c "CREATE DATABASE $1"
	sql "$1" -c 'CREATE EXTENSION prebuild_ext SCHEMA public' -c 'SELECT prebuild_create_control_plane()' \
		> /dev/null
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# The median of column $1 of the rows on standard input.
median_of() { cut -d'|' -f"$1" | median; }

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { print a / b }'; }

# Print a line of the result: name, value, "at most" or "at least", the bound, the measured numbers.
report() {
	local verdict=ok
	if ! awk -v value="$2" -v bound="$4" -v how="$3" \
		'BEGIN { exit !(how == "at most" ? value <= bound : value >= bound) }'; then
		verdict=MISS
		MISSED=1
	fi
	printf '%-58s %7.2f   %-8s %5.2f   %-4s   %s\n' "$1" "$2" "$3" "$4" "$verdict" "$5"
}
