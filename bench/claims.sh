#!/usr/bin/env bash
# Claim prebuilds as app servers do, by prebuild_claim() and by coderd's statement with and without
# the guard, side by side in one run, on a private server in the scratch folder. Prints how long claims
# took and how many wrongly got nothing; exits with 1 if a line misses its target.
#
#   bench/claims.sh     takes ten minutes; SECONDS_EACH (default 30), ROUNDS of bursts (5), the size of a
#                       large POOL (12000) and WHO claims ('ours coderd guarded') change what is measured
#
# coderd's statement is slow where claims meet, so it claims for a quarter of the time and in one burst.
#
# A false miss is a claim that got nothing although a prebuild was left in the end. A doubled one got
# what another claim got too.

. "$(dirname "$0")/common.sh"

SECONDS_EACH=${SECONDS_EACH:-30}
ROUNDS=${ROUNDS:-5}
POOL=${POOL:-12000}
WHO=${WHO:-ours coderd guarded}
PERSON=1

start_bench claims <<-CONF
	shared_preload_libraries = 'prebuild_ext'
	prebuild.databases = 'fleet'
	prebuild.worker_role = 'postgres'
	prebuild.reconcile_interval = '1min'
	max_connections = 400
	shared_buffers = 512MB
	max_wal_size = 4GB
	jit = off
CONF

need_packages libpq-dev
cc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" -o "$BENCH/claims" \
	"$PROJECT/bench/load/claims.c" "$PROJECT/bench/load/clients.c" -lpq -lm
chmod a+rx "$BENCH/claims"

say 'loading the fleet'
create_control_plane fleet
sql fleet -v workspaces=20000 -v builds=1 -v agents=1 -f "$BENCH/sql/fleet.sql" -f "$BENCH/sql/claims.sql"
sql fleet -c 'VACUUM ANALYZE'

OURS="SELECT c.id FROM prebuild_claim(bench.preset(), bench.id('user', \$1 % 10000 + 1), 'claim-' || \$1::int4) c"
CODERD="UPDATE workspaces w SET owner_id = bench.id('user', \$1 % 10000 + 1), name = 'claim-' || \$1::int4,
	updated_at = now(), last_used_at = now(), autostart_schedule = NULL, next_start_at = NULL, ttl = NULL
	WHERE w.id IN (SELECT p.id FROM bench.prebuilds p JOIN templates t ON t.id = p.template_id
		WHERE p.transition = 'start' AND p.job_status = 'succeeded' AND p.ready
			AND p.preset_id = bench.preset() AND p.template_version_id = t.active_version_id AND NOT t.deleted
		LIMIT 1 FOR UPDATE OF p SKIP LOCKED)
	RETURNING w.id, w.name"

# Choose who claims: "ours", "coderd" or "guarded". The control plane is attached. Sets SECONDS_HERE and
# ROUNDS_HERE, too.
choose() {
	local guard=false
	SECONDS_HERE=$SECONDS_EACH ROUNDS_HERE=$ROUNDS
	[ "$1" = ours ] || SECONDS_HERE=$(((SECONDS_EACH + 3) / 4)) ROUNDS_HERE=1
	[ "$1" != guarded ] || guard=true
	sql fleet -c "SELECT prebuild_attach(guard_claims => $guard)" > /dev/null
	STATEMENT=$CODERD
	[ "$1" != ours ] || STATEMENT=$OURS
}

# Claim: connections, claims a second (0: all at once), claims, how many of 100 are undone, and how
# many milliseconds they are held. Sets GOT, NONE, DOUBLED, FAILED, P50, P90, P99, P100, TOOK, UNDONE.
claim() {
	IFS='|' read -r GOT NONE DOUBLED FAILED P50 P90 P99 P100 TOOK UNDONE < <(as_server_user "$BENCH/claims" \
		"host=$SOCKETS user=postgres dbname=fleet" "$STATEMENT" "$PERSON" "$1" "$2" "$3" "${4:-0}" "${5:-0}")
	PERSON=$((PERSON + $3))
	[ "$FAILED" = 0 ] || die "$FAILED claims failed"
}

# Set MISSES: of the claims that got nothing, those for which a prebuild was left.
count_misses() {
	local left
	left=$(sql fleet -c 'SELECT bench.eligible()')
	MISSES=$((NONE < left ? NONE : left))
}

fill() { sql fleet -c "CALL bench.fill($1)"; }

