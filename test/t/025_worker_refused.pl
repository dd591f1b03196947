# A worker that cannot connect reports why. Meanwhile sessions write reports directly, buffered entries
# stay, and a flush raises an error. The worker serves again after the repair.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('refused', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'plane'", "prebuild.metadata_flush_interval = '1h'");
new_metadata($node, 'plane');
add_agents($node, 'plane', 1, 10);
$node->safe_psql('plane', q{
	CREATE ROLE keeper LOGIN;
	ALTER TABLE workspaces OWNER TO keeper;
	ALTER TABLE workspace_agents OWNER TO keeper;
	ALTER TABLE workspace_agent_metadata OWNER TO keeper;
	-- what a flush by hand says
	CREATE FUNCTION flushed() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		detail text;
	BEGIN
		RETURN prebuild_agent_metadata_flush();
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN SQLERRM || ': ' || detail;
	END $$});

# A session from before: some of the cases let nobody in.
my $session = $node->background_psql('plane');
sub sql { return answer($session, $_[0]); }

# Wait until a query gives true, in that session.
sub wait_here
{
	my ($query) = @_;

	sql(qq{DO \$\$ BEGIN FOR i IN 1 .. 1800 LOOP
		EXIT WHEN ($query);
		PERFORM pg_sleep(0.1);
	END LOOP; END \$\$});
	is(sql("SELECT ($query)"), 't', $_[1]);
	return;
}
my $state = q{SELECT state FROM prebuild_worker_status WHERE lane = 'metadata'};
my $serves = qq{($state) = 'serving'};

# what happens, what brings it about (in which database), what the worker says, what repairs it
my @cases = (
	[
		'a role that may not log in',
		postgres => 'ALTER ROLE keeper NOLOGIN',
		'role "keeper" is not permitted to log in; name another in prebuild.worker_role',
		'ALTER ROLE keeper LOGIN'
	],
	[
		'a superuser that nobody named',
		plane => 'ALTER TABLE workspaces OWNER TO CURRENT_USER',
		'the owner of workspaces, "' . sql('SELECT current_user')
		  . '", is a superuser; name a role in prebuild.worker_role',
		'ALTER TABLE workspaces OWNER TO keeper'
	],
	[
		'a database that takes no connections',
		postgres => 'ALTER DATABASE plane ALLOW_CONNECTIONS false',
		'database "plane" does not accept connections',
		'ALTER DATABASE plane ALLOW_CONNECTIONS true'
	],
	[
		'a role without the right to connect',
		postgres => 'REVOKE CONNECT ON DATABASE plane FROM PUBLIC',
		q{the worker cannot connect; see the server log},
		'GRANT CONNECT ON DATABASE plane TO PUBLIC'
	]);

foreach my $case (@cases)
{
	my ($name, $where, $fault, $detail, $repair) = @$case;

	wait_here($serves, "$name: before, the worker serves");
	# without the table, the worker's last flush leaves what waits
	sql('ALTER TABLE workspace_agent_metadata RENAME TO away');
	sql(qq{SELECT report(1, 'cpu', 'waits: $name'); SELECT report(2, 'cpu', 'waits: $name')});
	$node->safe_psql($where, $fault);
	sql('SELECT pg_terminate_backend(pid) FROM prebuild_worker_status');
	wait_here(qq{($state) = 'unable'}, "$name: is said");
	is(sql(q{SELECT detail FROM prebuild_worker_status WHERE lane = 'metadata'}), $detail, "$name: in these words");
	sql('ALTER TABLE away RENAME TO workspace_agent_metadata');

	is(sql(qq{SELECT mode, queued FROM prebuild_metadata_stats}), 'direct|2', "$name: what waits stays");
	sql(qq{SELECT report(2, 'cpu', 'direct: $name')});
	is(sql(q{SELECT value_of(2, 'cpu')}), "direct: $name", "$name: reports are written directly");
	is(sql('SELECT flushed()'), "the background worker could not write the buffered agent metadata: $detail",
		"$name: a flush by hand says why it cannot");

	$node->safe_psql($where, $repair);
	wait_here($serves, "$name: the repair is noticed");
	# the flush that was asked for, without another
	wait_here('SELECT queued = 0 FROM prebuild_metadata_stats', "$name: what waited is written");
	is(sql(q{SELECT value_of(1, 'cpu')}), "waits: $name", "$name: where it was the newest");
	is(sql(q{SELECT value_of(2, 'cpu')}), "direct: $name", "$name: and only there");
	is(sql(q{SELECT report(3, 'cpu', 'x'); SELECT mode, queued FROM prebuild_metadata_stats}),
		"(1,0,0)\nbuffered|1", "$name: reports are buffered again");
	is(sql('SELECT flushed()'), '1', "$name: and written");
}
like(slurp_file($node->logfile), qr/FATAL:  permission denied for database "plane"/,
	'the log does say why the worker could not connect');

$session->quit;
$node->stop;
done_testing();
