---- sizing by demand ----------------------------------------------------------

CREATE TYPE @extschema@.prebuild_backtest_row AS (
	policy text,
	chosen boolean,
	demand integer,
	warm integer,
	hit_rate double precision,
	idle interval,
	created integer,
	deleted integer,
	peak integer,
	note text
);

COMMENT ON TYPE @extschema@.prebuild_backtest_row IS
'What a policy would have given in the later part of a range, which had no say in the choice';

CREATE FUNCTION @extschema@.prebuild_backtest(template_id uuid, preset_name text,
	range_start timestamptz, range_end timestamptz, service_level double precision DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_backtest_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_backtest';

COMMENT ON FUNCTION @extschema@.prebuild_backtest(uuid, text, timestamptz, timestamptz, double precision) IS
'What each policy would have given a preset. The first two thirds of the range choose; the figures are of the last third';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_backtest(uuid, text, timestamptz, timestamptz, double precision) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_replay_row AS (
	starts_at timestamptz,
	ends_at timestamptz,
	policy text,
	counted boolean,
	demand_warm integer,
	demand_cold integer,
	configured integer,
	target integer,
	pool double precision,
	missed integer,
	idle interval,
	created integer,
	deleted integer,
	peak integer
);

COMMENT ON TYPE @extschema@.prebuild_replay_row IS
'What a policy would have done in a part of the time. The rows that are counted add up to its row of prebuild_backtest()';

CREATE FUNCTION @extschema@.prebuild_replay(template_id uuid, preset_name text,
	range_start timestamptz, range_end timestamptz, policy text DEFAULT NULL,
	bucket interval DEFAULT '1 hour', service_level double precision DEFAULT NULL)
RETURNS SETOF @extschema@.prebuild_replay_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_replay';

COMMENT ON FUNCTION @extschema@.prebuild_replay(uuid, text, timestamptz, timestamptz, text, interval, double precision) IS
'The demand for a preset in each bucket of a range, and what a policy of its backtest would have done then: the chosen one, or the one that is named as prebuild_backtest() names it, or what is recommended. It changes nothing';
REVOKE ALL ON FUNCTION
@extschema@.prebuild_replay(uuid, text, timestamptz, timestamptz, text, interval, double precision) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_target_row AS (
	target integer,
	policy text,
	reason text
);

CREATE FUNCTION @extschema@.prebuild_target(preset_id uuid, at timestamptz DEFAULT now())
RETURNS @extschema@.prebuild_target_row
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_target';

COMMENT ON FUNCTION @extschema@.prebuild_target(uuid, timestamptz) IS
'How many prebuilds of a preset its best policy wants at a time, and why; from what was known before that time. It changes nothing';
REVOKE ALL ON FUNCTION @extschema@.prebuild_target(uuid, timestamptz) FROM PUBLIC;

CREATE TYPE @extschema@.prebuild_recommend_row AS (
	template_name text,
	preset_name text,
	configured text,
	recommended text,
	expected_hit_rate double precision,
	configured_hit_rate double precision,
	idle_saved interval,
	reason text,
	terraform text
);

COMMENT ON TYPE @extschema@.prebuild_recommend_row IS
'Advice for a preset; rates and idle_saved are of the last 30 of 90 days, which had no say in it';

CREATE FUNCTION @extschema@.prebuild_recommend(at timestamptz DEFAULT now())
RETURNS SETOF @extschema@.prebuild_recommend_row
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100 COST 100000000
SET search_path = pg_catalog, pg_temp SET jit = off SET row_security = off
AS 'MODULE_PATHNAME', 'prebuild_recommend';

COMMENT ON FUNCTION @extschema@.prebuild_recommend(timestamptz) IS
'The prebuilds block to write into each template whose presets people ask for, the worst preset first; from the 90 days before a time. It changes nothing';
REVOKE ALL ON FUNCTION @extschema@.prebuild_recommend(timestamptz) FROM PUBLIC;

-- What passes have chosen for presets in mode auto. kind and parameter are the policy: level, aim or
-- price. learnt is what the policy has learnt of the weeks before learnt_at: policy_learnt.c reads it.
CREATE TABLE @extschema@.prebuild_policy_choice (
	control_plane text NOT NULL,
	template_id uuid NOT NULL,
	preset_name text NOT NULL,
	policy text NOT NULL,
	kind text NOT NULL,
	parameter double precision NOT NULL,
	outcome text NOT NULL,
	note text NOT NULL,
	chosen_at timestamptz NOT NULL,
	due_at timestamptz NOT NULL,
	suspended boolean NOT NULL DEFAULT false,
	demand integer,
	hit_rate double precision,
	idle interval,
	configured_hit_rate double precision,
	configured_idle interval,
	learnt_at timestamptz,
	learnt double precision[],
	PRIMARY KEY (control_plane, template_id, preset_name)
);
-- the numbers do not compress, and passes read them all
ALTER TABLE @extschema@.prebuild_policy_choice ALTER COLUMN learnt SET STORAGE EXTERNAL;

COMMENT ON TABLE @extschema@.prebuild_policy_choice IS
'The policy by which passes size each pool in mode auto, and what the backtest that chose it gave; passes write it';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.control_plane IS
'Schema of the control plane that has the template';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.outcome IS
'How the choice came out: another policy is better, the configuration was kept, best_effort (nothing reached the level at its worth), or, with what is configured, worse, too_little or failed';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.due_at IS
'When a pass chooses anew';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.suspended IS
'Another reconciler was at work when the last pass looked, so what is configured holds';
COMMENT ON COLUMN @extschema@.prebuild_policy_choice.demand IS
'Demands in the last third of the backtest, of which hit_rate to configured_idle speak';

-- A dump includes the rows.
DO LANGUAGE plpgsql $$
DECLARE
	relation regclass;
BEGIN
	SELECT c.oid INTO STRICT relation FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_extension e ON e.extnamespace OPERATOR(pg_catalog.=) c.relnamespace
	WHERE e.extname OPERATOR(pg_catalog.=) 'prebuild_ext'
	AND c.relname OPERATOR(pg_catalog.=) 'prebuild_policy_choice';
	PERFORM pg_catalog.pg_extension_config_dump(relation, '');
END
$$;
