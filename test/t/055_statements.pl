# What passes and answers cost in statements and rows, counted: a pass without a preset in mode auto executes no
# statement of that mode; one with such presets executes as many however many they are; and an answer about one
# preset reads the rows of that preset, however many there are and however often the session has asked before.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('statements', "shared_preload_libraries = 'pg_stat_statements'", 'pg_stat_statements.track = all',
	'autovacuum = off', 'fsync = off', 'jit = off', 'prebuild.lock_linger = 0');

# Presets in templates of ten each, and what passes have logged of them: all have been asked for on each of thirty
# days. They want none by themselves.
my $functions = q{
	CREATE FUNCTION grow(first int, last int) RETURNS void LANGUAGE sql AS $$
		SELECT fixture.template('t' || n), fixture.version('t' || n, format('t%s-v1', n)) FROM generate_series(first, last) n;
		INSERT INTO template_version_presets (id, template_version_id, name, created_at, desired_instances, invalidate_after_secs,
			scheduling_timezone)
		SELECT gen_random_uuid(), fixture.v(format('t%s-v1', n)), format('p%s-%s', n, i), fixture.t0(), 0, 0, 'UTC'
		FROM generate_series(first, last) n, generate_series(0, 9) i;
		INSERT INTO template_version_preset_prebuild_schedules (preset_id, cron_expression, desired_instances)
		SELECT p.id, '* 3 * * 0', 1 FROM template_version_presets p WHERE NOT EXISTS (
			SELECT FROM template_version_preset_prebuild_schedules s WHERE s.preset_id = p.id);
		INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
		SELECT 'public', gen_random_uuid(), fixture.t('t' || n), format('p%s-%s', n, i), fixture.t0() - d * interval '23 hours', false
		FROM generate_series(first, last) n, generate_series(0, 9) i, generate_series(1, 30) d;
		INSERT INTO prebuild_lead_time_log (control_plane, workspace_id, template_id, preset_name, built_at, outcome, waiting, building, starting)
		SELECT control_plane, workspace_id, template_id, preset_name, at, 'ready', 1, 200, 30
		FROM prebuild_demand_log WHERE template_id IN (SELECT fixture.t('t' || n) FROM generate_series(first, last) n);
	$$;
	-- the modes of the first presets, and of the others
	CREATE FUNCTION modes(mode text, n int, others text DEFAULT 'advise') RETURNS void LANGUAGE sql AS $$
		SELECT prebuild_set_policy(v.template_id, p.name, CASE WHEN p.place <= n THEN modes.mode ELSE others END)
		FROM (SELECT *, row_number() OVER (ORDER BY name COLLATE "C") AS place FROM template_version_presets) p
		JOIN template_versions v ON v.id = p.template_version_id;
	$$;
};
my $db = new_control_plane($node, 'fleet');
# What is missing is not built, with this cap and a build that waits for ever: passes have nothing new to write.
# One preset misses an instance from the start, so that each pass looks whether it can be built.
$node->safe_psql($db, $functions . q{
	CREATE EXTENSION pg_stat_statements;
	CREATE TABLE executed (name text, queryid bigint, query text, calls bigint);
	SELECT grow(1, 20);
	SELECT fixture.prebuild('p9-9', 'waits', status => 'pending', created => fixture.t0() - interval '150 days');
	UPDATE template_version_presets SET desired_instances = 1 WHERE name = 'p9-8';
});
my $session = $node->background_psql($db);
$session->query_safe(q{SET client_min_messages = warning; SET prebuild.max_building = 1});

# Have a statement executed, and note what that executes under a name. Returns the number of statements.
sub executed
{
	my ($name, $statement) = @_;

	$session->query_safe('SELECT pg_stat_statements_reset()');
	$session->query_safe($statement);
	$session->query_safe(qq{DELETE FROM executed WHERE name = '$name';
		INSERT INTO executed SELECT '$name', queryid, query, calls FROM pg_stat_statements WHERE NOT toplevel});
	return answer($session, qq{SELECT sum(calls) FROM executed WHERE name = '$name'});
}

# What has been executed under the second name and not as often under the first.
sub more
{
	my ($first, $second) = @_;

	return $node->safe_psql($db, qq{SELECT format('%s instead of %s: %s', b.calls, coalesce(a.calls, 0), b.query)
		FROM executed b LEFT JOIN executed a ON a.queryid = b.queryid AND a.name = '$first'
		WHERE b.name = '$second' AND b.calls > coalesce(a.calls, 0)});
}

