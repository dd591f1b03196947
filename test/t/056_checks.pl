# prebuild_health() on a running server: what a single session cannot make wrong. Locks, workers, the buffer,
# the stored pool, and a caller who waits for nobody. (008_full_queue has the queue of notifications.)
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('checks', "shared_preload_libraries = 'prebuild_ext,pg_stat_statements'", "pg_stat_statements.track = 'all'", "prebuild.databases = 'fleet'",
	"prebuild.worker_role = 'postgres'", 'prebuild.metadata_buffer_size = 1MB', 'max_prepared_transactions = 5');
my $db = new_metadata($node, 'fleet');

sub sql { return $node->safe_psql($db, $_[0]); }

# What is not ok, as lines of a name and a status.
sub bad
{
	return $node->safe_psql($db, q{SELECT name || ' ' || status FROM prebuild_health() WHERE status <> 'ok'});
}

sub value_of_check
{
	return $node->safe_psql($db, "SELECT value FROM prebuild_health() WHERE name = '$_[0]'");
}

# What some checks say, as lines of a name, a status and a value, while something else is so, which is undone.
sub said_while
{
	my ($change, @names) = @_;
	my $names = join ',', map { "'$_'" } @names;

	return sql("BEGIN; $change; SELECT concat_ws(' ', name, status, value) FROM prebuild_health() WHERE name IN ($names); ROLLBACK");
}

# The change that makes transactions, and sessions without one, as old as this.
sub aged
{
	my ($age) = @_;

	return qq{SET LOCAL allow_system_table_mods = on;
		DO \$\$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_stat_activity AS ' || regexp_replace(
			pg_get_viewdef('pg_catalog.pg_stat_activity'::regclass), 's\.(xact_start|state_change)',
			'CASE WHEN s.\\1 IS NOT NULL THEN now() - interval ''$age'' END AS \\1', 'g'); END \$\$};
}

# The change after which the worker's state has other values.
sub worker_with
{
	my ($assignments) = @_;

	return qq{ALTER FUNCTION prebuild_worker_status_read RENAME TO real_status;
		CREATE FUNCTION prebuild_worker_status_read() RETURNS prebuild_worker_status_row LANGUAGE plpgsql AS \$\$
		DECLARE
			s public.prebuild_worker_status_row := public.real_status();
		BEGIN
			$assignments;
			RETURN s;
		END \$\$};
}

sql(q{SELECT fixture.simple('fine', 1); SELECT prebuild_reconcile(now()); SELECT fixture.finish_jobs()});
worker_is($node, $db, 'serving');
is(bad(), '', 'all is well');
is(value_of_check('worker'), 'metadata serving, passes serving', 'the workers serve');
is(value_of_check('buffer'), '0 entries wait', 'nothing waits');
is(value_of_check('stored_pool'), 'not attached', 'nobody has attached');

# cheap: as many statements for 60 presets that miss prebuilds as for one
sub statements
{
	sql('SELECT pg_stat_statements_reset()');
	sql('SELECT * FROM prebuild_health()');
	return sql(q{SELECT sum(calls) FROM pg_stat_statements WHERE query !~ 'pg_stat_statements_reset'});
}
sql('CREATE EXTENSION pg_stat_statements');
sql(q{SELECT fixture.simple('many-1', 1)});
my $few = statements();
sql(q{SELECT fixture.simple('many-' || n, 1) FROM generate_series(2, 60) n});
is(statements(), $few, "a constant number of statements: $few");
sql(q{UPDATE template_version_presets SET desired_instances = NULL WHERE name LIKE 'many-%'});

# locks: for a moment, and for ever; nobody waits for them
my $holder = $node->background_psql($db);
$holder->query_safe('BEGIN; SELECT pg_advisory_xact_lock(7); LOCK TABLE prebuild_policy; LOCK TABLE site_configs');
my $began = time;
is(bad(), join("\n", map { "$_ unknown" } qw(paused other_reconciler plan hard_limits backoff invalid_presets unsupported_presets refused_presets
		missing_provisioners schedules empty_pools sick_prebuilds failed_deletes)), 'what others hold is unknown');
