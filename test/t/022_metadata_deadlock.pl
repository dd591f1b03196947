# Batches over the same agents from 16 sessions, in whatever order, while agents are deleted and come
# back: nobody deadlocks, nobody fails.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $seconds = $ENV{PREBUILD_RACE_SECONDS} // 60;
my $node = new_server('deadlock', "deadlock_timeout = '50ms'", 'max_connections = 40',
	'log_statement = none');

new_metadata($node, 'metadata');
add_agents($node, 'metadata', 1, 30);

# 40 of the 300 (agent, key) pairs in random order
my $batch = "$PostgreSQL::Test::Utils::tmp_check/batch.sql";
append_to_file($batch, <<'SQL');
SELECT u.*
FROM (SELECT array_agg(a(1 + r % 30)) AS ids, array_agg('key' || r / 30) AS keys,
		array_agg(r::text) AS vals, array_agg(''::text) AS errors,
		array_agg(clock_timestamp()) AS times
	FROM (SELECT (random() * 299)::int AS r FROM generate_series(1, 40)) x) b,
	prebuild_agent_metadata_upsert(ids, keys, vals, errors, times) u;
SQL
my $delete = "$PostgreSQL::Test::Utils::tmp_check/delete.sql";
append_to_file($delete, <<'SQL');
\set n random(1, 30)
DELETE FROM workspace_agents WHERE id = a(:n);
\sleep 20 ms
SELECT fixture.agents(:n);
SQL

my @pgbench = ('pgbench', '-n', '-j', '2', '-T', $seconds);
my $deleter = IPC::Run::start([ @pgbench, '-c', '1', '-f', $delete, $node->connstr('metadata') ],
	'>', \my $deletions, '2>', \my $deletion_errors);
my $batches = IPC::Run::start([ @pgbench, '-c', '16', '-f', $batch, $node->connstr('metadata') ],
	'>', \my $output, '2>', \my $errors);
ok($batches->finish, '16 sessions wrote batches') or diag $errors;
ok($deleter->finish, 'while agents were deleted') or diag $deletion_errors;
my ($transactions) = $output =~ /number of transactions actually processed: (\d+)/;
cmp_ok($transactions, '>', 16, "$transactions batches");
is(scalar(() = slurp_file($node->logfile) =~ /deadlock detected/g), 0, 'and no deadlock');

$node->stop;
done_testing();
