# Sick members on a running server: a prebuild whose agent is ready but has been disconnected for three days
# goes to none of 16 sessions that claim at once, and a pass replaces it. Heartbeats cost the kept pool
# nothing, and an agent that is back makes its prebuild eligible at once. Attached or not.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $sessions = 16;
my $node = new_server('health', 'max_connections = 40', 'fsync = off', q{prebuild.disconnected_grace = '5min'},
	q{shared_preload_libraries = 'prebuild_ext'});
my $tools = q{
	CREATE TABLE given (workspace_id uuid PRIMARY KEY, session int);
	CREATE TABLE lost (workspace_id uuid PRIMARY KEY);
	-- the agents of some prebuilds, as they were seen last
	CREATE FUNCTION fixture.seen(workspaces uuid[], at timestamptz) RETURNS void LANGUAGE sql AS $$
		UPDATE workspace_agents a SET first_connected_at = coalesce(first_connected_at, least(at, now() - interval '4 days')),
			last_connected_at = at, disconnected_at = CASE WHEN at < now() - interval '1 hour' THEN at END, updated_at = now()
		FROM workspace_builds b JOIN workspace_resources r ON r.job_id = b.job_id
		WHERE a.resource_id = r.id AND b.workspace_id = ANY (workspaces) $$;
	CREATE FUNCTION fixture.pool() RETURNS uuid[] LANGUAGE sql AS $$
		SELECT array_agg(id ORDER BY created_at, id) FROM workspaces WHERE owner_id = prebuild_system_user() AND NOT deleted $$;
	-- all that are new become four days old
	CREATE FUNCTION fixture.age() RETURNS void LANGUAGE sql AS $$
		UPDATE workspaces SET created_at = created_at - interval '4 days' WHERE created_at > now() - interval '1 day';
		UPDATE workspace_builds SET created_at = created_at - interval '4 days' WHERE created_at > now() - interval '1 day' $$;
	-- lose the oldest ones; the others are alive
	CREATE FUNCTION fixture.lose(n int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM fixture.seen(fixture.pool(), clock_timestamp());
		PERFORM fixture.seen((fixture.pool())[1:n], now() - interval '3 days');
		INSERT INTO lost SELECT unnest((fixture.pool())[1:n]);
	END $$;
	CREATE PROCEDURE claims(session int, at_most int) LANGUAGE plpgsql AS $$
	DECLARE
		ada uuid := (SELECT id FROM users WHERE username = 'ada');
		preset uuid := (SELECT id FROM template_version_presets WHERE name = 'p');
		got uuid;
	BEGIN
		FOR i IN 1 .. at_most LOOP
			COMMIT;
			SELECT c.id INTO got FROM prebuild_claim(preset, ada, gen_random_uuid()::text) c;
			EXIT WHEN got IS NULL;
			INSERT INTO given VALUES (got, session);
		END LOOP;
	END $$;
};
my $state = 'SELECT desired, actual, eligible, sick FROM prebuild_state()';

# Sessions that claim at the same moment. How many they got, in all and of the lost ones.
sub claims
{
	my ($db, $at_most) = @_;
	my $start = $node->safe_psql($db, q{TRUNCATE given; SELECT now() + interval '1 s'});

	run_in_parallel($node, $db, map { qq{
		SELECT pg_sleep(extract(epoch FROM '$start' - clock_timestamp())) \\g /dev/null
		CALL claims($_, $at_most)} } 1 .. $sessions);
	return $node->safe_psql($db, 'SELECT count(*), count(l) FROM given LEFT JOIN lost l USING (workspace_id)');
}

foreach my $attached (0, 1)
{
	my $how = $attached ? 'attached' : 'detached';
	my $db = new_control_plane($node, $how);

	$node->safe_psql($db, $tools . q{
		SELECT fixture.simple('one', 28, preset_name => 'p'), fixture.usr('ada');
		SELECT prebuild_reconcile();
		SELECT fixture.finish_jobs(), fixture.age();
	} . ($attached ? 'SELECT prebuild_attach(); SELECT prebuild_fold();' : ''));
	foreach my $round (1 .. 3)
	{
		$node->safe_psql($db, 'SELECT fixture.lose(8)');
		is($node->safe_psql($db, $state), '28|28|20|8', "$how: the lost ones are not eligible");
		is($node->safe_psql($db, q{SELECT count(*), bool_and(ready) FROM prebuild_running()}), '28|t', "$how: although they run, with agents that are ready");
		is(claims($db, 1), '16|0', "$how: $sessions sessions get others");
		is($node->safe_psql($db, 'SELECT deleted, created FROM prebuild_reconcile()'), '8|24', "$how: a pass replaces them");
		is($node->safe_psql($db, q{SELECT count(*) FROM lost JOIN workspace_builds b USING (workspace_id) WHERE b.transition = 'delete'}),
			8 * $round, "$how: them and no others");
		$node->safe_psql($db, 'SELECT fixture.finish_jobs(), fixture.age()');
	}
	is($node->safe_psql($db, q{SELECT count(*) FROM prebuild_event WHERE kind = 'sick_replaced' AND detail ->> 'reason' ~ 'has been disconnected since'}),
		24, "$how: events say why");

	# more claims than there are healthy ones
	$node->safe_psql($db, 'SELECT fixture.lose(8)');
	is(claims($db, 10), '20|0', "$how: when all others are gone, nobody gets one");
	is($node->safe_psql($db, $state), '28|8|0|8', "$how: only they are left");

	# an agent that is back
	my $kept = q{SELECT count(*), coalesce(max(xmin::text::bigint), 0), (SELECT count(*) FROM prebuild_pool_log) FROM prebuild_pool_state};
	$node->safe_psql($db, 'SELECT prebuild_fold()');
	my $before = $node->safe_psql($db, $kept);
	like($before, $attached ? qr/^8\|\d+\|0$/ : qr/^0\|0\|0$/, "$how: the pool is" . ($attached ? '' : ' not') . ' kept');
	$node->safe_psql($db, 'SELECT fixture.seen((fixture.pool())[3:4], clock_timestamp())');
	is($node->safe_psql($db, $kept), $before, "$how: heartbeats append nothing to the log");
	is($node->safe_psql($db, $state), '28|8|2|6', "$how: the prebuilds of agents that are back are eligible at once");
	my $back = $node->safe_psql($db, 'SELECT (fixture.pool())[3:4]');
	is(claims($db, 10), '2|2', "$how: and are given away");
	is($node->safe_psql($db, "SELECT count(*) FROM given WHERE workspace_id = ANY ('$back')"), 2, "$how: these two");
	is($node->safe_psql($db, 'SELECT * FROM prebuild_verify()'), '', "$how: the kept pool is right");

	# without a grace nobody asks, for this session
	is($node->safe_psql($db, "SET prebuild.disconnected_grace = 0; $state"), '28|6|6|0', "$how: with the setting off they are eligible");
}

$node->stop;
done_testing();