cmp_ok(time - $began, '<', 15, 'and nobody waits for it');
like(value_of_check('reconcilers_lock'), qr/^held by process \d+ for 00:0\d:\d\d$/, 'who holds the lock of passes');
like(value_of_check('locked_tables'), qr/^prebuild_policy by process \d+, site_configs by process \d+, for 00:0\d:\d\d$/, 'and the tables');
# at several moments of the call, of which the last may be after its end
my $canceled = 0;
foreach my $ms (5, 10, 20, 40)
{
	my ($code, undef, $error) = $node->psql($db, "SET statement_timeout = $ms; SELECT * FROM prebuild_health()");
	$canceled++ if $error =~ /canceling statement due to statement timeout/;
	is($code != 0 && $error !~ /statement timeout/ ? $error : '', '', 'a cancel is no finding');
}
cmp_ok($canceled, '>', 0, 'but ends the statement');
$holder->query_safe('ROLLBACK');
$holder->quit;
is(bad(), '', 'all is well again');
$holder = $node->background_psql($db);
$holder->query_safe('BEGIN; LOCK TABLE prebuild_demand_marker; LOCK TABLE prebuild_pool_log; LOCK TABLE prebuild_pool_marker; LOCK TABLE provisioner_jobs');
is(sql(q{SELECT name || ' ' || status FROM prebuild_health() WHERE name IN ('passes', 'pool_log', 'stored_pool', 'waiting_jobs')}),
	join("\n", map { "$_ unknown" } qw(passes pool_log stored_pool waiting_jobs)), 'nor what else others hold');
$holder->query_safe('ROLLBACK');

# an ordinary session that holds locks, for longer and longer
$holder->query_safe('BEGIN; SELECT pg_advisory_xact_lock(7); LOCK TABLE workspaces IN SHARE MODE');
foreach my $case ([ '1 s', '00:00:0', 'ok', 'ok' ], [ '15 s', '00:00:', 'ok', 'warn' ], [ '70 s', '00:01:', 'warn', 'fail' ],
	[ '601 s', '00:1', 'fail', 'fail' ])
{
	my ($age, $shown, $lock, $tables) = @$case;

	like(said_while(aged($age), qw(reconcilers_lock locked_tables)),
		qr/^reconcilers_lock $lock held by process \d+ for $shown[\d:]+\nlocked_tables $tables workspaces by process \d+, for $shown[\d:]+$/,
		"locks that a session holds for $age");
}
sql(q{CREATE ROLE weak; SELECT prebuild_grant('weak')});
like(said_while('SET LOCAL ROLE weak', qw(reconcilers_lock locked_tables)),
	qr/^reconcilers_lock unknown held by process \d+, nobody may see since when\nlocked_tables unknown workspaces by process \d+, nobody may see since when$/,
	'others do not see for how long');
$holder->query_safe('ROLLBACK; SELECT pg_advisory_lock(7)');
like(said_while(aged('70 s'), qw(reconcilers_lock locked_tables)),
	qr/^reconcilers_lock warn held by process \d+ for 00:01:\d\d\nlocked_tables ok none$/, 'a session without a transaction holds a lock');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
$holder->quit;
is(bad(), '', 'until it lets go of it');
sql(q{BEGIN; SELECT pg_advisory_xact_lock(7); PREPARE TRANSACTION 'holds'});
is(bad(), 'reconcilers_lock fail', 'a prepared transaction keeps passes out');
sql(q{ROLLBACK PREPARED 'holds'; BEGIN; LOCK TABLE workspaces IN SHARE MODE; PREPARE TRANSACTION 'holds'});
is(bad(), 'locked_tables fail', 'a table that nobody can write');
sql(q{ROLLBACK PREPARED 'holds'});

# a pass that fails: the worker runs one within a second of a claim, and so on
sql(q{SELECT prebuild_attach(); SELECT prebuild_rebuild();
	CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no'' USING ERRCODE = ''57014''; END';
	CREATE TRIGGER no BEFORE INSERT ON group_members FOR EACH ROW EXECUTE FUNCTION no()});
is(bad(), '', 'attached, all is well');
is(value_of_check('stored_pool'), 'in use', 'and the pool is kept');
$node->append_conf('postgresql.conf', "prebuild.reconcile_interval = '1s'\nprebuild.fold_interval = '1h'");
sql(q{DELETE FROM group_members});
$node->reload;
wait_until($node, $db, q{SELECT last_error IS NOT NULL FROM prebuild_worker_status WHERE lane = 'passes'});
is(bad(), 'worker fail', 'a pass that fails');
like(value_of_check('worker'), qr/^last pass: no/, 'and why');
sql('DROP TRIGGER no ON group_members');
wait_until($node, $db, q{SELECT status = 'ok' FROM prebuild_health() WHERE name = 'worker'});
$node->append_conf('postgresql.conf', "prebuild.reconcile_interval = 0");
$node->reload;

