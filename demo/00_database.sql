-- The extensions, by the superuser, and a role that owns the control plane and is none.

\set QUIET on
\pset tuples_only on
\o /dev/null
CREATE EXTENSION pg_cron;
CREATE EXTENSION prebuild_ext SCHEMA public;
SELECT prebuild_grant('controlplane', owner => true);
GRANT SELECT ON prebuild_event TO controlplane;
GRANT USAGE ON SCHEMA cron TO controlplane;
-- a failed build holds creation back for seconds here, not for minutes
ALTER DATABASE demo SET prebuild.backoff_interval = '2s';

\connect - controlplane
SELECT prebuild_create_control_plane();
