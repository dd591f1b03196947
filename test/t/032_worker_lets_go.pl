# The workers leave their database when somebody renames, copies or drops it or drops the extension.
# They write the buffer before, and serve again as soon as they can.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('letsgo', "shared_preload_libraries = 'prebuild_ext'", 'max_worker_processes = 32',
	"prebuild.databases = 'plane, ownerless'", "prebuild.metadata_flush_interval = '1h'");
new_metadata($node, 'plane');
add_agents($node, 'plane', 1, 10);
$node->safe_psql('plane', q{
	CREATE ROLE keeper LOGIN;
	DO $$ DECLARE name regclass; BEGIN
		FOR name IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
		LOOP
			EXECUTE format('ALTER TABLE %s OWNER TO keeper', name);
		END LOOP;
	END $$;
	SELECT prebuild_attach();
	SELECT prebuild_grant('keeper')});
worker_is($node, 'plane', 'serving');

# Run a statement in another database; it succeeds soon.
sub succeeds
{
	my ($statement, $name) = @_;
	my $start = time;
	my ($code, $out, $err) = $node->psql('postgres', $statement);

	is($code, 0, $name) or diag $err;
	note sprintf '%s: %.1f s', $statement, time - $start;
	return;
}

# the workers serve

$node->safe_psql('plane', q{SELECT report(1, 'cpu', 'renamed')});
succeeds('ALTER DATABASE plane RENAME TO elsewhere', 'a database is renamed');
is(value_of($node, 'elsewhere', 1, 'cpu'), 'renamed', 'what waited is written before');
succeeds('ALTER DATABASE elsewhere RENAME TO plane', 'and renamed again');
worker_is($node, 'plane', 'serving');
pass('the workers serve it when its name is back');

$node->safe_psql('plane', q{SELECT report(1, 'cpu', 'copied')});
succeeds('CREATE DATABASE copy TEMPLATE plane', 'a database is copied');
is(value_of($node, 'copy', 1, 'cpu'), 'copied', 'with what waited');
worker_is($node, 'plane', 'serving');
pass('the workers go on');

# another role
$node->safe_psql('plane', 'CREATE ROLE other SUPERUSER LOGIN');
foreach my $role ('other', '')
{
	$node->append_conf('postgresql.conf', "prebuild.worker_role = '$role'");
	$node->reload;
	my $expected = $role || 'keeper';
	wait_until($node, 'plane', "SELECT bool_and(role = '$expected' AND state = 'serving') FROM prebuild_worker_status");
}
pass('the workers change their role');

# a pass is under way, which is not given up for that; the one call that does

$node->safe_psql('plane', q{
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
	CREATE TRIGGER slow AFTER INSERT ON workspaces FOR EACH STATEMENT EXECUTE FUNCTION slow();
	SELECT fixture.simple('t', 2, preset_name => 'p')});
$node->append_conf('postgresql.conf', "prebuild.reconcile_interval = '1h'");
$node->reload;
my $passing = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'prebuild pass worker'
	AND datname = 'plane' AND wait_event = 'PgSleep'};
my $terminate = q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
	WHERE datname = 'plane' AND backend_type LIKE 'prebuild%worker'};
wait_until($node, 'postgres', $passing);
# a rename waits five seconds for others: a session that is there already terminates them in time
my $terminator = start_session($node, 'postgres', qq{DO \$\$ BEGIN
	FOR i IN 1 .. 6000 LOOP
		EXIT WHEN (SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'object' AND mode = 'AccessExclusiveLock' AND granted);
		PERFORM pg_sleep(0.02);
	END LOOP;
END \$\$; $terminate;});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = 'postgres'});
my $session = start_session($node, 'postgres', 'ALTER DATABASE plane RENAME TO elsewhere');
finish_session($terminator);
ok(finish_session($session), 'when the workers are terminated during a pass, they let go') or diag $session->{output};
is(pool_size($node, 'elsewhere'), '0', 'of the pass, too');
succeeds('ALTER DATABASE elsewhere RENAME TO plane', 'and stay away');

# the extension

wait_until($node, 'postgres', $passing);
$session = start_session($node, 'plane', 'DROP EXTENSION prebuild_ext CASCADE');
wait_until($node, 'postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'});
my $start = time;
$node->safe_psql('postgres', $terminate);
ok(finish_session($session), 'so they do of the extension') or diag $session->{output};
cmp_ok(time - $start, '<', 20, 'at once');

# again and again, in the middle of passes, folds and flushes
$node->safe_psql('plane', q{
	DROP TRIGGER slow ON workspaces;
	CREATE FUNCTION slow_little() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END $$;
	CREATE TRIGGER slow AFTER INSERT ON workspaces FOR EACH STATEMENT EXECUTE FUNCTION slow_little();
	CREATE TRIGGER slow AFTER UPDATE OR INSERT ON workspace_agent_metadata FOR EACH STATEMENT EXECUTE FUNCTION slow_little()});
$node->append_conf('postgresql.conf', "prebuild.metadata_flush_interval = '10ms'\nprebuild.reconcile_interval = '1s'");
$node->reload;
my $dropped = 0;
foreach my $round (1 .. 4)
{
	$node->safe_psql('plane', 'CREATE EXTENSION prebuild_ext');
	$node->safe_psql('plane', "SELECT prebuild_grant('keeper'); SELECT prebuild_attach(true)");
	worker_is($node, 'plane', 'serving');
	my $reporter = start_session($node, 'plane', qq{SELECT report(n % 10, 'round', '$round.' || n), pg_sleep(0.001)
		FROM generate_series(1, 100) n});
	$node->safe_psql('plane', 'DELETE FROM workspaces WHERE owner_id = prebuild_system_user()') if $round > 2;
	my ($code, $out, $err) = $node->psql('plane', 'SELECT pg_sleep(0.02); DROP EXTENSION prebuild_ext CASCADE');
	$dropped++ if $code == 0;
	diag $err if $code != 0;
	finish_session($reporter);
}
is($dropped, 4, 'an extension that is in use is dropped without a deadlock');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'for the workers, too');
$node->safe_psql('plane', 'DROP TRIGGER slow ON workspaces; DROP TRIGGER slow ON workspace_agent_metadata');
$node->append_conf('postgresql.conf', "prebuild.metadata_flush_interval = '1h'\nprebuild.reconcile_interval = 0");
$node->reload;
$node->safe_psql('plane', 'CREATE EXTENSION prebuild_ext');
worker_is($node, 'plane', 'serving');

# the end of a database

succeeds('DROP DATABASE plane', 'a database is dropped');
succeeds('ALTER DATABASE copy RENAME TO plane', 'and another one takes its name');
worker_is($node, 'plane', 'serving');
is($node->safe_psql('plane', q{SELECT report(2, 'cpu', 'x'); SELECT prebuild_agent_metadata_flush()}), "(1,0,0)\n1",
	'which the workers serve');
succeeds('DROP DATABASE plane WITH (FORCE)', 'that is dropped by force');

# a worker that waits, connected, for an owner who may be served

new_metadata($node, 'ownerless');
wait_until($node, 'ownerless', q{SELECT count(*) = 2 FROM prebuild_worker_status WHERE detail LIKE '%is a superuser%'});
succeeds('ALTER DATABASE ownerless RENAME TO other', 'a worker that cannot serve lets go, too');

$node->stop;
unlike(slurp_file($node->logfile), qr/(?:FATAL|PANIC): |background worker "prebuild.*exited with/,
	'nothing of that looks like a fault');
done_testing();