# a worker that starts or stops, and folds that fail or do not come
foreach my $case ([ q{s.pass_state := 'starting'}, 'worker warn metadata serving, passes starting' ],
	[ q{s.state := 'draining'}, 'worker warn metadata draining, passes serving' ],
	[ q{s.fold_error := 'no'; s.fold_error_at := now(); s.last_fold_at := now() - interval '5 s'}, 'worker warn last fold: no' ],
	[ q{s.fold_error := 'no'; s.fold_error_at := now() - interval '5 s'; s.last_fold_at := now()}, 'worker ok metadata serving, passes serving' ],
	[ q{s.last_fold_at := now() - interval '4 hours'}, 'stored_pool ok in use' ],
	[ q{s.last_fold_at := now() - interval '6 hours'}, q{stored_pool warn the worker's last fold was 06:00:00 ago} ])
{
	my ($change, $said) = @$case;

	# it may take some seconds until it is said
	is(said_while(worker_with($change), $said =~ /^(\w+)/) =~ s/06:00:0\d ago/06:00:00 ago/r, $said, $said);
}

# the stored pool
sql(q{ALTER TABLE workspaces DISABLE TRIGGER ALL});
is(bad(), 'stored_pool warn', 'a trigger that does not fire');
like(value_of_check('stored_pool'), qr/^trigger "\w+" of table "workspaces" is disabled \(Call prebuild_attach/, 'and what repairs it');
sql(q{SELECT prebuild_detach()});
sql(q{INSERT INTO prebuild_pool_log SELECT pg_current_xact_id(), 'public'::regnamespace, 'j', gen_random_uuid() FROM generate_series(1, 100001)});
is(bad(), 'pool_log warn', 'a log that nobody folds');
is(value_of_check('pool_log'), '100001 entries', 'of so many entries');
sql(q{INSERT INTO prebuild_pool_log SELECT pg_current_xact_id(), 'public'::regnamespace, 'j', '00000000-0000-0000-0000-000000000001'
	FROM generate_series(1, 900000)});
is(bad(), 'pool_log fail', 'nor for a long time');
is(value_of_check('pool_log'), 'more than 1000000 entries', 'which are too many to count');
sql('TRUNCATE prebuild_pool_log');

# a buffer that is filled because of a lock, and a worker that cannot serve
add_agents($node, $db, 1, 300);
sql(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not this one''; END';
	CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON workspace_agent_metadata FOR EACH ROW EXECUTE FUNCTION refuse()});
# the error has the time of its batch, or a microsecond more
foreach my $n (1 .. 10)
{
	sql("SELECT report($n, 'cpu', 'refused')");
	wait_until($node, $db, "SELECT refused = $n FROM prebuild_metadata_stats");
	last if value_of_check('buffer') ne '0 entries wait; last write: not this one';
}
is(value_of_check('buffer'), '0 entries wait; last write: not this one', 'entries that a trigger refuses');
is(bad(), 'buffer warn', 'are warned of');
sql(q{DROP TRIGGER refuse ON workspace_agent_metadata; SELECT report(1, 'cpu', '2 %')});
wait_until($node, $db, q{SELECT value_of(1, 'cpu') = '2 %'});
wait_until($node, $db, q{SELECT status = 'ok' FROM prebuild_health() WHERE name = 'buffer'});
is(value_of_check('buffer'), '0 entries wait', 'until one is written');
sql(q{BEGIN; LOCK TABLE workspace_agent_metadata; PREPARE TRANSACTION 'holds'});
sql(q{SELECT report(1, 'cpu', '3 %')});
wait_until($node, $db, q{SELECT status <> 'ok' FROM prebuild_health() WHERE name = 'buffer'});
is(value_of_check('buffer'), '1 entries wait; last write: canceling statement due to lock timeout', 'a write that fails');
is(bad(), "locked_tables fail\nbuffer fail", 'and what waits');
sql(q{SELECT prebuild_agent_metadata_report(fixture.a(n), '{a,b,c}', array_fill(repeat('x', 2048), '{3}')) FROM generate_series(1, 70) n});
is(value_of_check('buffer'), 'more than half full', 'a buffer that fills up');
is(bad(), "locked_tables fail\nbuffer warn", 'is warned of');
sql(q{SET client_min_messages = error;
	SELECT prebuild_agent_metadata_report(fixture.a(n), '{a,b,c}', array_fill(repeat('x', 2048), '{3}')) FROM generate_series(71, 300) n});
like(value_of_check('buffer'), qr/^full at /, 'until it is full');
is(bad(), "locked_tables fail\nbuffer fail", 'and reports are dropped');
sql(q{ROLLBACK PREPARED 'holds'});
$node->append_conf('postgresql.conf', "prebuild.worker_role = 'of_nobody'");
$node->reload;
wait_until($node, $db, q{SELECT status = 'fail' FROM prebuild_health() WHERE name = 'worker'});
like(value_of_check('worker'), qr/of_nobody/, 'a worker without a role');

done_testing();
