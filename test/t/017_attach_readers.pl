# prebuild_attach() creates and updates triggers while some session always reads the control plane's
# tables.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('readers', 'autovacuum = off');
my $db = new_control_plane($node, 'fleet');
$node->safe_psql($db, q{
	SELECT fixture.simple('one', 2, preset_name => 'p');
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	CREATE FUNCTION fixture.stamp() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN NEW.updated_at := now(); RETURN NEW; END'});

# Readers come and go, and one stays all the time, so that there is always one.
my $tables = join ', ', map { "(SELECT count(*) FROM $_)" }
  qw(workspaces workspace_builds provisioner_jobs workspace_resources workspace_agents templates
  template_version_presets template_version_preset_prebuild_schedules users workspace_agent_metadata);
my $read = "BEGIN; SELECT $tables \\g /dev/null\nSELECT pg_sleep(1.5) \\g /dev/null\nCOMMIT;\n" x 100;
my @readers = map { start_session($node, $db, "SELECT pg_sleep(0.5 * $_);\n$read") } 0 .. 2;
my $reader = $node->background_psql($db);
$reader->query_safe("BEGIN; SELECT $tables");
wait_until($node, $db, q{SELECT count(*) = 4 FROM pg_locks
	WHERE relation = 'workspaces'::regclass AND mode = 'AccessShareLock'});
my $refused = 0;
for (1 .. 5)
{
	my ($status, $stdout, $stderr) = $node->psql($db,
		q{SET lock_timeout = '100ms'; BEGIN; LOCK TABLE workspaces IN ACCESS EXCLUSIVE MODE});
	$refused++ if $stderr =~ /lock timeout/;
}
is($refused, 5, 'there is always somebody who reads');

# Attach, with what is to be patient about it; how many seconds it took.
sub attach
{
	my ($what) = @_;
	my $start = time;
	my ($status, $stdout, $stderr) =
	  $node->psql($db, "SET prebuild.attach_timeout = '20s'; SELECT prebuild_attach()");

	is($stderr, '', $what);
	return time - $start;
}

# Do all row triggers of the kept pool fire in all sessions, on this?
sub row_triggers
{
	return $node->safe_psql($db, q{SELECT string_agg(DISTINCT tgenabled::text || CASE WHEN tgattr::text = ''
		THEN ' every update' ELSE ' columns' END, ', '), count(*)
		FROM pg_trigger WHERE tgname = 'prebuild_pool_log'});
}
my $used = q{SELECT count(*) FROM prebuild_pool_marker WHERE fingerprint !~ '^not kept'};

cmp_ok(attach('attached under readers'), '<', 20, 'in time');
is(row_triggers(), 'A columns|5', 'with all triggers');
$node->safe_psql($db, "ALTER TABLE $_ DISABLE TRIGGER USER; ALTER TABLE $_ ENABLE TRIGGER USER")
  foreach qw(workspaces workspace_builds provisioner_jobs);
cmp_ok(attach('attached again after DISABLE and ENABLE TRIGGER'), '<', 20, 'in time');
is(row_triggers(), 'A columns|5', 'the triggers fire in all sessions again');
$node->safe_psql($db, "CREATE TRIGGER stamp BEFORE UPDATE ON $_ FOR EACH ROW EXECUTE FUNCTION fixture.stamp()")
  foreach qw(workspaces workspace_builds provisioner_jobs workspace_agents);
cmp_ok(attach('attached again with somebody else\'s BEFORE triggers'), '<', 20, 'in time');
is(row_triggers(), 'A columns, A every update|5', 'the triggers are on every update');
# what an attach of 0.1 has left
$node->safe_psql($db, q{DELETE FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND deptype = 'x'
	AND objid IN (SELECT oid FROM pg_trigger WHERE tgname ~ '^prebuild_')});
cmp_ok(attach('attached again after an upgrade'), '<', 20, 'in time');
is($node->safe_psql($db, q{SELECT count(*) FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND deptype = 'x'
	AND objid IN (SELECT oid FROM pg_trigger WHERE tgname ~ '^prebuild_')}),
	$node->safe_psql($db, q{SELECT count(*) FROM pg_trigger WHERE tgname ~ '^prebuild_'}),
	'the triggers belong to the extension');
is($node->safe_psql($db, "SELECT prebuild_fold(); $used"), "0\n1", 'the pool is kept');
is($node->safe_psql($db, 'SELECT count(*) FROM prebuild_verify()'), 0, 'and right');

# a fold mends under readers, too
$node->safe_psql($db, 'ALTER TABLE workspaces DISABLE TRIGGER USER; ALTER TABLE workspaces ENABLE TRIGGER USER');
$node->safe_psql($db, 'SELECT prebuild_fold()');
is(row_triggers(), 'A columns, A every update|5', 'a fold mends the triggers under readers');

# to take triggers off needs the tables alone: it gives up in time, and changes nothing
my $start = time;
my ($status, $stdout, $stderr) =
  $node->psql($db, q{SET prebuild.attach_timeout = '1s'; SELECT prebuild_detach()});
like($stderr, qr/could not lock the control plane's tables within 1000 ms/, 'detach gives up');
cmp_ok(time - $start, '<', 20, 'in time');
is(row_triggers(), 'A columns, A every update|5', 'and leaves the triggers');

$reader->quit;
$node->safe_psql($db, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()});
finish_session($_) foreach @readers;
wait_until($node, $db, q{SELECT count(*) = 0 FROM pg_locks WHERE relation = 'workspaces'::regclass});
$node->safe_psql($db, 'SELECT prebuild_detach()');
is(row_triggers(), '|0', 'without readers it takes them off');
$node->stop;
done_testing();
