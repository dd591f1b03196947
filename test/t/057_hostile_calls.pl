# Hostile calls of every function of the extension: random, NULL, empty, huge, multi-dimensional, infinite and overlong
# arguments, within a few milliseconds, by roles with few rights, with traps on the search_path, at every isolation
# level. Nothing crashes, nothing is an internal error, no trap is sprung, who has no rights gets nothing, and sessions
# do not grow. The functions are those that the catalog has. PREBUILD_CALLS says how many calls, PREBUILD_SEED repeats a run.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $calls = $ENV{PREBUILD_CALLS} // 3000;
my $seed = $ENV{PREBUILD_SEED} // int(rand(1e6));
my $per_session = $calls > 10000 ? 5000 : int($calls / 2);
my $node = new_server('hostile_calls', q{shared_preload_libraries = 'prebuild_ext'}, q{prebuild.databases = 'plane'}, 'max_connections = 30',
	'fsync = off', 'autovacuum = off', 'log_min_messages = panic', 'max_worker_processes = 12');
my $db = new_control_plane($node, 'plane');

$node->safe_psql($db, q{
SET search_path = public, fixture;
DO $$ BEGIN
	PERFORM notification_queue();
	PERFORM usr('ada');
	PERFORM simple('one', 2, 3600);
	PERFORM prebuild('one', 'one-' || n) FROM generate_series(1, 3) n;
	PERFORM schedule('one', '* 9-18 * * *', 3);
	PERFORM simple('two', 1);
	PERFORM version('two', 'two-v2', active => false), preset('two-v2', 'two-2', 1);
	PERFORM prebuild_stage(v('two-v2'));
	PERFORM prebuild('one', 'cold-' || n, owner => usr('ada')) FROM generate_series(1, 30) n;
	PERFORM prebuild_set_policy(t('one'), unready_grace => '1 h');
END $$;
-- ids that mean something, by a number
CREATE TABLE fixture.known AS SELECT row_number() OVER (ORDER BY kind, id) - 1 AS n, id, kind FROM (
	SELECT id, 'template' AS kind FROM templates UNION ALL SELECT id, 'preset' FROM template_version_presets
	UNION ALL SELECT id, 'version' FROM template_versions UNION ALL SELECT id, 'workspace' FROM (SELECT id FROM workspaces LIMIT 6) w
	UNION ALL SELECT id, 'agent' FROM (SELECT id FROM workspace_agents LIMIT 4) a UNION ALL SELECT id, 'user' FROM users
	UNION ALL SELECT id, 'build' FROM (SELECT id FROM workspace_builds LIMIT 4) b) k;

-- our own calls between the hostile ones find the tables
ALTER FUNCTION fixture.finish_jobs SET search_path = public, fixture, pg_temp;
CREATE ROLE hostile_nobody;
CREATE ROLE hostile_granted;
CREATE ROLE hostile_app;
CREATE ROLE hostile_other;
SELECT prebuild_grant('hostile_granted'), prebuild_grant('hostile_app', owner => true);
DO $$
DECLARE
	statement text;
BEGIN
	FOR statement IN SELECT format('GRANT %s ON %s TO hostile_app', array_to_string(privileges, ', '), relation)
		FROM prebuild_required_rights() LOOP
		EXECUTE statement;
	END LOOP;
END $$;

-- traps: what the server calls so, for every operator of these types, and functions and tables that we use
CREATE SCHEMA trap;
CREATE FUNCTION trap.trap() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''the trap was sprung'' USING ERRCODE = ''TRAPX''; END';
DO $do$
DECLARE
	o record;
BEGIN
	FOR o IN SELECT DISTINCT proname, pg_get_function_identity_arguments(oid) AS arguments FROM pg_proc
		WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND provariadic = 0 AND proargmodes IS NULL AND proname = ANY
			('{now,count,unnest,gen_random_uuid,coalesce,format,greatest,least,jsonb_build_object,set_config,current_setting,pg_notify,lower,length,
			cardinality,array_length,to_jsonb,generate_series,date_part,date_trunc,pg_try_advisory_xact_lock,clock_timestamp,floor,quote_ident,
			quote_literal,to_regclass,concat,max,min,sum,octet_length,convert_from,encode,decode,substr,strpos,left,timezone,txid_current,
			pg_current_snapshot,pg_snapshot_xmin,jsonb_typeof,jsonb_each,jsonb_object_keys,jsonb_array_elements,array_position,array_to_string}'::text[])
	LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION trap.%I(%s) RETURNS boolean LANGUAGE sql AS ''SELECT trap.trap()''', o.proname, o.arguments);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	FOR o IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, row_number() OVER () AS n FROM pg_operator
		WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b' AND oprresult = 'boolean'::regtype
			AND oprleft = ANY ('{uuid,text,boolean,integer,bigint,timestamptz,jsonb,interval,anyarray,float8,oid,name,xid8}'::regtype[])
	LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION trap.o%s(%s, %s) RETURNS boolean LANGUAGE sql AS ''SELECT trap.trap()''', o.n, o.l, o.r);
			EXECUTE format('CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = trap.o%s)', o.oprname, o.l, o.r, o.n);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	FOR o IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
		EXECUTE format('CREATE VIEW trap.%I AS SELECT trap.trap()', o.relname);
	END LOOP;
END
$do$;
CREATE TYPE trap.uuid AS (x integer);
CREATE TYPE trap.text AS (x integer);
GRANT USAGE ON SCHEMA trap, fixture TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA trap, fixture TO PUBLIC;
GRANT USAGE, CREATE ON SCHEMA trap TO hostile_app;
});
cmp_ok($node->safe_psql($db, q{SELECT count(*) FROM pg_operator WHERE oprnamespace = 'trap'::regnamespace}), '>', 80, 'there are traps');

