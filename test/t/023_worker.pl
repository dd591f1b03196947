# The background worker: its role, what it waits for, what it never delays, how it reacts to new
# settings, to errors and to the drop of its database; and the passes that it runs.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('worker', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'plane, \"Other One\", Other_One, plane'", "prebuild.metadata_flush_interval = '200ms'");

sub sql { return $node->safe_psql('plane', $_[0]); }

sub status
{
	my ($column, $lane) = @_;

	$lane //= 'metadata';
	return sql("SELECT $column FROM prebuild_worker_status WHERE lane = '$lane'");
}

# Wait until the worker's detail says this.
sub detail_is
{
	my ($text) = @_;

	wait_until($node, 'plane', qq{SELECT detail LIKE '%$text%' FROM prebuild_worker_status WHERE lane = 'metadata'});
	return;
}

# who it connects as

wait_for_log($node, qr/prebuild worker for database "\Q$_\E" is waiting/) foreach 'plane', 'Other One', 'other_one';
my $log = slurp_file($node->logfile);
is(scalar(() = $log =~ /prebuild worker for database "plane" is waiting/g), 1,
	'a worker for each database waits until there is one');
like($log, qr/prebuild worker for database "Other One" is waiting: database "Other One" does not exist/,
	'also with a quoted name');
new_metadata($node, 'plane');
add_agents($node, 'plane', 1, 1000);
detail_is('the owner of workspaces, "postgres", is a superuser; name a role in prebuild.worker_role');
is(status('state'), 'unable', 'it does not serve as a superuser that nobody named');
is(sql(q{SELECT report(1, 'cpu', 'direct'); SELECT value_of(1, 'cpu')}), "(1,0,0)\ndirect",
	'so reports are written directly');
is(sql('SELECT prebuild_agent_metadata_flush()'), '0', 'and a flush finds nothing that waits');

sql(q{CREATE ROLE owner NOLOGIN; ALTER TABLE workspaces OWNER TO owner;
	ALTER TABLE workspace_agents OWNER TO owner; ALTER TABLE workspace_agent_metadata OWNER TO owner});
detail_is('role "owner" is not permitted to log in');
sql('ALTER ROLE owner LOGIN');
worker_is($node, 'plane', 'serving');
is(status('role'), 'owner', 'it serves as the owner of workspaces');
is(sql(q{SELECT usename, datname, application_name, state FROM pg_stat_activity WHERE backend_type = 'prebuild worker'
	AND datname IS NOT NULL}), 'owner|plane|prebuild worker|idle', 'which pg_stat_activity shows');
sql(q{SELECT report(1, 'cpu', 'buffered'); SELECT prebuild_agent_metadata_flush()});
is(value_of($node, 'plane', 1, 'cpu'), 'buffered', 'and writes');
like(sql(q{SELECT query FROM pg_stat_activity WHERE backend_type = 'prebuild worker' AND datname IS NOT NULL}),
	qr/^prebuild: /, 'saying what it does');

# the pins: what the role has set does not matter
sql(q{ALTER ROLE owner SET search_path = nowhere; ALTER ROLE owner SET default_transaction_read_only = on;
	ALTER ROLE owner SET default_transaction_isolation = 'serializable'});
sql('SELECT pg_terminate_backend(pid) FROM prebuild_worker_status');
sql(q{SELECT report(1, 'cpu', 'pinned'); SELECT prebuild_agent_metadata_flush()});
is(value_of($node, 'plane', 1, 'cpu'), 'pinned', 'its own settings hold against the role\'s');
sql('ALTER ROLE owner RESET ALL');

# another owner, another role
sql(q{CREATE ROLE second LOGIN; GRANT ALL ON workspaces, workspace_agents, workspace_agent_metadata TO second;
	ALTER TABLE workspaces OWNER TO second});
wait_until($node, 'plane', q{SELECT bool_and(role = 'second' AND state = 'serving') FROM prebuild_worker_status});
pass('a changed owner is followed');
$node->append_conf('postgresql.conf', "prebuild.worker_role = 'owner'");
$node->reload;
wait_until($node, 'plane', q{SELECT bool_and(role = 'owner' AND state = 'serving') FROM prebuild_worker_status});
pass('a role that is named wins, after a reload');

