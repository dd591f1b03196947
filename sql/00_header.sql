/* prebuild_ext: install script; one file per area of sql/, concatenated by the Makefile. */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION prebuild_ext" to load this file. \quit

-- Nothing below may resolve to what somebody else has put into the target schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

