-- A role that sees the metrics and nothing else, for the exporter:
--
--	psql -d controlplane -f monitoring/role.sql
--
-- Run it as a role that may read the control plane's tables: the functions below read with its
-- rights. They have the names that postgres_exporter.yml asks for, in a schema of their own that
-- the new role searches first. Give the role a way to log in (\password, pg_hba.conf) afterwards;
-- DROP SCHEMA prebuild_monitoring CASCADE takes it all back but the role.
\set ON_ERROR_STOP on
SELECT n.nspname AS extension_schema
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'prebuild_ext' \gset

BEGIN;
CREATE ROLE prebuild_scraper LOGIN;
CREATE SCHEMA prebuild_monitoring;

CREATE FUNCTION prebuild_monitoring.prebuild_metrics_read(
	at timestamptz DEFAULT now(), part text DEFAULT NULL)
RETURNS SETOF :"extension_schema".prebuild_metrics_row
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT * FROM :"extension_schema".prebuild_metrics_read(at, part);
END;

CREATE FUNCTION prebuild_monitoring.prebuild_metrics_text(at timestamptz DEFAULT now())
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN :"extension_schema".prebuild_metrics_text(at);

REVOKE ALL ON FUNCTION prebuild_monitoring.prebuild_metrics_read,
	prebuild_monitoring.prebuild_metrics_text FROM PUBLIC;
GRANT USAGE ON SCHEMA prebuild_monitoring TO prebuild_scraper;
GRANT EXECUTE ON FUNCTION prebuild_monitoring.prebuild_metrics_read,
	prebuild_monitoring.prebuild_metrics_text TO prebuild_scraper;
ALTER ROLE prebuild_scraper SET search_path = prebuild_monitoring;
COMMIT;