# a cancel is no end
my $pid = status('pid');
sql("SELECT pg_cancel_backend($pid)");
sleep 0.5;
is(status('pid'), $pid, 'a cancel while it idles is forgotten');

# what it never delays: the fastest of several tries says so on a busy machine, too
my $start;
sub drop_takes
{
	my $fastest = 1e9;

	race_until(sub { return $fastest < 1; }, 8, sub {
		$node->safe_psql('postgres', 'CREATE DATABASE bystander');
		$node->safe_psql('bystander', 'SELECT 1');
		my $began = time;
		$node->safe_psql('postgres', 'DROP DATABASE bystander');
		$fastest = time - $began if time - $began < $fastest;
	});
	return $fastest;
}
cmp_ok(drop_takes(), '<', 2, 'a database is dropped at once');
my $holder = $node->background_psql('plane');
$holder->query_safe('BEGIN; LOCK TABLE workspace_agent_metadata');
sql(q{SELECT report(1, 'cpu', 'waits')});
my $waits = q{SELECT query_start FROM pg_stat_activity WHERE backend_type = 'prebuild worker' AND datname = 'plane'
	AND wait_event_type = 'Lock' AND query = 'prebuild: writing agent metadata'};
my $same = 0;
race_until(sub { return $same; }, 10, sub {
	$node->safe_psql('postgres', 'CREATE DATABASE bystander');
	wait_until($node, 'postgres', "SELECT EXISTS ($waits)");
	my $before = $node->safe_psql('postgres', $waits);
	$node->safe_psql('postgres', 'DROP DATABASE bystander');
	$same = $before ne '' && $node->safe_psql('postgres', $waits) eq $before;
});
ok($same, 'one also while it waits for a lock, before that ends');
$holder->query_safe('COMMIT');
$holder->quit;
wait_for_stat($node, 'plane', 'queued = 0');

# an extension that comes and goes
sql('DROP EXTENSION prebuild_ext CASCADE');
ok($node->poll_query_until('plane', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'prebuild worker'
	AND datname = 'plane' AND state = 'idle'}), 'without its extension the worker idles');
sql('CREATE EXTENSION prebuild_ext');
worker_is($node, 'plane', 'serving');
sql(q{GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO owner});
pass('and serves when it is back');

# an error of the process: connecting fails, and it tries again after a pause
sql('REVOKE CONNECT ON DATABASE plane FROM PUBLIC');
my $starts = status('starts');
$start = time;
sql('SELECT pg_terminate_backend(pid) FROM prebuild_worker_status');
detail_is('cannot connect');
pass('a worker that cannot connect says so');
sleep 3;
$starts = status('starts') - $starts;
cmp_ok($starts, '<=', 2 + (time - $start), 'and pauses');
is(sql(q{SELECT report(1, 'cpu', 'meanwhile')}), '(1,0,0)', 'while reports are taken');
sql('GRANT CONNECT ON DATABASE plane TO PUBLIC');
worker_is($node, 'plane', 'serving');
sql('SELECT prebuild_agent_metadata_flush()');
is(value_of($node, 'plane', 1, 'cpu'), 'meanwhile', 'and it goes on');

# passes
is(status('passes', 'passes'), '0', 'no passes by itself');
sql(q{ALTER FUNCTION prebuild_reconcile RENAME TO hidden_reconcile});
$node->append_conf('postgresql.conf', "prebuild.reconcile_interval = '1s'");
$node->reload;
wait_until($node, 'plane', q{SELECT failed_passes >= 2 FROM prebuild_worker_status WHERE lane = 'passes'});
like(status('last_error', 'passes'), qr/function public.prebuild_reconcile\(timestamp with time zone\) does not exist/, 'a pass that fails is told');
is(status('pid IS NOT NULL AND state = $$serving$$', 'passes'), 't', 'and does not end the worker');
sql(q{ALTER FUNCTION hidden_reconcile RENAME TO prebuild_reconcile});
sql(q{DO $$ DECLARE t record; BEGIN
	FOR t IN SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
			AND relname NOT LIKE 'prebuild%' LOOP
		EXECUTE format('ALTER TABLE %s OWNER TO owner', t.name);
	END LOOP; END $$});
