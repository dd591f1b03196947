-- A control plane whose columns have other types is an error, whoever calls: never a crash.
\set ECHO none
\i test/fixture/fixture.sql

DO $$ BEGIN PERFORM control_plane('cp_types'); PERFORM simple('one', 2); END $$;
SELECT p('one') AS preset \gset

-- the same control plane seen through views, by somebody who may do no more than call and read
CREATE SCHEMA seen;
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'cp_types'::regnamespace AND relkind = 'r' LOOP
		EXECUTE format('CREATE VIEW seen.%1$I AS SELECT * FROM cp_types.%1$I', name);
	END LOOP;
END $$;
CREATE ROLE caller;
SELECT prebuild_grant('caller') \g /dev/null
GRANT USAGE ON SCHEMA seen, fixture TO caller;
CREATE FUNCTION see_jobs(tags text, file_id text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('DROP VIEW seen.provisioner_jobs; CREATE VIEW seen.provisioner_jobs AS
		SELECT id, created_at, updated_at, started_at, canceled_at, completed_at, organization_id,
			initiator_id, provisioner, storage_method, type, input, worker_id, %s AS file_id,
			%s AS tags, job_status
		FROM cp_types.provisioner_jobs', file_id, tags);
	GRANT SELECT ON ALL TABLES IN SCHEMA seen TO caller;
END $$;

SELECT see_jobs('tags', 'file_id') \g /dev/null
SET prebuild.control_plane_schema = seen;
SET ROLE caller;
SELECT is((prebuild_build_inputs(:'preset')).verdict, 'possible', 'the views serve as tables do');

RESET ROLE;
SELECT see_jobs('tags', '4096::bigint') \g /dev/null
SET ROLE caller;
SELECT raises(format('SELECT prebuild_build_inputs(%L)', :'preset'), NULL, NULL, NULL,
	'a file_id of another type is an error');

RESET ROLE;
SELECT see_jobs('4096::bigint', 'file_id') \g /dev/null
SET ROLE caller;
SELECT raises(format('SELECT prebuild_build_inputs(%L)', :'preset'), NULL, NULL, NULL,
	'tags of another type are an error');
SELECT raises('SELECT count(*) FROM prebuild_plan()', NULL, NULL, NULL, 'and so in the plan');

RESET ROLE;
DROP OWNED BY caller;
DROP ROLE caller;