# What has been executed under a name and has to do with choices.
sub of_choices
{
	my ($name) = @_;

	return $node->safe_psql($db, qq{SELECT query FROM executed WHERE name = '$name' AND query ~ 'prebuild_policy_choice'});
}

my $seconds = 0;
sub pass { return sprintf q{SELECT prebuild_reconcile(fixture.t0() + interval '%d seconds')}, ++$seconds; }

# Run passes until they have chosen for as many presets, and one more.
sub choose
{
	my ($wanted) = @_;

	for (1 .. 300)
	{
		$session->query_safe(pass());
		last if answer($session, q{SELECT count(*) FROM prebuild_policy_choice WHERE due_at > chosen_at}) == $wanted;
	}
	is(answer($session, q{SELECT count(*) FROM prebuild_policy_choice WHERE due_at > chosen_at}), $wanted, "passes choose for $wanted");
	$session->query_safe(pass());
	return;
}

# without mode auto
$session->query_safe(pass()) for 1 .. 4;
my $none = executed('none', pass());
cmp_ok($none, '>', 20, "a pass without policies: $none statements");
foreach my $mode ('off', 'advise')
{
	$session->query_safe("SELECT modes('$mode', 0, '$mode')");
	$session->query_safe(pass());
	is(executed($mode, pass()), $none, "as many with presets in mode $mode");
	is(more('none', $mode), '', 'the same ones');
}
is(of_choices('none'), '', 'none of them asks for choices');
foreach my $answer ('prebuild_state', 'prebuild_plan')
{
	executed($answer, "SELECT $answer(fixture.t0() + interval '$seconds seconds')");
	is(of_choices($answer), '', "nor does $answer()");
}

# with mode auto
my (%of_pass, %of_plan);
foreach my $n (1, 20, 200)
{
	$session->query_safe("SELECT modes('auto', $n)");
	choose($n);
	$of_pass{$n} = executed("pass $n", pass());
	$of_plan{$n} = executed("plan $n", "SELECT prebuild_plan(fixture.t0() + interval '$seconds seconds')");
	is($of_pass{$n}, $of_pass{1}, "a pass with $n presets in mode auto: $of_pass{$n} statements");
	is(more('pass 1', "pass $n"), '', 'the same ones');
	is($of_plan{$n}, $of_plan{1}, "and a plan: $of_plan{$n}");
}
cmp_ok($of_pass{1}, '<=', $none + 3, 'by three at most');
is(more('none', 'pass 1') =~ s/^1 instead of 0: SELECT .*prebuild_(?:policy_choice|demand_log|lead_time_log).*\n?//gmr, '',
	'which read the choices and the last day');

# those that choose: one statement for each choice. How many they make depends on the time that these take.
my %choosing;
foreach my $due (1, 8)
{
	for (1 .. 20)
	{
		$session->query_safe(qq{UPDATE prebuild_policy_choice SET due_at = chosen_at WHERE (template_id, preset_name) IN (
			SELECT template_id, preset_name FROM prebuild_policy_choice ORDER BY preset_name LIMIT $due)});
		my $n = executed('choosing', pass());
		my $made = answer($session, qq{SELECT count(*) FROM prebuild_policy_choice WHERE chosen_at = fixture.t0() + interval '$seconds seconds'});

		$choosing{$made} = $n;
		last if $due == 1 || $made > 1;
	}
}
my ($few, @many) = sort { $a <=> $b } keys %choosing;
is($few, 1, 'a pass makes one choice');
cmp_ok(scalar @many, '>', 0, "or more: @many");
is($choosing{$_} - $choosing{1}, $_ - 1, "$_ choices take one statement each") foreach @many;

# What one preset's answers read, in rows of tables and indexes.
my %calls = (
	'prebuild_target() in mode advise' => q{prebuild_target(fixture.p('p1-3'), fixture.t0())},
	'prebuild_target() in mode auto' => q{prebuild_target(fixture.p('p1-0'), fixture.t0() + interval '2 hours')},
	'prebuild_backtest()' => q{prebuild_backtest(fixture.t('t1'), 'p1-3', fixture.t0() - interval '20 days', fixture.t0())},
	'prebuild_replay()' => q{prebuild_replay(fixture.t('t1'), 'p1-3', fixture.t0() - interval '20 days', fixture.t0(), 'configured', '1 day')},
	'prebuild_lead_time()' => q{prebuild_lead_time(fixture.t('t1'), 'p1-3', fixture.t0())},
	'prebuild_demand()' => q{prebuild_demand(fixture.t0() - interval '20 days', fixture.t0(), '1 day', fixture.t('t1'))},
	'prebuild_desired_instances()' => q{prebuild_desired_instances(fixture.p('p1-3'), fixture.t0())},
	'prebuild_forecast()' => q{prebuild_forecast(fixture.p('p1-3'), fixture.t0(), fixture.t0() + interval '1 day')},
	'prebuild_running()' => q{prebuild_running(fixture.p('p1-3'))},
	'prebuild_claim()' => q{prebuild_claim(fixture.p('p1-3'), fixture.usr('author'), 'mine', at => fixture.t0())});


