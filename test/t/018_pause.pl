# A pause that has paused: prebuild_pause() waits for the pass that is under way, and what others write
# into the same settings at the same time stays.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Wire;

my $node = new_server('pause');
my $db = new_control_plane($node, 'plane');
my $builds = 'SELECT count(*) FROM workspace_builds';
my $waits = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'};
my $value = q{SELECT value FROM site_configs WHERE key = 'prebuilds_settings'};

# What a statement that fails says.
sub failure
{
	my ($script) = @_;
	my ($status, $out, $err) = $node->psql($db, $script, on_error_stop => 1);

	isnt($status, 0, "fails: $script");
	return $err;
}

# a pass is open in another session
$node->safe_psql($db, q{SELECT fixture.simple('one', 3, preset_name => 'p')});
my $worker = $node->background_psql($db);
is(answer($worker, 'BEGIN; SELECT lock_acquired, created FROM prebuild_reconcile()'), 't|3', 'a pass is under way');
my $timeout = failure(q{SET lock_timeout = '100ms'; SELECT prebuild_pause()});
like($timeout, qr/prebuild_pause\(\) did not get the reconcilers' lock within lock_timeout/,
	'a pause that waits ends with lock_timeout');
like($timeout, qr/HINT:  Set lock_timeout to wait longer, or call prebuild_pause\(wait => false\)/, 'and says what to do');
is($node->safe_psql($db, $value), '', 'and changes nothing');
is($node->safe_psql($db, 'BEGIN; SELECT prebuild_pause(wait => false); ROLLBACK; SELECT 1'), "\n1", 'one that does not wait goes on');
my $pause = start_session($node, $db, "SELECT prebuild_pause(); $builds");
wait_until($node, $db, $waits);
is($node->safe_psql($db, 'SELECT lock_acquired FROM prebuild_reconcile()'), 'f', 'no pass gets ahead of who waits');
is($node->safe_psql($db, $value), '', 'the pause waits for the pass');
$worker->query_safe('COMMIT');
ok(finish_session($pause), 'and goes on after it');
is($pause->{output}, "\n3", 'what the pass has queued is there when it returns');
$node->safe_psql($db, 'UPDATE template_version_presets SET desired_instances = 5');
is($node->safe_psql($db, 'SELECT lock_acquired, paused, created FROM prebuild_reconcile()'), 't|t|0', 'then nothing is queued any more');

# until the pausing transaction ends, nobody begins a pass
$node->safe_psql($db, 'SELECT prebuild_resume()');
$worker->query_safe('BEGIN; SELECT prebuild_pause()');
is($node->safe_psql($db, 'SELECT lock_acquired, created FROM prebuild_reconcile()'), 'f|0', 'no pass begins before the pause is committed');
$worker->query_safe('ROLLBACK');
is($node->safe_psql($db, 'SELECT paused, created FROM prebuild_reconcile()'), 'f|2', 'a pause that is rolled back was none');

# the pass of the same transaction
is($node->safe_psql($db, q{
	UPDATE template_version_presets SET desired_instances = 6;
	BEGIN;
	SELECT created FROM prebuild_reconcile();
	SELECT prebuild_pause();
	UPDATE template_version_presets SET desired_instances = 7;
	SELECT lock_acquired, paused, created FROM prebuild_reconcile();
	COMMIT}), "1\n\nt|t|0", 'a transaction pauses after its own pass');
$node->safe_psql($db, 'SELECT prebuild_resume()');

# in a pass: what a trigger does while the pass writes
$node->safe_psql($db, q{
	CREATE FUNCTION pauses() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN EXECUTE format('SELECT prebuild_pause(wait => %L)', TG_ARGV[0]); RETURN NEW; END $$;
	CREATE TRIGGER pauses BEFORE INSERT ON workspaces FOR EACH ROW EXECUTE FUNCTION pauses('on')});
my ($status, $out, $err) = $node->psql($db, 'SELECT created, failed FROM prebuild_reconcile()');
is($out, '0|1', 'a trigger that pauses, and waits for the pass that has fired it, fails the preset');
like($err, qr/prebuild_pause\(\) cannot wait for the pass that called it/, 'and the pass says why');
$node->safe_psql($db, q{
	DROP TRIGGER pauses ON workspaces;
	CREATE TRIGGER pauses BEFORE INSERT ON workspaces FOR EACH ROW EXECUTE FUNCTION pauses('off')});
is($node->safe_psql($db, 'SELECT created, failed FROM prebuild_reconcile()'), '1|0', 'one that does not wait does not');
is($node->safe_psql($db, 'SELECT paused FROM prebuild_reconcile()'), 't', 'and the next pass is paused');
$node->safe_psql($db, 'DROP TRIGGER pauses ON workspaces; SELECT prebuild_resume()');

