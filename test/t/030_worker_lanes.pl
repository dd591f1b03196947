# The two workers of a database. They fold the log of the stored pool even without passes, flushes and
# passes do not wait for each other, and the last error of each task stays until the next one.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('lanes', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'plane'", "prebuild.metadata_flush_interval = '200ms'",
	"prebuild.fold_interval = '1s'");
new_metadata($node, 'plane');
add_agents($node, 'plane', 1, 1000);

sub sql { return $node->safe_psql('plane', $_[0]); }

# A column of a lane's status.
sub status
{
	my ($lane, $column) = @_;

	return sql("SELECT $column FROM prebuild_worker_status WHERE lane = '$lane'");
}

# Change settings of the server.
sub set
{
	my (%settings) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET prebuild.$_ = '$settings{$_}'") foreach sort keys %settings;
	$node->reload;
	return;
}

# Errors in the server's log from a position on.
sub errors_since
{
	my ($position) = @_;

	return join "\n", substr(slurp_file($node->logfile), $position) =~ /^.*(?:ERROR|FATAL|PANIC): .*$/mg;
}

# folds, by an ordinary role and by a superuser

sql(q{
	CREATE ROLE keeper LOGIN;
	DO $$ DECLARE name regclass; BEGIN
		FOR name IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
		LOOP
			EXECUTE format('ALTER TABLE %s OWNER TO keeper', name);
		END LOOP;
	END $$;
	-- the extension's schema is not the only one that sorts behind others
	CREATE SCHEMA aaa; CREATE SCHEMA zzz; CREATE SCHEMA "Odd ""one""";
	SELECT prebuild_attach();
	SELECT fixture.simple('t', 2, preset_name => 'p')});
worker_is($node, 'plane', 'serving');
is(status('passes', 'folds'), '0', 'a role that may not call prebuild_fold() does not');

foreach my $role ('keeper', 'postgres')
{
	sql("SELECT prebuild_grant('keeper')") if $role eq 'keeper';
	my $position = -s $node->logfile;

	set(worker_role => $role);
	wait_until($node, 'plane', qq{SELECT bool_and(role = '$role' AND state = 'serving') FROM prebuild_worker_status});
	sql('SELECT prebuild_reconcile(); SELECT fixture.finish_jobs();');
	cmp_ok(sql(q{INSERT INTO prebuild_pool_log SELECT * FROM prebuild_pool_log WHERE false;
		UPDATE workspaces SET name = name || 'x' WHERE owner_id = prebuild_system_user();
		SELECT count(*) FROM prebuild_pool_log}), '>', 0, "$role: changes are logged");
	wait_until($node, 'plane', 'SELECT count(*) = 0 FROM prebuild_pool_log');
	pass("$role: and folded, without a pass");
	is(sql('SELECT count(*) FROM prebuild_verify()'), '0', "$role: into what the tables say");
	is(status('passes', 'folds > 0 AND failed_folds = 0 AND last_fold_at IS NOT NULL AND passes = 0'), 't',
		"$role: the status counts folds");
	is(errors_since($position), '', "$role: nothing is wrong in the log");
}

# a pass that takes long: a trigger of the operator's waits in it, without a lock, until this session lets it go on
my $gate = $node->background_psql('plane');
$gate->query_safe('SELECT pg_advisory_lock(99)');

sql(q{
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		WHILE NOT pg_try_advisory_xact_lock_shared(99) LOOP PERFORM pg_sleep(0.02); END LOOP;
		RETURN NULL;
	END $$;
	CREATE TRIGGER slow AFTER INSERT ON workspaces FOR EACH STATEMENT EXECUTE FUNCTION slow();
	UPDATE template_version_presets SET desired_instances = 3;
	-- how many seconds it takes until 50 reports are written
	CREATE FUNCTION delay(round bigint) RETURNS numeric LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		PERFORM report(n, 'cpu', round::text) FROM generate_series(1, 50) n;
		FOR i IN 1 .. 3000 LOOP
			EXIT WHEN (SELECT count(*) FROM workspace_agent_metadata WHERE value = round::text) = 50;
			PERFORM pg_sleep(0.01);
		END LOOP;
		RETURN round(extract(epoch FROM clock_timestamp() - began), 3);
	END $$});
set(reconcile_interval => '1h');
wait_until($node, 'plane', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'prebuild pass worker' AND query = 'prebuild: reconciling' AND state = 'active'});
my $slowest = sql(q{SELECT max(delay(round)) FROM generate_series(1, 15) round});
is(status('passes', 'passes'), '0', 'a pass is under way');
cmp_ok($slowest, '<', 25, "reports are written meanwhile (after $slowest s at most)");
my $began = time;
sql(q{SELECT report(1, 'cpu', 'by hand'); SELECT prebuild_agent_metadata_flush()});
cmp_ok(time - $began, '<', 25, 'and a flush by hand is one');
is(stat_of($node, 'plane', 'mode, dropped'), 'buffered|0', 'reports are buffered all the time, none is dropped');
is(status('passes', 'passes'), '0', 'before the pass has ended');
$gate->query_safe('SELECT pg_advisory_unlock(99)');
$gate->quit;
wait_until($node, 'plane', q{SELECT passes = 1 FROM prebuild_worker_status WHERE lane = 'passes'});
is(status('passes', 'failed_passes'), '0', 'the pass succeeds');
is(pool_size($node, 'plane'), '3', 'and does what it has to');