sql(q{SELECT fixture.simple('t', 3, preset_name => 'p')});
wait_until($node, 'plane', q{SELECT count(*) = 3 FROM workspaces WHERE owner_id = 'c42fdf75-3097-471c-8c33-fb52454d81c0'});
pass('passes fill the pool');
my $passes = status('passes', 'passes');
wait_until($node, 'plane', "SELECT passes > $passes + 1 FROM prebuild_worker_status WHERE lane = 'passes'");
pass('again and again');
$node->append_conf('postgresql.conf', "prebuild.reconcile_interval = 0");
$node->reload;
my $still = 0;
# there would be one each second
race_until(sub { return $still; }, 10, sub {
	$passes = status('passes', 'passes');
	sleep 2.5;
	$still = status('passes', 'passes') == $passes;
});
ok($still, 'until that is turned off');

# a second database, and its end
new_metadata($node, 'other_one');
add_agents($node, 'other_one', 1, 10);
$node->safe_psql('other_one', q{ALTER TABLE workspaces OWNER TO owner; GRANT ALL ON workspace_agents, workspace_agent_metadata TO owner});
worker_is($node, 'other_one', 'serving');
$node->safe_psql('other_one', q{SELECT report(1, 'cpu', 'x'); SELECT prebuild_agent_metadata_flush()});
is(value_of($node, 'other_one', 1, 'cpu'), 'x', 'each database has its own worker');
my $size = -s $node->logfile;
$start = time;
$node->safe_psql('postgres', 'DROP DATABASE other_one WITH (FORCE)');
cmp_ok(time - $start, '<', 30, 'it can be forced out of its database');
wait_for_log($node, qr/prebuild worker for database "other_one" is waiting/, $size);
sleep 7;
$log = substr(slurp_file($node->logfile), $size);
like($log, qr/prebuild worker for database "other_one" is waiting/, 'the worker then waits');
cmp_ok(scalar(() = $log =~ /FATAL/g), '<=', 1, 'quietly');
new_metadata($node, 'other_one');
$node->safe_psql('other_one', q{ALTER TABLE workspaces OWNER TO owner; GRANT ALL ON workspace_agents, workspace_agent_metadata TO owner});
worker_is($node, 'other_one', 'serving');
is(stat_of($node, 'other_one', 'queued'), '0', 'and serves a new database of that name');

# a standby has none, until it is promoted
sql('SELECT prebuild_agent_metadata_flush()');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my ($code, $out, $err) = $standby->psql('plane', q{SELECT report(1, 'cpu', 'standby')});
like($err, qr/cannot execute .* (during recovery|in a read-only transaction)/, 'a report on a standby fails as writes do');
is($standby->safe_psql('plane', q{SELECT state, pid IS NULL, detail FROM prebuild_worker_status
	WHERE lane = 'metadata'}), 'starting|t|the server is in recovery; workers start when it ends',
	'where no worker runs');
$standby->promote;
worker_is($standby, 'plane', 'serving');
$standby->safe_psql('plane', q{SELECT report(1, 'cpu', 'promoted'); SELECT prebuild_agent_metadata_flush()});
is($standby->safe_psql('plane', q{SELECT value_of(1, 'cpu')}), 'promoted', 'after promotion one does');
$standby->stop;

# no leak: the worker's memory does not grow with what it has written
$node->append_conf('postgresql.conf', "prebuild.metadata_flush_interval = '1h'");
$node->reload;
sub worker_memory
{
	my $file = '/proc/' . status('pid') . '/status';
	my ($private) = slurp_file($file) =~ /^RssAnon:\s+(\d+) kB/m;
	return $private;
}
my $load = q{DO $$ DECLARE keys text[] := ARRAY(SELECT 'key' || k FROM generate_series(1, 100) k);
	BEGIN FOR n IN 1 .. 1000 LOOP PERFORM prebuild_agent_metadata_report(a(n), keys, keys); END LOOP; END $$;
	SELECT prebuild_agent_metadata_flush()};
sql($load);
is(sql(q{SELECT count(*) FROM workspace_agent_metadata WHERE key LIKE 'key%'}), '100000', 'a hundred thousand entries');
my $before = worker_memory();
sql($load) foreach 1 .. 9;
is(stat_of($node, 'plane', 'dropped'), '0', 'a million entries are taken');
my $after = worker_memory();
cmp_ok($after - $before, '<', 4096, "and the worker's memory stays ($before kB, $after kB)");

$node->stop;
done_testing();