# above READ COMMITTED
my $old = $node->background_psql($db);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$old->query_safe('SELECT prebuild_pause()');
is($node->safe_psql($db, 'SELECT lock_acquired FROM prebuild_reconcile()'), 'f', 'in REPEATABLE READ it keeps passes out, too');
$old->query_safe('COMMIT');
is($node->safe_psql($db, 'SELECT paused FROM prebuild_reconcile()'), 't', 'and pauses');
like(failure(q{BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT prebuild_pause()}),
	qr/cannot execute prebuild_pause\(\) in a read-only transaction/, 'a read-only transaction does not wait before it says so');
like(failure('SELECT prebuild_pause(NULL)'), qr/argument "wait" must not be null/, 'to wait or not is no NULL');

# A reconciler that takes its snapshot a round trip before it asks for the lock, as coderd does: it does not
# get the lock with a snapshot from before the pause.
sub coderd_looks
{
	my ($settings) = @_;
	my $coderd = Wire->new($node, $db);

	$node->safe_psql($db, 'SELECT prebuild_resume()');
	$coderd->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$coderd->parse(q{SELECT CASE WHEN pg_try_advisory_xact_lock(7) THEN
		(SELECT value::jsonb ->> 'reconciliation_paused' FROM site_configs) ELSE 'no lock' END});
	my $session = start_session($node, $db, "$settings; SELECT prebuild_pause()");
	wait_until($node, $db, q{SELECT value::jsonb @> '{"reconciliation_paused": true}' FROM site_configs});
	finish_session($session) if $settings =~ /'0'/;
	my ($seen) = $coderd->execute;
	$coderd->query('COMMIT');
	finish_session($session);
	return $seen;
}
is(coderd_looks(q{SET prebuild.lock_linger = '0'}), 'false', 'without lingering such a reconciler misses the pause');
is(coderd_looks(q{SET prebuild.lock_linger = '10s'}), 'no lock', 'with it, it gets no lock');

# two sessions change other fields of the same object
$node->safe_psql($db, q{UPDATE site_configs SET value = '{"a": 1, "reconciliation_paused": false}'});
$worker->query_safe(q{BEGIN; UPDATE site_configs SET value = (value::jsonb || '{"a": 2, "b": [3]}')::text});
foreach my $change ('prebuild_pause()', 'prebuild_resume()')
{
	my $session = start_session($node, $db, "SELECT $change");
	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'});
	$worker->query_safe(q{COMMIT});
	ok(finish_session($session), "$change beside a change of other fields");
	is($node->safe_psql($db, "SELECT ($value)::jsonb"),
		$change =~ /pause/ ? '{"a": 2, "b": [3], "reconciliation_paused": true}'
		: '{"a": 4, "b": [3], "c": {}, "reconciliation_paused": false}', 'both are kept');
	$worker->query_safe(q{BEGIN; UPDATE site_configs SET value = (value::jsonb || '{"a": 4, "c": {}}')::text});
}
$worker->query_safe('ROLLBACK');
$worker->query_safe(q{BEGIN; DELETE FROM site_configs; INSERT INTO site_configs VALUES ('prebuilds_settings', '{"new": true}')});
my $beside = start_session($node, $db, 'SELECT prebuild_pause()');
wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'});
$worker->query_safe(q{COMMIT});
ok(finish_session($beside), 'beside the first write of the row');
is($node->safe_psql($db, "SELECT ($value)::jsonb"), '{"new": true, "reconciliation_paused": true}', 'both are kept, too');

# what nobody can read is replaced; what somebody makes readable meanwhile is not
foreach my $unreadable ('not json', '[1]', 'true', '')
{
	$node->safe_psql($db, "UPDATE site_configs SET value = '$unreadable'");
	like(failure('SELECT prebuild_reconcile()'), qr/"prebuilds_settings" in site_configs is malformed/, "a pass does not run on '$unreadable'");
	$node->safe_psql($db, 'SELECT prebuild_resume()');
	is($node->safe_psql($db, "SELECT ($value)::jsonb"), '{"reconciliation_paused": false}', 'which prebuild_resume() replaces');
}
$node->safe_psql($db, q{UPDATE site_configs SET value = 'not json'});
$worker->query_safe(q{BEGIN; UPDATE site_configs SET value = '{"mended": true}'});
$beside = start_session($node, $db, 'SELECT prebuild_pause()');
wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'});
$worker->query_safe('COMMIT');
ok(finish_session($beside), 'beside who mends it');
is($node->safe_psql($db, "SELECT ($value)::jsonb"), '{"mended": true, "reconciliation_paused": true}', 'what is mended stays');

$_->quit foreach $worker, $old;
$node->stop;
done_testing();
