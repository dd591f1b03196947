# A script that is older or newer than the library, in the extreme: row types with columns that the
# library does not know, without columns that it fills, with columns of other types; tables, columns
# and functions that are not there. The answers are right, or errors that name what is wrong and say what to do.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use FindBin;
use Test::More;

my $node = new_server('rows', "shared_preload_libraries = 'prebuild_ext'", "prebuild.databases = 'plane'",
	"prebuild.worker_role = 'postgres'", "log_line_prefix = '%b %e '");
my $database = new_control_plane($node, 'plane');

sub sql { return $node->safe_psql($database, $_[0]); }

sql(slurp_file("$FindBin::Bin/mixed.sql"));
sql('SELECT mixed.fleet(); SELECT prebuild_attach(true, true)');
sql($_) foreach 'SELECT prebuild_reconcile()', 'SELECT fixture.finish_jobs()', 'SELECT mixed.claim()', 'SELECT prebuild_reconcile()',
  'SELECT fixture.finish_jobs()', 'SELECT prebuild_fold()';
wait_until($node, $database, q{SELECT bool_and(state = 'serving') FROM prebuild_worker_status});

# a copy of each function that returns rows, by another C name's type: "narrow" without the last
# column, "other" with a first column of another type
sql(q{
	CREATE FUNCTION mixed.copy(kind text, first_type text, without integer) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		f record;
		copied bigint := 0;
	BEGIN
		FOR f IN SELECT p.*, t.typrelid, pg_get_function_arguments(p.oid) AS arguments FROM pg_proc p
			JOIN pg_type t ON t.oid = p.prorettype AND t.typtype = 'c' JOIN pg_language l ON l.oid = p.prolang
			WHERE l.lanname = 'c' AND p.probin ~ 'prebuild_ext' AND p.proname ~ '^prebuild_' LOOP
			EXECUTE format('CREATE TYPE %s_%s_row AS (%s)', kind, f.proname, (SELECT string_agg(format('%I %s', attname,
				CASE WHEN attnum = 1 AND first_type <> '' THEN first_type ELSE format_type(atttypid, atttypmod) END), ', ' ORDER BY attnum)
				FROM pg_attribute WHERE attrelid = f.typrelid AND attnum BETWEEN 1 AND
					(SELECT relnatts FROM pg_class WHERE oid = f.typrelid) - without));
			EXECUTE format('CREATE FUNCTION %1$s_%2$s(%3$s) RETURNS %4$s %1$s_%2$s_row LANGUAGE c %5$s AS %6$L, %7$L', kind, f.proname,
				f.arguments, CASE WHEN f.proretset THEN 'SETOF' END,
				CASE f.provolatile WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END || CASE WHEN f.proisstrict THEN ' STRICT' ELSE '' END,
				f.probin, f.prosrc);
			copied := copied + 1;
		END LOOP;
		RETURN copied;
	END $$;
	CREATE FUNCTION mixed.ask_copies(kind text) RETURNS void LANGUAGE sql AS $$
		INSERT INTO mixed.answers SELECT kind, (mixed.answer(s.name, replace(s.statement, s.name || '(', kind || '_' || s.name || '('))).*
		FROM mixed.statements() s WHERE to_regproc(kind || '_' || s.name) IS NOT NULL
	$$});
sql(q{SELECT mixed.ask('right')});
is( sql(q{SELECT string_agg(name || ' ' || state || ' ' || message, '; ' ORDER BY name) FROM mixed.answers
		WHERE state IS NOT NULL AND name NOT IN ('prebuild_create_control_plane', 'prebuild_schedule', 'prebuild_unschedule')}),
	'', 'all answers at first');

cmp_ok(sql(q{SELECT mixed.copy('narrow', '', 1)}), '>', 10, 'rows without a column that the library fills');
sql(q{SELECT mixed.ask_copies('narrow')});
is(sql(q{SELECT mixed.wrong('right', 'narrow', false)}), '', 'are right without it');
is(sql(q{SELECT count(*) FROM mixed.answers WHERE phase = 'narrow' AND state IS NOT NULL}), 0, 'all of them');

sql(q{SELECT mixed.copy('other', 'bytea', 0)});
sql(q{SELECT mixed.ask_copies('other')});
is(sql(q{SELECT string_agg(name || ' ' || concat(answer, state, message), '; ') FROM mixed.answers WHERE phase = 'other'
		AND answer <> '[]' OR phase = 'other' AND (state <> '55000' OR message !~ 'is of type bytea' OR hint !~ 'ALTER EXTENSION prebuild_ext UPDATE')}),
	'', 'a column of another type is an error that says so');
cmp_ok(sql(q{SELECT count(*) FROM mixed.answers WHERE phase = 'other' AND state = '55000'}), '>=', 10, 'where there are rows');

