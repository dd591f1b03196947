/* prebuild_ext: upgrade from 0.1 to 0.2. The result equals a fresh install of 0.2. */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION prebuild_ext UPDATE TO '0.2'" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;