my @functions = map {
	my ($name, $kind, $public, $names, $defaults, @types) = split /;/, $_, -1;
	{ name => $name, kind => $kind, public => $public eq 't', names => [ split /,/, $names ], defaults => $defaults, types => [ grep { $_ ne '' } @types ] }
} split /\n/, $node->safe_psql($db, q{
	SELECT concat_ws(';', p.proname, CASE WHEN p.prorettype = 'trigger'::regtype THEN 't' WHEN p.proretset THEN 's' ELSE p.prokind END, has_function_privilege('hostile_nobody', p.oid, 'EXECUTE'),
		coalesce(array_to_string(p.proargnames[1:p.pronargs], ','), ''), p.pronargdefaults,
		(SELECT string_agg(t::regtype::text, ';' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY u (t, n)))
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'prebuild_ext'
	UNION ALL SELECT concat_ws(';', c.relname, 'v', false, '', 0, '')
	FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'prebuild_ext' AND c.relkind = 'v' ORDER BY 1});
cmp_ok(scalar @functions, '>', 60, @functions . ' functions and views');
my %is_public = map { $_->{name} => 1 } grep { $_->{public} } @functions;
my (%ids, @ids);
foreach (split /\n/, $node->safe_psql($db, 'SELECT kind, id FROM fixture.known'))
{
	my ($kind, $id) = split /\|/;
	push @{ $ids{$kind} }, "'$id'::pg_catalog.uuid";
	push @ids, $id;
}
# Plausible values of arguments, by their names.
my %plausible = (
	preset_id => sub { one_of(@{ $ids{preset} }) },
	template_id => sub { one_of(@{ $ids{template} }) },
	template_version_id => sub { one_of(@{ $ids{version} }) },
	workspace_id => sub { one_of(@{ $ids{workspace} }) },
	build_id => sub { one_of(@{ $ids{build} }) },
	agent_id => sub { one_of(@{ $ids{agent} }) },
	new_owner_id => sub { one_of(@{ $ids{user} }) },
	new_name => sub { "'mine-" . int(rand(1e6)) . "'" },
	preset_name => sub { one_of("'one'", "'two'", 'NULL') },
	replacements => sub { q{'{"disk": ["size"]}'} },
	(map { $_ => sub { "'2025-06-0" . one_of(1, 2) . " 1" . one_of(0 .. 9) . ":00Z'" } } qw(from_time start_at starts_at from since)),
	(map { $_ => sub { "'2025-06-0" . one_of(3, 4) . " 12:00Z'" } } qw(to_time end_at ends_at until to)),
	at => sub { one_of("'2025-06-02 12:00Z'", 'pg_catalog.now()') },
);

sub one_of { return $_[rand @_] }

# A hostile or plausible value of a type, as an expression that no search_path changes.
my %values = (
	uuid => sub { one_of("'00000000-0000-0000-0000-000000000000'", 'pg_catalog.gen_random_uuid()', map { "'" . one_of(@ids) . "'" } 1 .. 6) },
	text => sub {
		one_of("''", "' '", "'one'", "'two'", "'cpu'", "'1'", "'0%'", "'50%'", "'%s%n%d'", q{'a''b"c\\'}, "E'\\n\\t\\u00a0'", "'* * * * *'", "'*/5 9-18 * * 1-5'", "'0 0 31 2 *'",
			"'99999999999999999999 * * * *'", "'Europe/Berlin'", "'Foo/Bar'", "'; DROP TABLE x; --'", "'../../etc/passwd'", "'{\"a\": 1}'", "'auto'", "U&'\\+01F600'",
			'pg_catalog.repeat(\'x\', 3000)', 'pg_catalog.repeat(\'* \', 100000)', 'pg_catalog.repeat(\'AAAAAAAAAAAAAAAAAAAAAA\', 1000)', "pg_catalog.repeat(U&'\\00e4', 5000)", 'pg_catalog.repeat(\'9\', 1000)');
	},
	integer => sub { one_of(0, 1, -1, 2, 100, 2147483647, '(-2147483648)', 86400) },
	bigint => sub { one_of(0, 1, -1, 60_000_000_000, '9223372036854775807', "'-9223372036854775808'") },
	'double precision' => sub { one_of("'NaN'", "'Infinity'", "'-Infinity'", 0, 1, -1, 0.5, 0.9999999, '1e308', '1e-308') },
	'timestamp with time zone' => sub {
		one_of("'infinity'", "'-infinity'", "'294276-12-31 23:59:59.999999Z'", "'4713-01-01 00:00:00Z BC'", "'2025-06-02 12:00Z'", "'2025-06-02 11:00Z'", "'2025-07-01Z'", "'2024-01-01Z'",
			'pg_catalog.now()', "'epoch'", "'1582-10-15Z'");
	},
	interval => sub {
		one_of("'0'", "'1 h'", "'1 day'", "'-1 s'", "'1 us'", "'1 month'", "'178000000 years'", "'-178000000 years'", "'2147483647 days'", "'2562047788 hours'", "'1 month -30 days'");
	},
	boolean => sub { one_of('true', 'false') },
	jsonb => sub {
		one_of("'{}'", "'[]'", "'null'", "'1e1000'", "'\"x\"'", "'{\"disk\": [\"size\"]}'", "'{\"a\": {\"b\": [1, null, {}]}}'", "'{\"\": \"\"}'",
			"(pg_catalog.repeat('[', 1000) OPERATOR(pg_catalog.||) pg_catalog.repeat(']', 1000))::pg_catalog.jsonb", "pg_catalog.to_jsonb(pg_catalog.repeat('x', 1000000))");
	},
	bytea => sub { one_of("''", "'\\x00'", "'\\xff'", "'\\xe282'", "'one'", "pg_catalog.decode(pg_catalog.repeat('ff', 5000), 'hex')") },
	regrole => sub { one_of("'hostile_other'", "'postgres'", "'-'", "'4294967295'", "'1'") },
	regclass => sub { one_of("'public.workspaces'", "'-'", "'1'", "'pg_catalog.pg_class'") },
	name => sub { one_of("'one'", "''", "pg_catalog.repeat('n', 100)") },
);
$values{real} = $values{'double precision'};
$values{oid} = $values{integer};

# The name of a type, whatever types are on the search_path.
sub named
{
	my ($type) = @_;

	return $type =~ /^(?:integer|bigint|boolean|real|double precision|interval|timestamp with time zone|"char"|public\.)/ || !$values{$type} ? $type : "pg_catalog.$type";
}

sub scalar_of
{
	my ($type) = @_;

	return 'NULL' if rand() < 0.07 || !$values{$type};
	return '(' . $values{$type}->() . ')::' . named($type);
}

sub array_of
{
	my ($type) = @_;
	my $n = one_of(0, 0, 1, 1, 2, 2, 3, 5, 20);
	my $kind = rand();
	my $array = 'ARRAY[' . join(', ', map { scalar_of($type) } 1 .. $n) . ']::' . named($type) . '[]';

	return 'NULL::' . named($type) . '[]' if $kind < 0.05;
	return "ARRAY[$array, $array]" if $kind < 0.1 && $n > 0;
	return 'pg_catalog.array_fill(' . scalar_of($type) . '::' . named($type) . ', ARRAY[' . one_of(0, 1, 3, 1000, 20000) . '], ARRAY[' . one_of(1, -5, 2147400000) . '])' if $kind < 0.2;
	return "'{}'::" . named($type) . '[]' if $kind < 0.25;
	return $array;
}

sub argument_of
{
	my ($type, $plausible, $name, $elements) = @_;
	my $one = $name =~ s/s$//r;

	if ($plausible && rand() < 0.95)
	{
		return $plausible{$name}->() if $plausible{$name};
		return 'ARRAY[' . join(', ', map { ($plausible{$one} // $values{$1})->() . '::' . named($1) } 1 .. $elements) . ']' if $type =~ /^(.*)\[\]$/ && $values{$1};
	}

	return $type =~ /^(.*)\[\]$/ ? array_of($1) : scalar_of($type);
}

my @settings = map { "prebuild.$_" } ("backoff_interval = '0'", "backoff_interval = '1000000'", "failure_hard_limit = 0", "max_creates_per_pass = 1", "max_building = '1%'",
	"unready_grace = '1s'", "disconnected_grace = '1s'", "failed_retention = '1s'", "delete_retries = 1000000", "max_unavailable = '0'", "max_surge = '0'",
	"require_provisioner = on", "metadata_insert_missing = off", "metadata_notify = 'both'", "identity_cache_ttl = 0", "default_lead_time = 0", "scale_in_delay = '10000d'", "attach_timeout = '10ms'", "lock_linger = '0'");
my @roles = ('postgres', 'hostile_app', 'hostile_app', 'hostile_granted', 'hostile_nobody');
my @levels = ('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE', 'READ COMMITTED, READ ONLY', 'SERIALIZABLE, READ ONLY, DEFERRABLE');

# One hostile call: psql's lines for it, beginning with one that says what it is.
sub hostile_call
{
	my $function = one_of(@functions);
	my $n = @{ $function->{types} };
	my $given = rand() < 0.7 ? $n : int(rand($n + 1));
	my $plausible = rand() < 0.5;
	my $elements = one_of(1, 2, 5);
	my @arguments = map { argument_of($function->{types}[$_], $plausible, $function->{names}[$_] // '', $elements) } 0 .. $n - 1;
	my $role = one_of(@roles);
	my $call;

	# without the last ones, or all by name
	$given = $n - $function->{defaults} if $given < $n - $function->{defaults} && rand() < 0.98;
	$call = join(', ', map { ($given < $n && $function->{names}[$_] ? "$function->{names}[$_] => " : '') . $arguments[$_] } 0 .. $given - 1);
	$call = $function->{kind} eq 'v' ? "public.$function->{name}" : "public.$function->{name}($call)";
	my $done = "'#done $role $function->{name}'";
	# a strict function that is given NULL answers NULL to everybody, because nobody calls it: that is no row, either
	my $rows = $function->{kind} =~ /[vs]/ ? 'pg_catalog.count(*)' : 'CASE WHEN pg_catalog.count(x) OPERATOR(pg_catalog.>) 0 THEN 1 END';
	$call = $function->{kind} eq 'v' || ($function->{kind} ne 't' && rand() < 0.7)
	  ? one_of("SELECT $done, $rows FROM $call x", "SELECT $done, pg_catalog.length(pg_catalog.string_agg(x::pg_catalog.text, '')) FROM $call x")
	  : "SELECT $done, pg_catalog.length(x.y::pg_catalog.text) FROM (SELECT $call AS y OFFSET 0) x";
	return join(' \\; ', 'BEGIN ISOLATION LEVEL ' . one_of(@levels), "SET LOCAL statement_timeout = '" . one_of('1ms', '3ms', '10ms', '30ms', '300ms') . "'",
		(rand() < 0.3 ? 'SET LOCAL ' . one_of(@settings) : ()), (rand() < 0.2 ? "SET LOCAL lock_timeout = '1ms'" : ()),
		(rand() < 0.03 ? 'SET LOCAL prebuild.control_plane_schema = ' . one_of('nowhere', 'fixture', 'pg_catalog') : ()),
		'SET LOCAL search_path = ' . one_of('trap, public, pg_catalog', 'trap, pg_catalog', 'pg_temp, trap, pg_catalog', "''", 'public'),
		"SET LOCAL ROLE $role", $call) . ";\n" . one_of('ROLLBACK', 'ROLLBACK', 'COMMIT') . ";\n";
}

# What a session's output has of a memory's size, and all errors, each with the line of the script that made it.
my $memory = q{SELECT '#memory', (SELECT sum(total_bytes) FROM pg_backend_memory_contexts),
	(regexp_match(pg_read_file('/proc/self/status'), 'RssAnon:\s+(\d+)'))[1];} . "\n";
my (%states, %succeeded, @wrong, @grown);
my $done = 0;
srand($seed);
while ($done < $calls)
{
	my (@scripts, @sessions);

	foreach (1, 2)
	{
		my @lines = ("\\set ON_ERROR_STOP off\n\\set VERBOSITY verbose\nSET client_min_messages = error;\nCREATE TEMP VIEW workspaces AS SELECT trap.trap();\n");

		foreach my $n (1 .. $per_session)
		{
			push @lines, hostile_call();
			# what calls have stopped goes on
			push @lines, one_of("SELECT prebuild_resume();\n", "SELECT prebuild_reconcile(fixture.t0());\n", "SELECT fixture.finish_jobs();\n", "SELECT prebuild_attach();\n")
			  if rand() < 0.05;
			push @lines, $memory if $n == int($per_session * 0.6);
		}
		push @lines, $memory;
		push @scripts, [ map { split /(?<=\n)/ } @lines ];
		push @sessions, start_session($node, $db, join('', @lines));
		$done += $per_session;
	}
	foreach my $session (@sessions)
	{
		my $script = shift @scripts;

		finish_session($session);
		push @wrong, 'a session was lost: ' . substr($session->{output}, -500) if $session->{output} =~ /connection to server was lost|server closed the connection/;
		while ($session->{output} =~ /^psql:\S+?:(\d+): (?:ERROR|FATAL|PANIC):  (\w{5}): (.*)$/mg)
		{
			my ($line, $state, $message) = ($1, $2, $3);

			$states{$state}++;
			note("$state: $message: " . substr($script->[$line - 1], 0, 3000)) if $state =~ ($ENV{PREBUILD_SHOW} // '^$') && rand() < 0.1;
			push @wrong, "$state: $message: $script->[$line - 1]" if $state =~ /^XX|TRAPX/ || $message =~ /trap was sprung/;
		}
		while ($session->{output} =~ /^#done (\w+) (\w+)\|./mg)
		{
			$succeeded{$2}++;
			push @wrong, "who has no rights calls $2" if $1 eq 'hostile_nobody' && !$is_public{$2};
		}
		my @memory = $session->{output} =~ /^#memory\|(\d+)\|(\d+)$/mg;
		push @grown, [@memory];
	}
	last if @wrong > 20;
}
is(join("\n", @wrong), '', "$done hostile calls, seed $seed: no internal error, no trap sprung, no session lost");
my $what = join(', ', map { "$_ $states{$_}" } sort { $states{$b} <=> $states{$a} } keys %states);
note("SQLSTATEs: $what");
note('calls that succeeded: ' . join(', ', map { "$_ $succeeded{$_}" } sort keys %succeeded));
note('calls that never did: ' . join(', ', grep { !$succeeded{$_} } map { $_->{name} } @functions));
note('memory of contexts and process at 60 % of a session and at its end: ' . join('; ', map { "@$_" } @grown[0 .. ($#grown < 5 ? $#grown : 5)]));
is(join('; ', map { "@$_" } grep { @$_ != 4 || $_->[2] > $_->[0] * 1.2 + 2e6 } @grown), '', "sessions' memory contexts do not grow");
my $growth = 0;
$growth += ($_->[3] - $_->[1]) / @grown foreach @grown;
# single calls have arguments of megabytes, whose memory malloc() gives back when it likes
cmp_ok($growth, '<', 16 * 1024, sprintf('nor their processes: %d kB on average', $growth));

# what is left is a control plane that works
$node->safe_psql($db, 'SELECT prebuild_resume(); SELECT prebuild_attach(); SELECT prebuild_rebuild()');
is($node->safe_psql($db, 'SELECT lock_acquired, failed FROM prebuild_reconcile()'), 't|0', 'a pass works after them');
is($node->safe_psql($db, 'SELECT * FROM prebuild_verify()'), '', 'the kept pool is right');

$node->stop;
done_testing();
