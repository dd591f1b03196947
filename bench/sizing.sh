#!/usr/bin/env bash
# Measure what sizing by demand costs: advice for 400 presets from 90 days (with the 17 weeks before
# them, from which policies learn), and one backtest. In seconds of processor time of the session,
# which do not depend on what else the machine does. On a private server in the scratch folder.
#
#   bench/sizing.sh                 40 demands a day and preset: a minute and 2 GB
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

say "logging $PER_DAY demands a day of 400 presets"
create_control_plane sizing
sql sizing -v workspaces=0 -v prebuilds=0 -f "$BENCH/sql/fleet.sql"
# the pass finds that there is nothing to read; what it would have logged is written here
sql sizing -c 'SELECT prebuild_reconcile()' -c 'SELECT setseed(0.5)' > /dev/null
sql sizing <<-SQL
	INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
	SELECT 'public', gen_random_uuid(), p.template_id, p.name,
		date_trunc('day', now()) - d * interval '1 day' + (8 + 5 * (random() + random())) * interval '1 hour',
		random() < 0.8
	FROM (SELECT v.id, p.name FROM template_version_presets p
			JOIN templates v ON v.active_version_id = p.template_version_id) AS p (template_id, name),
		generate_series(1, 209) d, generate_series(1, round($PER_DAY * 1.4)::int)
	WHERE extract(isodow FROM now() - d * interval '1 day') < 6;
	VACUUM ANALYZE;
SQL

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
exit $MISSED
