# A reconciler that takes its snapshot a round trip before it takes the reconcilers' lock, as coderd
# does, beside passes: what a pass has just made is never made again.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);
use Wire;

my $rounds = $ENV{PREBUILD_LINGER_ROUNDS} // 2000;
my $node = new_server('linger', 'max_connections = 40', 'fsync = off', 'autovacuum = off');
my $db = new_control_plane($node, 'plane');

# What the other reconciler sees, once it has the lock; -1 without it.
my $look = q{SELECT CASE WHEN pg_try_advisory_xact_lock(7) THEN
	(SELECT count(*) FROM workspaces WHERE NOT deleted) ELSE -1 END};

$node->safe_psql($db, q{SELECT fixture.simple('one', 2, preset_name => 'p')});
my $empty = 'TRUNCATE workspaces CASCADE';
my $coderd = Wire->new($node, $db);

# Parse, then a pass that commits, then Execute: what the reconciler with the older snapshot gets.
sub in_order
{
	my ($linger) = @_;

	$node->safe_psql($db, $empty);
	$coderd->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$coderd->parse($look);
	my $pass = start_session($node, $db, "SET prebuild.lock_linger = '$linger'; SELECT created FROM prebuild_reconcile()");
	wait_until($node, $db, 'SELECT count(*) = 2 FROM workspaces');
	finish_session($pass) if $linger eq '0';
	my ($seen) = $coderd->execute;
	$coderd->query('COMMIT');
	finish_session($pass) if $linger ne '0';
	is($pass->{output}, 2, "linger $linger: the pass has created two");
	return $seen;
}

is(in_order('0'), 0, 'without lingering the other reconciler gets the lock and sees nothing of the pass');
is(in_order('10s'), -1, 'with it, not the lock');

# a pass does not linger if no session has an older snapshot
sub pass_takes
{
	my ($settings) = @_;

	$node->safe_psql($db, $empty);
	my $began = time;
	is($node->safe_psql($db, "$settings; SELECT created FROM prebuild_reconcile()"), 2, 'a pass that creates two');
	return time - $began;
}
my $long = "SET prebuild.lock_linger = '10s'";
cmp_ok(pass_takes($long), '<', 9, 'does not linger where nobody has an older snapshot');
$coderd->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
$coderd->parse($look);
my $began = time;
is($node->safe_psql($db, "$long; SELECT created FROM prebuild_reconcile()"), 0, 'a pass that has written nothing');
cmp_ok(time - $began, '<', 9, 'does not linger');
$began = time;
$node->safe_psql($db, 'UPDATE workspaces SET deleted = true');
is($node->safe_psql($db, "$long; BEGIN; SELECT created FROM prebuild_reconcile(); ROLLBACK"), 2, 'a pass that writes and is undone');
cmp_ok(time - $began, '<', 9, 'does not, either');
$coderd->query('ROLLBACK');

# The race: passes that find nothing and make two, over and over, and the other reconciler all the time.
# While that has the lock, nobody else creates anything. So it would create again what its snapshot
# does not show. Returns how often it had the lock, and how often that happened. $stop: stop after the first
# time.
my $check = Wire->new($node, $db);
$node->safe_psql($db, q{
	CREATE TABLE race_over (passes bigint);
	CREATE TABLE race_stop ();
	CREATE PROCEDURE passes(rounds int) LANGUAGE plpgsql AS $$
	DECLARE
		made int;
		worked int := 0;
	BEGIN
		WHILE worked < rounds AND NOT EXISTS (SELECT FROM race_stop) LOOP
			UPDATE workspaces SET deleted = true WHERE NOT deleted;
			COMMIT;
			SELECT created INTO made FROM prebuild_reconcile(clock_timestamp());
			COMMIT;
			worked := worked + (coalesce(made, 0) > 0)::int;
		END LOOP;
		INSERT INTO race_over VALUES (worked);
	END $$});

sub race
{
	my ($linger, $passes, $stop) = @_;
	my ($looks, $locked, $doubled) = (0, 0, 0);

	$node->safe_psql($db, 'TRUNCATE race_over, race_stop; ' . $empty);
	my $session = start_session($node, $db, "SET prebuild.lock_linger = '$linger'; CALL passes($passes)");
	until ($looks++ % 20 == 0 && $check->query('SELECT FROM race_over'))
	{
		$coderd->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
		$coderd->parse($look);
		my ($seen) = $coderd->execute;
		if ($seen >= 0)
		{
			my ($there) = $check->query('SELECT count(*) FROM workspaces WHERE NOT deleted');
			$locked++;
			$doubled++ if $seen < $there;
		}
		$coderd->query('COMMIT');
		$check->query('INSERT INTO race_stop DEFAULT VALUES') if $stop && $doubled == 1;
	}
	finish_session($session) or die "the passes failed: $session->{output}";
	note("linger $linger: $looks looks, $locked with the lock, $doubled doubled");
	return ($locked, $doubled);
}

# Races of a hundred passes each, as tables that are written anew over and over get slow; what they returned,
# in all.
sub races
{
	my ($linger, $passes, $stop) = @_;
	my ($locked, $doubled) = (0, 0);

	for (my $n = 0; $n < $passes && !($stop && $doubled); $n += 100)
	{
		my @new = race($linger, 100, $stop);
		$locked += $new[0];
		$doubled += $new[1];
	}
	return ($locked, $doubled);
}

my ($locked, $doubled) = races('0', 5 * $rounds, 1);
cmp_ok($doubled, '>', 0, 'without lingering something is made twice');
$began = time;
# a busy machine's round trip may take longer than the default; nobody waits longer than it takes
($locked, $doubled) = races('10s', $rounds);
is($doubled, 0, "with it nothing, in $rounds passes");
cmp_ok($locked, '>', 0, 'in which the other reconciler had its share');
note(sprintf('%.1f s', time - $began));

$node->stop;
done_testing();