# newer scripts: columns at the end of every row type, and of every table
my @types = split /\n/, sql(q{SELECT t.oid::regtype FROM pg_type t
	JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
	JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c' WHERE t.typname <> 'prebuild_pool_member'
	-- what SQL functions return is the script's own affair
	AND NOT EXISTS (SELECT FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.prorettype = t.oid AND l.lanname = 'sql')
	ORDER BY 1});
my @tables = split /\n/, sql(q{SELECT c.oid::regclass FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	WHERE c.relkind = 'r' AND c.reloftype = 0 ORDER BY 1});
cmp_ok(scalar @types, '>', 10, 'there are row types');
cmp_ok(scalar @tables, '>', 5, 'and tables');
sql("ALTER TYPE $_ ADD ATTRIBUTE newer text, ADD ATTRIBUTE newest bigint") foreach @types;
sql("ALTER TABLE $_ ADD COLUMN newer text, ADD COLUMN newest bigint") foreach @tables;
sql(q{SELECT mixed.ask('wider')});
is(sql(q{SELECT mixed.wrong('right', 'wider', false)}), '', 'rows with columns that the library does not know are right');
is( sql(q{SELECT count(*) FROM mixed.answers, jsonb_array_elements(answer) f WHERE phase = 'wider' AND jsonb_typeof(f) = 'object'
		AND (f -> 'newer' <> 'null' OR f -> 'newest' <> 'null')}), 0, 'and have NULL there');
cmp_ok(sql(q{SELECT count(DISTINCT name) FROM mixed.answers, jsonb_array_elements(answer) f WHERE phase = 'wider'
		AND jsonb_typeof(f) = 'object' AND f ? 'newest'}), '>', 8, 'where they have it');
sql('SELECT mixed.write(); SELECT prebuild_reconcile(); SELECT prebuild_fold()');
is(join('', $node->psql($database, 'SELECT * FROM prebuild_verify()')), '0', 'the pool is kept');

# older scripts: tables, columns and functions that are not there
sql(q{
	CREATE FUNCTION mixed.without(change text, missing text) RETURNS SETOF text LANGUAGE plpgsql AS $$
	DECLARE
		found text[];
	BEGIN
		BEGIN
			EXECUTE change;
			found := ARRAY(SELECT format('%s: %s: %s', change, o.name, concat_ws(' ', n.state, n.message, n.hint))
				FROM mixed.answers o JOIN mixed.statements() s ON s.name = o.name, mixed.answer(s.name, s.statement) n
				WHERE o.phase = 'wider' AND (n.state IS NOT NULL AND n.state IS DISTINCT FROM o.state)
					AND n.message !~ 'is not attached' AND (n.message !~ missing OR n.hint IS NULL OR n.hint !~ 'ALTER EXTENSION prebuild_ext UPDATE'));
			RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDOX';
		EXCEPTION WHEN SQLSTATE 'UNDOX' THEN
		END;
		RETURN QUERY SELECT unnest(found);
	END $$});
is(sql(join ';', map { "SELECT mixed.without('ALTER TABLE $_ RENAME TO gone', '$_')" } @tables), '', 'a table that is missing is named, with a hint');
my $tables = join ',', @tables;
is( sql(qq[SELECT mixed.without(format('ALTER TABLE %s RENAME COLUMN %I TO gone', a.attrelid::regclass, a.attname), a.attname)
		FROM unnest('{$tables}'::regclass[]) t JOIN pg_attribute a ON a.attrelid = t AND a.attnum > 0 AND a.attname !~ 'newe']),
	'', 'and so is a column');
is( sql(q{SELECT mixed.without(format('ALTER FUNCTION %s RENAME TO gone', p.oid::regprocedure), p.proname) FROM pg_proc p
		JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		WHERE p.proname ~ '_(read|histograms|state)$|touched|changed|wanted|fanout|guard'}),
	'', 'and a function');

# the members of the stored pool have another format: the extension reads the tables
sql('ALTER TYPE prebuild_pool_member ADD ATTRIBUTE newer text CASCADE');
sql(q{SELECT mixed.ask('members')});
is( sql(q{SELECT mixed.wrong('right', 'members', false) EXCEPT SELECT mixed.wrong('right', 'members', true)}) =~ s/^prebuild_rebuild:.*//r,
	'', 'with other members it reads the tables');
is(sql(q{SELECT mixed.wrong('right', 'members', true)}), '', 'and all is right');
is(sql(q{SELECT state || ' ' || (hint ~ 'ALTER EXTENSION')::text FROM mixed.answers WHERE phase = 'members' AND name = 'prebuild_rebuild'}),
	'55000 true', 'but nothing is stored');
like(($node->psql($database, 'SELECT * FROM prebuild_verify()'))[2], qr/is not in use/, 'prebuild_verify() says so');
sql('SELECT mixed.write(); SELECT prebuild_reconcile()');

is(join("\n", grep { / XX\d\d\d |terminated by signal/ } split /\n/, slurp_file($node->logfile)), '', 'nothing crashed');
$node->stop;
done_testing();
