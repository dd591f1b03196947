#!/usr/bin/env bash
# Measure what the code is worth that saves a batch of agent metadata some work by unusual means: the
# same batches with and without it, side by side in one run, on a private server in the scratch
# folder. Prints ratios; exits with 1 where a saving is not worth its code.
#
#   bench/savings.sh        takes two minutes; TURNS (default 15) and BATCHES of each turn (40) change
#                           what is measured
#
# Other load on the machine shows in the ratios: the variants take turns, and the median of the turns'
# ratios is what counts.

. "$(dirname "$0")/common.sh"

TURNS=${TURNS:-15}
BATCHES=${BATCHES:-40}

# Build the library $1, in which the line $2 of metadata_statements.c, if it is given, is $3, and have
# the database $1 call it. A server that preloads the library could not load another one.
variant() {
	local tree=$BENCH/$1 file=src/metadata/metadata_statements.c
	cp -a "$SCRATCH/build" "$tree"
	awk -v line="${2:-}" -v other="${3:-}" 'line != "" && $0 == line { $0 = other; found = 1 } { print }
		END { exit line != "" && !found }' "$PROJECT/$file" > "$tree/$file" || die "$file has no line \"$2\""
	make -s -C "$tree" "PG_CONFIG=$PG_CONFIG" with_llvm=no prebuild_ext.so
	chmod -R a+rX "$tree"
	create_control_plane "$1"
	sql "$1" -f "$BENCH/sql/metadata.sql" -c "UPDATE pg_catalog.pg_proc
		SET probin = '$tree/prebuild_ext.so' WHERE probin = '\$libdir/prebuild_ext'"
}

# The median milliseconds of a batch in the database $1.
batches() {
	sql "$1" -c "CALL bench.batches($BATCHES)" \
		-c 'SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ours) FROM elapsed'
}

start_bench savings <<-CONF
	shared_buffers = 256MB
	max_wal_size = 4GB
CONF

say 'loading 10,000 agents with 15 keys each, three times'
variant as_is
variant locks_first $'\tif (!keeps_batch_order(plan))' $'\tif (keeps_batch_order(plan) || true)'
variant waits_for_wal $'\tXactLastRecEnd = last_record;' $'\t(void) last_record;'

say 'measuring'
for name in as_is locks_first waits_for_wal; do
	batches $name > /dev/null
done
for turn in $(seq "$TURNS"); do
	printf '%s|%s|%s\n' "$(batches as_is)" "$(batches locks_first)" "$(batches waits_for_wal)"
done > "$BENCH/turns"

# One line of the result: name, column of the variant, bound.
compare() {
	report "$1" "$(awk -F'|' -v column="$2" '{ print $column / $1 }' "$BENCH/turns" | median)" 'at least' "$3" \
		"$(printf '%.2f ms to %.2f ms' "$(median_of "$2" < "$BENCH/turns")" "$(median_of 1 < "$BENCH/turns")")"
}
compare 'a batch that always locks its rows first, to ours' 2 1.15
compare 'a batch that waits for the WAL of its locks, to ours' 3 1.15
exit $MISSED
