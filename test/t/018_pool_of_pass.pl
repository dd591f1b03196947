# A pass reads the stored pool in the snapshot of its own fold: it asks for the fingerprint once, decides
# by that snapshot whatever is committed in between, and keeps out what snapshots do not show.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('pool_of_pass', "shared_preload_libraries = 'pg_stat_statements'",
	'pg_stat_statements.track = all', 'fsync = off', 'autovacuum = off');
my $db = new_control_plane($node, 'fleet');
$node->safe_psql($db, q{
	CREATE EXTENSION pg_stat_statements;
	SELECT fixture.template('one'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, 3) FROM generate_series(1, 3) n;
	SELECT fixture.usr('ada');
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	SELECT prebuild_attach();
	-- an administrator gives a prebuild away, without a claim
	CREATE FUNCTION fixture.give_away() RETURNS void LANGUAGE sql AS $$
		UPDATE workspaces SET owner_id = (SELECT id FROM users WHERE username = 'ada') WHERE id =
			(SELECT id FROM workspaces WHERE owner_id = prebuild_system_user() ORDER BY id LIMIT 1) $$;
	-- the same, in a way that no trigger sees
	CREATE FUNCTION fixture.steal() RETURNS void LANGUAGE sql AS $$
		ALTER TABLE workspaces DISABLE TRIGGER prebuild_pool_log;
		SELECT fixture.give_away();
		ALTER TABLE workspaces ENABLE ALWAYS TRIGGER prebuild_pool_log $$;
});
my $created = 'SELECT created FROM prebuild_reconcile()';

# How many statements a pass has that does nothing, in all and those that ask for the fingerprint.
sub statements_of_pass
{
	my ($before) = @_;

	return $node->safe_psql($db, qq{
		SELECT FROM prebuild_reconcile(); SELECT FROM prebuild_reconcile();
		$before; SELECT FROM pg_stat_statements_reset();
		SELECT FROM prebuild_reconcile();
		SELECT sum(calls) FILTER (WHERE NOT toplevel) || ' ' || sum(calls) FILTER (WHERE query LIKE '%prebuild_pool_marker m ON%')
		FROM pg_stat_statements}) =~ s/^\n+//r;
}
my ($all, $fingerprints) = split / /, statements_of_pass('');
is($fingerprints, 1, 'a pass asks for the fingerprint once') or diag("of $all statements");
note("a pass that does nothing has $all statements");
my ($all_touched, $fingerprints_touched) =
  split / /, statements_of_pass(q{UPDATE workspaces SET name = name || 'x' WHERE owner_id = prebuild_system_user()});
is($fingerprints_touched, 1, 'one that folds something too') or diag("of $all_touched statements");
note("one that folds 9 members has $all_touched statements");

# what the fold has taken off the log and stored is in the pass's view
$node->safe_psql($db, 'SELECT fixture.give_away()');
is($node->safe_psql($db, $created), 1, 'a pass replaces a prebuild that its own fold finds gone');
$node->safe_psql($db, 'SELECT fixture.finish_jobs(); SELECT fixture.steal()');
is($node->safe_psql($db, $created), 1, 'and one that is gone unlogged, as its fold builds the pool anew');
$node->safe_psql($db, 'SELECT fixture.finish_jobs()');
is($node->safe_psql($db, $created), 0, 'then none');

# Let a pass wait between its fold and the look at its pool, and do something meanwhile. What the pass
# created, and what the other session said.
sub meanwhile
{
	my ($statement) = @_;
	my $holder = $node->background_psql($db);

	$holder->query_safe('BEGIN; LOCK TABLE templates');
	my $pass = start_session($node, $db, "SET lock_timeout = '60s'; $created");
	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'templates'::regclass AND NOT granted});
	my (undef, undef, $said) = $node->psql($db, "SET lock_timeout = '100ms'; $statement");
	$holder->query_safe('COMMIT');
	$holder->quit;
	finish_session($pass) or die "the pass failed: $pass->{output}";
	return ($pass->{output}, $said);
}
is_deeply([ meanwhile('SELECT fixture.steal()') ], [ 0, '' ],
	'a pass decides by its snapshot, which does not see what goes unlogged after it');
is($node->safe_psql($db, 'SELECT count(*) FROM prebuild_verify()'), 0, 'others do not trust the stored pool then');
is($node->safe_psql($db, $created), 1, 'and the next pass replaces what is gone');
$node->safe_psql($db, 'SELECT fixture.finish_jobs()');
foreach my $statement ('TRUNCATE prebuild_pool_state', 'TRUNCATE prebuild_pool_log', 'TRUNCATE workspaces CASCADE',
	'ALTER TABLE workspace_builds ADD COLUMN extra double precision DEFAULT random()')
{
	my ($made, $said) = meanwhile($statement);

	is($made, 0, "a pass is not misled by $statement");
	like($said, qr/lock timeout/, 'which waits for it');
}

# A table that is written anew while a pass waits for it: snapshots from before find it empty. What the
# pass created.
sub beside_rewrite
{
	$node->safe_psql($db, q{UPDATE workspaces SET name = name || 'y' WHERE owner_id = prebuild_system_user()});
	my $writer = $node->background_psql($db);
	$writer->query_safe('BEGIN; ALTER TABLE workspace_builds ADD COLUMN c' . int(rand(1e9)) . ' float8 DEFAULT random()');
	my $pass = start_session($node, $db, "SET lock_timeout = '60s'; $created");
	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'workspace_builds'::regclass AND NOT granted});
	$writer->query_safe('COMMIT');
	$writer->quit;
	finish_session($pass) or die "the pass failed: $pass->{output}";
	return $pass->{output};
}
is(beside_rewrite(), 0, 'a pass is not misled by a table that is written anew before it gets its locks');
is($node->safe_psql($db, 'SELECT count(*) FROM prebuild_verify()'), 0, 'in the end the stored pool is right');
$node->safe_psql($db, 'SELECT prebuild_detach()');
is(beside_rewrite(), 0, 'nor is one of a control plane that is not attached');
is(pool_size($node, $db), 9, 'and as large as it should be');

$node->stop;
done_testing();
