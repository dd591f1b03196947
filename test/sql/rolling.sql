-- Five members that expire together, while people claim: what passes delete never takes the eligible ones below what max_unavailable
-- allows, whatever happens in between, and where replacements fail nothing loops.
\set ECHO none
\i test/fixture/fixture.sql
SET intervalstyle = postgres;

CREATE FUNCTION fixture.state(preset_name text, at timestamptz) RETURNS prebuild_state_row LANGUAGE plpgsql AS
$$ BEGIN RETURN (SELECT s FROM prebuild_state(at) s WHERE s.preset_id = p(state.preset_name)); END $$;
-- The builds of a template's pool that are not deletes.
CREATE FUNCTION fixture.builds(template_name text) RETURNS int LANGUAGE sql AS
$$ SELECT count(*)::int FROM workspace_builds b JOIN workspaces x ON x.id = b.workspace_id
	WHERE x.template_id = t(template_name) AND b.transition = 'start' AND b.created_at >= t0() $$;
CREATE FUNCTION fixture.expired_five(max_unavailable text, max_surge text DEFAULT NULL, max_building text DEFAULT '0', retry interval DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM control_plane('cp_rolling');
	DELETE FROM prebuild_policy;
	PERFORM usr('ann'), simple('five', 5, 86400);
	PERFORM prebuild('five', 'five-' || n, created => t0() - interval '25 hours') FROM generate_series(1, 5) n;
	PERFORM prebuild_set_policy(t('five'), max_unavailable => expired_five.max_unavailable, max_surge => expired_five.max_surge,
		hard_limit_retry => retry);
	PERFORM set_config('prebuild.max_building', expired_five.max_building, false);
END
$$;
-- A pass a minute. A build takes three minutes, at most four are done in a minute; claims come at some minutes. Before and after each pass
-- looks at the eligible ones: a pass may take away no more than leaves "allowed". event: what happens in the fourth minute.
CREATE FUNCTION fixture.roll(allowed int, claims int[], event text DEFAULT NULL, failing boolean DEFAULT false, minutes int DEFAULT 40,
	preset_name text DEFAULT 'five') RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	now timestamptz;
	before prebuild_state_row;
	after prebuild_state_row;
	given int := 0;
	asked int := 0;
	ended int;
	most int := 0;
	fewest int := 5;
BEGIN
	FOR minute IN 1..minutes LOOP
		now := t0() + minute * interval '1 minute';
		PERFORM finish_jobs(now, failing, at_most => (SELECT least(4, count(*))::int FROM workspace_builds b
			JOIN provisioner_jobs j ON j.id = b.job_id WHERE j.job_status = 'pending' AND b.created_at <= now - interval '3 minutes'));
		IF minute = ANY (claims) THEN
			asked := asked + 1;
			given := given + (SELECT count(*)::int FROM prebuild_claim(p(preset_name), usr('ann'), 'ann-' || minute, at => now));
		END IF;
		IF minute = 4 AND event IS NOT NULL THEN
			EXECUTE event USING now;
		END IF;
		before := state(preset_name, now);
		PERFORM prebuild_reconcile(now);
		after := state(preset_name, now);
		IF after.eligible < before.eligible AND after.eligible < allowed THEN
			RETURN format('minute %s: %s eligible, then %s', minute, before.eligible, after.eligible);
		END IF;
		fewest := least(fewest, after.eligible + asked);
		most := greatest(most, after.actual + after.starting);
		ended := CASE WHEN after.expired = 0 AND after.eligible = 5 AND after.starting = 0 THEN coalesce(ended, minute) END;
	END LOOP;
	RETURN format('%s, %s of %s claims got one, at least %s eligible or claimed, at most %s at once, %s built',
		coalesce('renewed in minute ' || ended, 'not renewed'), given, asked, fewest, most, builds('five'));
END
$$;

\echo while nobody claims
SELECT expired_five('1') \g /dev/null
SELECT roll(4, '{}');
SELECT expired_five('0') \g /dev/null
SELECT roll(5, '{}');
SELECT expired_five('50%') \g /dev/null
SELECT roll(3, '{}');
SELECT expired_five('0', '1', '1') \g /dev/null
SELECT roll(5, '{}');
SELECT expired_five('1', NULL, '1') \g /dev/null
SELECT roll(4, '{}');
SELECT expired_five('50%', '0', '1') \g /dev/null
SELECT roll(3, '{}');
\echo with claims
SELECT expired_five('1') \g /dev/null
SELECT roll(4, '{1,2,3,5,8,13}');
SELECT expired_five('0') \g /dev/null
SELECT roll(5, '{1,2,3,5,8,13}');
SELECT expired_five('50%', '50%') \g /dev/null
SELECT roll(3, '{1,2,3,5,8,13}');
SELECT expired_five('0', '1', '1') \g /dev/null
SELECT roll(5, '{1,2,3,5,8,13}');
SELECT expired_five('1', NULL, '1') \g /dev/null
SELECT roll(4, '{1,2,3,5,8,13}');

\echo replacements that fail, for twelve hours: the old ones stay
SELECT expired_five('0') \g /dev/null
SELECT roll(5, '{}', failing => true, minutes => 720);
SELECT is((state('five', t0() + interval '12 hours')).eligible, 5, 'all five serve');
SELECT expired_five('1', NULL, '1') \g /dev/null
SELECT roll(4, '{}', failing => true, minutes => 720);
SELECT is((state('five', t0() + interval '12 hours')).eligible, 4, 'four serve');
SELECT expired_five('50%', '1') \g /dev/null
SELECT roll(3, '{}', failing => true, minutes => 720);
SELECT is((state('five', t0() + interval '12 hours')).eligible, 3, 'three serve');
\echo and with probes
SELECT expired_five('0', '1', '1', '30 min') \g /dev/null
SELECT roll(5, '{}', failing => true, minutes => 720);
SELECT is(status('five'), 'hard_limited', 'hard-limited');
SELECT is((state('five', t0() + interval '12 hours')).eligible, 5, 'all five serve');

\echo an invalidation in the middle
\set invalidate 'UPDATE template_version_presets SET last_invalidated_at = $1'
SELECT expired_five('1') \g /dev/null
SELECT roll(4, '{2}', :'invalidate');
SELECT expired_five('0', '1', '1') \g /dev/null
SELECT roll(5, '{}', :'invalidate');
SELECT expired_five('50%') \g /dev/null
SELECT roll(3, '{6,7}', :'invalidate');

\echo another version becomes active in the middle: what was being built is canceled, what runs goes, the new pool is filled
\set promote 'UPDATE templates SET active_version_id = v(''five-v2''), updated_at = $1'
CREATE FUNCTION fixture.second() RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	PERFORM version('five', 'five-v2', active => false);
	PERFORM preset('five-v2', 'five-2', 5);
END
$$;
SELECT expired_five('1'), second() \g /dev/null
SELECT roll(0, '{}', :'promote', preset_name => 'five-2');
SELECT (state('five', t0() + interval '40 minutes')).actual, (state('five', t0() + interval '40 minutes')).starting;
SELECT expired_five('0', '1', '1'), second() \g /dev/null
SELECT roll(0, '{}', :'promote', preset_name => 'five-2');
SELECT (state('five', t0() + interval '40 minutes')).actual, (state('five', t0() + interval '40 minutes')).starting;
SELECT is(string_agg(format('%s %s', action, reason), ', '), NULL, 'and then nothing is left to do') FROM prebuild_plan(t0() + interval '40 minutes');
DELETE FROM prebuild_policy;
