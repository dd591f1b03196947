# Backtests and advice take interrupts in the middle of a simulation, and a backend does not grow with their number.
# What a session keeps of sizing does not outlive the extension.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Time::HiRes ();
use Test::More;

my $node = new_server('sizing');
my $db = new_control_plane($node, 'fleet');

# a preset whose many prebuilds expire at once, for five years: a long simulation on few rows
$node->safe_psql($db, q{
	SELECT fixture.simple('slow', 1000, ttl => 1);
	SELECT fixture.prebuild('slow', 'asked-' || n, owner => fixture.usr('ada'), created => fixture.t0() - n * interval '1 year')
	FROM generate_series(0, 5) n;
});
my $backtest = q{SET prebuild.default_lead_time = '1s'; SELECT count(*) FROM prebuild_backtest(fixture.t('slow'), 'slow', fixture.t0() - interval '1830 days', fixture.t0())};
my $began = Time::HiRes::time();
my ($status, $out, $err) = $node->psql($db, "SET statement_timeout = '1s'; $backtest");
like($err, qr/canceling statement due to statement timeout/, 'statement_timeout ends a backtest');
cmp_ok(Time::HiRes::time() - $began, '<', 20, 'at once, in the middle of a simulation');

my $session = start_session($node, $db, $backtest);
wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%prebuild_backtest%' AND pid <> pg_backend_pid()});
$began = Time::HiRes::time();
$node->safe_psql($db, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%prebuild_backtest%' AND pid <> pg_backend_pid()});
finish_session($session);
like($session->{output}, qr/canceling statement due to user request/, 'a cancel ends it');
cmp_ok(Time::HiRes::time() - $began, '<', 20, 'at once');
$node->safe_psql($db, q{UPDATE template_version_presets SET invalidate_after_secs = 0, desired_instances = 1});

# presets with demand enough for a choice
$node->safe_psql($db, q{
	SELECT fixture.template('many'), fixture.version('many', 'many-v1');
	SELECT fixture.preset('many-v1', 'many-' || n, n) FROM generate_series(1, 5) n;
	SELECT fixture.prebuild('many-' || n, format('many-%s-%s', n, d), owner => fixture.usr('ada'),
		created => fixture.t0() - d * interval '1 day' + n * interval '7 minutes')
	FROM generate_series(1, 5) n, generate_series(1, 80) d;
});
$session = $node->background_psql($db);
my $contexts = 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts';
my $calls = q{SELECT count(*) FROM generate_series(1, %d) n, LATERAL prebuild_recommend(fixture.t0() + n * interval '1 second') r,
	LATERAL prebuild_target(fixture.p('many-1'), fixture.t0() - n * interval '1 day') t,
	LATERAL prebuild_lead_time(fixture.t('many'), 'many-1', fixture.t0() - n * interval '1 day') l,
	LATERAL (SELECT sum(r.created) FROM prebuild_replay(fixture.t('many'), 'many-1', fixture.t0() - interval '90 days', fixture.t0(), 'recommended') r) p};
is(answer($session, sprintf($calls, 10)), 60, 'advice for each preset with demand');
my $before = answer($session, $contexts);
$session->query_safe(sprintf($calls, 30));
my $after = answer($session, $contexts);
note("memory contexts: $before bytes after 10 calls, $after after 40");
cmp_ok($after, '<', $before + 200_000, 'a backend does not grow with the number of calls');
$session->quit;

# A session that keeps what policies have learnt, and the demands of the day, while the extension is dropped and
# created again: nothing of it is in the answers after that, and all of it after a DROP EXTENSION that is rolled back.
$session = $node->background_psql(new_control_plane($node, 'again'));
my $simple = q{SELECT fixture.simple('p', 0)};
sub begin_auto
{
	my ($demands, $cells) = @_;
	return qq{SELECT prebuild_set_policy(fixture.t('p'), 'p', 'auto', max_instances => 100);
		INSERT INTO prebuild_policy_choice (control_plane, template_id, preset_name, policy, kind, parameter, outcome, note, chosen_at, due_at, learnt_at, learnt)
		VALUES ('public', fixture.t('p'), 'p', 'forecast', 'forecast', 0.01, 'better', '', '2025-05-26 07:00Z', '2025-05-27 07:00Z', '2025-05-26 00:00Z',
			ARRAY[50, 5, 0, 1, 0, 3e8, 3e8] || array_fill($cells / 24::float8, ARRAY[672]));
		INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
		SELECT 'public', gen_random_uuid(), fixture.t('p'), 'p', '2025-05-26 08:00Z', true FROM generate_series(1, $demands)};
}
my $rate = q{SELECT coalesce(max(substring(reason FROM '[0-9.]+ demands an hour, [0-9.]+ times')), 'nothing') FROM prebuild_plan('2025-05-26 09:00Z')};
my $again = 'DROP EXTENSION prebuild_ext; CREATE EXTENSION prebuild_ext SCHEMA public';
$session->query_safe("$simple; " . begin_auto(6, 2));
is(answer($session, $rate), '0.25 demands an hour, 3.00 times', 'the policy and the demands of a session');
$session->query_safe("BEGIN; $again");
is(answer($session, $rate), 'nothing', 'the extension is created again: no choice is known');
$session->query_safe(begin_auto(2, 1));
is(answer($session, $rate), '0.08 demands an hour, 2.00 times', 'but those of the same transaction');
$session->query_safe('ROLLBACK');
is(answer($session, $rate), '0.25 demands an hour, 3.00 times', 'which fails');
$session->query_safe($again);
is(answer($session, $rate), 'nothing', 'created again, in transactions that commit');
$session->query_safe(begin_auto(4, 1));
is(answer($session, $rate), '0.17 demands an hour, 4.00 times', 'with other choices and demands in the same places');
$session->quit;
$node->stop;
done_testing();
