-- A role that sees the metrics and nothing else, for the exporter:
--
--	psql -d controlplane -f monitoring/role.sql
--
-- Run it as a role that may read the control plane's tables, because the functions below read with
-- its rights. They have the names that postgres_exporter.yml uses, in their own schema, which the new
-- role searches first. Then give the role a way to log in (\password, pg_hba.conf).
-- Run the script again after an upgrade from 0.1, or when the extension has moved to another schema.
-- DROP SCHEMA prebuild_monitoring CASCADE undoes everything but the role.
--
-- The bodies are text, so that the functions do not depend on the extension. You can drop and
-- recreate the extension without them.
\set ON_ERROR_STOP on
SELECT n.nspname AS extension_schema
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'prebuild_ext' \gset

BEGIN;
SET LOCAL client_min_messages = warning;
SELECT 'CREATE ROLE prebuild_scraper LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'prebuild_scraper') \gexec
CREATE SCHEMA IF NOT EXISTS prebuild_monitoring;
DROP FUNCTION IF EXISTS prebuild_monitoring.prebuild_metrics_read, prebuild_monitoring.prebuild_metrics_text;

SELECT format($create$
CREATE FUNCTION prebuild_monitoring.prebuild_metrics_read(
	at timestamptz DEFAULT now(), part text DEFAULT NULL)
RETURNS TABLE (name text, labels jsonb, value double precision, type text, help text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS %L$create$, format(
	'SELECT m.name, m.labels, m.value, m.type, m.help FROM %I.prebuild_metrics_read($1, $2) m',
	:'extension_schema')) \gexec

SELECT format($create$
CREATE FUNCTION prebuild_monitoring.prebuild_metrics_text(at timestamptz DEFAULT now())
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS %L$create$, format('SELECT %I.prebuild_metrics_text($1)', :'extension_schema')) \gexec

REVOKE ALL ON FUNCTION prebuild_monitoring.prebuild_metrics_read,
	prebuild_monitoring.prebuild_metrics_text FROM PUBLIC;
GRANT USAGE ON SCHEMA prebuild_monitoring TO prebuild_scraper;
GRANT EXECUTE ON FUNCTION prebuild_monitoring.prebuild_metrics_read,
	prebuild_monitoring.prebuild_metrics_text TO prebuild_scraper;
ALTER ROLE prebuild_scraper SET search_path = prebuild_monitoring;
COMMIT;