# the other way round: a flush that waits for a lock, and passes

sql('DROP TRIGGER slow ON workspaces');
my $locker = $node->background_psql('plane');
$locker->query_safe('BEGIN; LOCK TABLE workspace_agent_metadata');
sql(q{SELECT report(1, 'cpu', 'behind the lock')});
my $waits = q{SELECT query_start FROM pg_stat_activity WHERE backend_type = 'prebuild worker' AND wait_event_type = 'Lock'};
my ($passes, $same) = (1, 0);
# while one wait lasts, which the worker's lock_timeout ends; a busy machine may need several tries
race_until(sub { return $same; }, 8, sub {
	wait_until($node, 'plane', "SELECT EXISTS ($waits)");
	my $before = sql($waits);
	sql('UPDATE template_version_presets SET desired_instances = desired_instances + 1');
	wait_until($node, 'plane', "SELECT passes > $passes FROM prebuild_worker_status WHERE lane = 'passes'");
	$same = $before ne '' && sql($waits) eq $before;
	$passes = status('passes', 'passes');
});
ok($same, 'a pass does not wait for a flush');

# the errors of each task stay, each with its time and code

wait_until($node, 'plane', q{SELECT last_error IS NOT NULL FROM prebuild_worker_status WHERE lane = 'metadata'});
$locker->query_safe('COMMIT');
$locker->quit;
sql(q{ALTER FUNCTION prebuild_reconcile RENAME TO hidden_reconcile;
	ALTER TABLE prebuild_pool_log RENAME TO hidden_log});
set(reconcile_interval => '1s');
wait_until($node, 'plane', q{SELECT failed_folds > 1 AND failed_passes > 1 FROM prebuild_worker_status WHERE lane = 'passes'});
is(status('metadata', 'last_error, last_error_code, last_error_at < now(), fold_error IS NULL'),
	'canceling statement due to lock timeout|55P03|t|t', 'the error of a flush');
is(status('passes', 'last_error, last_error_code, last_error_at < now()'),
	'function public.prebuild_reconcile(timestamp with time zone) does not exist|42883|t', 'of a pass');
is(status('passes', 'fold_error, fold_error_code, fold_error_at < now()'),
	'relation "public.prebuild_pool_log" does not exist|42P01|t', 'and of a fold stay beside each other');
sql(q{ALTER FUNCTION hidden_reconcile RENAME TO prebuild_reconcile;
	ALTER TABLE hidden_log RENAME TO prebuild_pool_log});
my $failed = status('passes', 'failed_passes + failed_folds');
wait_until($node, 'plane', sprintf q{SELECT passes > %d AND last_pass_at > last_error_at AND last_fold_at > fold_error_at
	FROM prebuild_worker_status WHERE lane = 'passes'}, status('passes', 'passes') + 1);
is(status('passes', 'last_error_code, fold_error_code'), '42883|42P01', 'also when all is well again');
is(status('metadata', 'start_error'), '', 'connecting has had none');
sql('REVOKE CONNECT ON DATABASE plane FROM PUBLIC');
set(worker_role => 'keeper');
worker_is($node, 'plane', 'unable');
is(status('metadata', 'start_error, start_error_code, start_error_at <= now()'),
	'permission denied for database "plane"|42501|t', 'until it has');
is(status('passes', 'last_error_code, fold_error_code'), '42883|42P01', 'which hides none of the others');
sql('GRANT CONNECT ON DATABASE plane TO PUBLIC');
worker_is($node, 'plane', 'serving');

# why the pool is not kept
is(status('passes', 'pool_unused'), '', 'a pool that is kept has no reason why not');
sql('ALTER TABLE workspaces DISABLE TRIGGER prebuild_pool_log');
like(status('passes', 'pool_unused'), qr/workspaces/, 'the status says why a pool is not kept');
is(status('metadata', 'pool_unused'), '', 'beside the worker that folds');
sql('ALTER TABLE prebuild_pool_marker RENAME TO lost');
like(status('passes', 'pool_unused'), qr/prebuild_pool_marker/, 'and goes on saying what it can where tables are missing');
sql('ALTER TABLE lost RENAME TO prebuild_pool_marker; ALTER TABLE workspaces ENABLE ALWAYS TRIGGER prebuild_pool_log');
wait_until($node, 'plane', q{SELECT pool_unused IS NULL FROM prebuild_worker_status WHERE lane = 'passes'});
pass('the next fold keeps it again');

$node->stop;
done_testing();