# Those rows by table, at the first call in a session and at the twelfth; by the name of the call and its number.
# Small tables that have a row for a template are left out: the planner reads them from end to end.
sub rows_of
{
	my ($database, $settings) = @_;
	my (%ids, %rows);
	my $script = $settings;

	foreach my $name (sort keys %calls)
	{
		# ids by name are for the fixture to find
		my $call = $calls{$name} =~ s/fixture\.(\w+\('[^']*'\))/$ids{$1} \/\/= "'" . $node->safe_psql($database, "SELECT fixture.$1") . "'"/ger;

		$script .= qq{
			BEGIN;
			CREATE TEMPORARY TABLE before ON COMMIT DROP AS SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) AS n
				FROM pg_stat_xact_all_tables WHERE schemaname = 'public';
			SELECT count(*) FROM $call \\g /dev/null
			SELECT '$name', $_, a.relname, a.seq_tup_read + coalesce(a.idx_tup_fetch, 0) - b.n
			FROM pg_stat_xact_all_tables a JOIN before b USING (relname)
			WHERE a.schemaname = 'public' AND a.seq_tup_read + coalesce(a.idx_tup_fetch, 0) > b.n
				AND relname <> ALL ('{templates,template_versions,provisioner_jobs}');
			ROLLBACK;
		} foreach 1 .. 12;
	}
	my $asking = start_session($node, $database, $script);
	finish_session($asking) or die $asking->{output};
	$rows{$1}{$2}{$3} = $4 while $asking->{output} =~ /^([^|]*)\|(\d+)\|(\w+)\|(\d+)$/mg;
	return \%rows;
}

# The tables of which the second has more rows than the first, as text.
sub more_rows
{
	my ($first, $second) = @_;

	return join ', ', map { "$_ $second->{$_} instead of " . ($first->{$_} // 0) }
	  grep { $second->{$_} > ($first->{$_} // 0) } sort keys %$second;
}

my %databases = (few => 1, many => 100);
foreach my $name (sort keys %databases)
{
	new_control_plane($node, $name);
	$node->safe_psql($name, $functions . qq{SELECT grow(1, $databases{$name});
		SELECT modes('auto', 1000);
		SELECT prebuild_set_policy(fixture.t('t1'), 'p1-3', 'advise');
		SELECT fixture.prebuild('p1-3', 'member');
		-- a table of Coder's that has no index for the question
		DELETE FROM template_version_preset_prebuild_schedules WHERE preset_id <> ALL (ARRAY[fixture.p('p1-3'), fixture.p('p1-0')]);
		INSERT INTO prebuild_policy_choice (control_plane, template_id, preset_name, policy, kind, parameter, outcome, note, chosen_at, due_at)
		SELECT 'public', y.template_id, y.preset_name, 'fixed 1', 'fixed', 1, 'better', repeat('wide enough for an index ', 40), fixture.t0(), fixture.t0()
		FROM prebuild_policy y WHERE y.mode = 'auto';
		-- demands of others, so that the planner prefers one index of the log to another
		INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
		SELECT 'public', gen_random_uuid(), gen_random_uuid(), 'other', fixture.t0() - n * interval '1 minute', true FROM generate_series(1, 2000) n});
	$node->safe_psql($name, 'VACUUM ANALYZE');
	is($node->safe_psql($name, 'SELECT count(*) FROM template_version_presets'), 10 * $databases{$name}, "a control plane with $name presets");
}
# by the indexes that there are, and as the planner likes it
foreach my $settings ('SET enable_seqscan = off;', '')
{
	my $few = rows_of('few', $settings);
	my $many = rows_of('many', $settings);
	my $how = $settings ? 'by indexes' : 'by default';

	foreach my $name (sort keys %calls)
	{
		my $first = $few->{$name}{1};

		isnt(join(' ', keys %$first), '', "$name reads rows, $how");
		is(more_rows($first, $many->{$name}{1}), '', 'no more of them with 1000 presets than with 10');
		is(more_rows($first, $few->{$name}{12}), '', 'nor when the session has asked before');
		is(more_rows($first, $many->{$name}{12}), '', 'nor both');
	}
}
$session->quit;
$node->stop;
done_testing();
