#!/usr/bin/env bash
# Measure what sizing by demand costs: advice for 400 presets from 90 days (with the 17 weeks before
# them, from which policies learn), and one backtest. In seconds of processor time of the session,
# which do not depend on what else the machine does. And what mode auto adds to an idle pass of an
# attached fleet, in the same way, in turns. On a private server in the scratch folder.
#
#   bench/sizing.sh                 40 demands a day and preset: some minutes and 3 GB
#   PER_DAY=5 bench/sizing.sh

. "$(dirname "$0")/common.sh"
PER_DAY=${PER_DAY:-40}

start_bench sizing <<-CONF
	shared_buffers = 512MB
	wal_level = minimal
	max_wal_senders = 0
	max_wal_size = 8GB
	fsync = off
	autovacuum = off
	max_parallel_workers_per_gather = 0
CONF

# Log demand in the fleet of the database $1, up to now.
log_demand() {
	# the pass finds that there is nothing to read; what passes would have logged is written here, in
	# the order of time, as they do
	sql "$1" -c 'SELECT prebuild_reconcile()' -c 'SELECT setseed(0.5)' > /dev/null
	sql "$1" <<-SQL
		INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
		SELECT 'public', gen_random_uuid(), p.template_id, p.name,
			date_trunc('day', now()) - d * interval '1 day' + (8 + 5 * (random() + random())) * interval '1 hour',
			random() < 0.8
		FROM (SELECT v.id, p.name FROM template_version_presets p
				JOIN templates v ON v.active_version_id = p.template_version_id) AS p (template_id, name),
			generate_series($2, 209) d, generate_series(1, round($PER_DAY * 1.4)::int)
		WHERE extract(isodow FROM now() - d * interval '1 day') < 6
		ORDER BY 5;
		DELETE FROM prebuild_demand_log WHERE at > now();
		VACUUM ANALYZE;
	SQL
}

say "logging $PER_DAY demands a day of 400 presets"
create_control_plane sizing
sql sizing -v workspaces=0 -v prebuilds=0 -f "$BENCH/sql/fleet.sql"
log_demand sizing 1

# The processor seconds of the statement $1, the second time in a session.
cpu_seconds() {
	sql sizing <<-SQL | awk 'NR == 1 { before = $1 } NR == 2 { print $1 - before }'
		SELECT pg_backend_pid() AS pid \gset
		\setenv PID :pid
		$1 \g /dev/null
		\! awk -v hertz=\$(getconf CLK_TCK) '{ print (\$14 + \$15) / hertz }' /proc/\$PID/stat
		$1 \g /dev/null
		\! awk -v hertz=\$(getconf CLK_TCK) '{ print (\$14 + \$15) / hertz }' /proc/\$PID/stat
	SQL
}

say 'measuring'
presets=$(sql sizing -c 'SELECT count(*) FROM prebuild_recommend()')
demands=$(sql sizing -c 'SELECT count(*) FROM prebuild_demand_log')
seconds=$(cpu_seconds 'SELECT * FROM prebuild_recommend()')
report 'seconds of one core for the advice for 400 presets' "$seconds" 'at most' 10 \
	"$presets presets, $demands demands in the log"
seconds=$(cpu_seconds "SELECT b.* FROM (SELECT id FROM templates ORDER BY id LIMIT 10) t,
	prebuild_backtest(t.id, 'preset-1', now() - interval '90 days', now()) b")
report 'seconds of ten backtests, to a fortieth of 10' "$seconds" 'at most' 0.25 'each of one preset'

# Passes choose in a copy, whose pools they change. Then each preset has five prebuilds and wants five,
# whatever its policy says within these bounds; so passes have nothing to do but to ask it.
say 'measuring passes'
create_control_plane passes
sql passes -v workspaces=10000 -f "$BENCH/sql/fleet.sql" -f "$BENCH/sql/sizing.sql"
log_demand passes 0
sql passes -c 'SELECT prebuild_attach()' -c "SELECT prebuild_set_policy(id, NULL, 'auto') FROM templates" > /dev/null
sql postgres -c 'CREATE DATABASE choosing TEMPLATE passes'
sql choosing -c 'CALL bench.choose()'
sql choosing -c 'COPY prebuild_policy_choice TO STDOUT' | sql passes -c 'COPY prebuild_policy_choice FROM STDIN'
sql passes -c 'UPDATE prebuild_policy SET min_instances = 5, max_instances = 5' -c 'VACUUM ANALYZE' \
	-c 'CALL bench.auto_passes(10)'
rows=$(sql passes -c 'SELECT auto, off FROM bench.auto_passes')
report 'attached: an idle pass with 400 presets in auto to off' \
	"$(ratio "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")")" 'at most' 1.3 \
	"$(printf '%.2f ms to %.2f ms, ' "$(median_of 1 <<< "$rows")" "$(median_of 2 <<< "$rows")"
	sql passes -c "SELECT count(DISTINCT policy) || ' policies, ' || (SELECT count(*) FROM prebuild_demand_log
		WHERE at > now() - interval '1 day') || ' demands of a day' FROM prebuild_policy_choice WHERE kind <> 'configured'")"
exit $MISSED