# Bursts of claims, ROUNDS times: who claims, connections, prebuilds, claims, how many of 100 are undone
# and after how many ms. Sets the longest burst (SLOWEST) and P99 (WORST), ALL_MISSES and ALL_DOUBLED.
bursts() {
	local round
	choose "$1"
	SLOWEST=0 WORST=0 ALL_MISSES=0 ALL_DOUBLED=0
	for round in $(seq "$ROUNDS_HERE"); do
		fill "$3"
		# passes would refill
		sql fleet -c 'SELECT prebuild_pause()' > /dev/null
		claim "$2" 0 "$4" "${5:-0}" "${6:-0}"
		count_misses
		sql fleet -c 'SELECT prebuild_resume()' > /dev/null
		SLOWEST=$(printf '%s\n' "$SLOWEST" "$TOOK" | sort -g | tail -n 1)
		WORST=$(printf '%s\n' "$WORST" "$P99" | sort -g | tail -n 1)
		ALL_MISSES=$((ALL_MISSES + MISSES))
		ALL_DOUBLED=$((ALL_DOUBLED + DOUBLED))
	done
}

# Show a line without a target.
show() { printf '%-58s %s\n' "$1" "$2"; }

say 'measuring'
declare -A NAMES=([ours]='prebuild_claim()' [coderd]="coderd's statement" [guarded]="coderd's, guarded")

# people who come one by one, while passes and a provisioner refill
for who in $WHO; do
	choose $who
	fill 100
	coproc KEEPER { sql fleet -c 'SELECT pg_advisory_lock(1)' -f -; }
	sleep 0.5
	sql fleet -c 'CALL bench.provision()' &
	claim 32 45 $((45 * SECONDS_HERE))
	eval "exec ${KEEPER[1]}>&-"
	wait
	words="p50 $P50, p90 $P90, p99 $P99, most $P100 ms; $NONE of $((45 * SECONDS_HERE)) got none, $DOUBLED doubled"
	if [ $who = ours ]; then
		report '45 claims a second: p99 in ms' "$P99" 'at most' 20 "$words"
		report '45 claims a second: false misses and doubled' $((NONE + DOUBLED)) 'at most' 0 "$words"
	else
		show "45 claims a second, ${NAMES[$who]}" "$words"
	fi
done

# coderd's statement only by few connections: those in a queue for one row take minutes
for connections in 300 32; do
	for who in $WHO; do
		[ $who = ours ] || [ $connections = 32 ] || continue
		bursts $who $connections 300 300
		words="p99 $WORST ms, $ALL_MISSES false misses, $ALL_DOUBLED doubled in $ROUNDS_HERE bursts"
		if [ $who = ours ]; then
			report "a burst of 300 by $connections connections: seconds" "$SLOWEST" 'at most' 1 "$words"
			report "a burst of 300 by $connections connections: false misses" \
				$((ALL_MISSES + ALL_DOUBLED)) 'at most' 0 "$words"
		else
			show "a burst of 300 by $connections connections, ${NAMES[$who]}" "$SLOWEST s, $words"
		fi
	done
done

case " $WHO " in *' ours '*) ;; *) exit $MISSED ;; esac
bursts ours 64 300 450 33 50
report 'a third of 450 undone after 50 ms: false misses' $((ALL_MISSES + ALL_DOUBLED)) 'at most' 0 \
	"$SLOWEST s, p99 $WORST ms, $ALL_MISSES false misses, $ALL_DOUBLED doubled in $ROUNDS bursts"

# as many as go, from a large pool
for state in attached detached; do
	choose ours
	fill "$POOL"
	sql fleet -c 'SELECT prebuild_pause()' > /dev/null
	sql fleet -c 'VACUUM ANALYZE workspaces'
	[ $state = attached ] || sql fleet -c 'SELECT prebuild_detach()' > /dev/null
	claim 16 -1 $((POOL - 2000))
	count_misses
	sql fleet -c 'SELECT prebuild_resume()' > /dev/null
	words="$GOT in $TOOK s, p50 $P50, p99 $P99 ms, $MISSES false misses, $DOUBLED doubled"
	report "$state: claims a second from a pool of $POOL" "$(ratio "$GOT" "$TOOK")" 'at least' 1000 "$words"
	report "$state: false misses and doubled" $((MISSES + DOUBLED)) 'at most' 0 "$words"
done
exit $MISSED
