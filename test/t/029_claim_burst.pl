# Bursts of claims: as many sessions as there are prebuilds, all at once, get one each, while rows are
# held for an instant all the time.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $sessions = 40;
my $rounds = 6;
my $node = new_server('burst', 'max_connections = 100', 'fsync = off');
my $db = new_control_plane($node, 'plane');

$node->safe_psql($db, qq{
	SELECT fixture.simple('one', $sessions, preset_name => 'p'), fixture.usr('ada');
	CREATE TABLE given (round int, session int, workspace_id uuid, took interval);
	CREATE TABLE note (workspace_id uuid REFERENCES workspaces);
	CREATE TABLE stop ();
	CREATE PROCEDURE claim(round int, session int) LANGUAGE plpgsql AS \$\$
	DECLARE
		began timestamptz;
		got uuid;
	BEGIN
		-- until all may go
		PERFORM pg_advisory_lock_shared(1);
		PERFORM pg_advisory_unlock_shared(1);
		COMMIT;
		began := clock_timestamp();
		SELECT c.id INTO got FROM template_version_presets p, users u,
			prebuild_claim(p.id, u.id, format('r%s-s%s', round, session)) c WHERE u.username = 'ada';
		INSERT INTO given VALUES (round, session, got, clock_timestamp() - began);
	END \$\$;
	-- a foreign key to one of them, for an instant, at times undone: there is always one that is free
	CREATE PROCEDURE notes() LANGUAGE plpgsql AS \$\$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM stop) LOOP
			INSERT INTO note SELECT id FROM workspaces WHERE owner_id = prebuild_system_user()
				ORDER BY random() LIMIT 1;
			IF random() < 0.5 THEN COMMIT; ELSE ROLLBACK; END IF;
			PERFORM pg_sleep(0.001);
		END LOOP;
	END \$\$});
my @notes = map { start_session($node, $db, 'CALL notes()') } 1 .. 3;
my $gate = $node->background_psql($db);

foreach my $round (1 .. $rounds)
{
	$node->safe_psql($db, 'SELECT created FROM prebuild_reconcile(); SELECT fixture.finish_jobs()');
	is($node->safe_psql($db, 'SELECT eligible FROM prebuild_state()'), $sessions, "round $round: $sessions are ready");
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my @claims = map { start_session($node, $db, "CALL claim($round, $_)") } 1 .. $sessions;
	wait_until($node, $db, qq{SELECT count(*) = $sessions FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	finish_session($_) or die "a claim failed: $_->{output}" foreach @claims;
	is($node->safe_psql($db, "SELECT count(*), count(workspace_id), count(DISTINCT workspace_id) FROM given WHERE round = $round"),
		"$sessions|$sessions|$sessions", "round $round: each of $sessions sessions gets one of its own");
}
$node->safe_psql($db, 'INSERT INTO stop DEFAULT VALUES');
finish_session($_) foreach @notes;
is($node->safe_psql($db, q{SELECT count(*) FROM given g JOIN workspaces w ON w.id = g.workspace_id
	WHERE w.name = format('r%s-s%s', g.round, g.session)}), $sessions * $rounds, 'under its name');
note($node->safe_psql($db, q{SELECT format('claims took %s at most, half of them at most %s', max(took),
	percentile_cont(0.5) WITHIN GROUP (ORDER BY took)) FROM given}));

# a claim that finds nothing says so at once, and one that is passed over soon
my $began = time;
is($node->safe_psql($db, q{SELECT count(*) FROM template_version_presets p, users u,
	prebuild_claim(p.id, u.id, 'none') WHERE u.username = 'ada'}), 0, 'an empty pool gives nothing');
$node->safe_psql($db, 'SELECT created FROM prebuild_reconcile(); SELECT fixture.finish_jobs()');
$gate->query_safe('BEGIN; SELECT FROM workspaces FOR KEY SHARE');
is($node->safe_psql($db, q{SELECT count(*) FROM template_version_presets p, users u,
	prebuild_claim(p.id, u.id, 'none') WHERE u.username = 'ada'}), 0, 'nor does one that is held for long');
cmp_ok(time - $began, '<', 10, 'in a short time');
$gate->query_safe('ROLLBACK');
# and leaves no lock on what has left the pool
$node->safe_psql($db, 'TRUNCATE given');
$gate->query_safe('BEGIN');
is(answer($gate, q{SELECT count(*) FROM template_version_presets p, users u,
	prebuild_claim(p.id, u.id, 'held') WHERE u.username = 'ada'}), 1, 'a claim that is open');
is($node->safe_psql($db, q{SELECT count(*) FROM (SELECT FROM workspaces FOR UPDATE SKIP LOCKED) free}),
	$node->safe_psql($db, 'SELECT count(*) - 1 FROM workspaces'), 'holds its own workspace only');
$gate->query_safe('ROLLBACK');
$gate->quit;

$node->stop;
done_testing();
