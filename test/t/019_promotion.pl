# Staged versions become active while others are at work: once, as they were judged, and nobody is given a
# prebuild of a version that is not active.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $seconds = $ENV{PREBUILD_RACE_SECONDS} // 5;
my $node = new_server('promotion', 'max_connections = 40', "deadlock_timeout = '100ms'");
my $db = new_control_plane($node, 'plane');
my $lock_waits = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'};

$node->safe_psql($db, q{
	-- a template whose next version is staged, with all that it wants
	CREATE FUNCTION fixture.staged(name text, promote boolean DEFAULT false) RETURNS void LANGUAGE plpgsql SET search_path = public, fixture AS $$
	BEGIN
		PERFORM fixture.simple(name, 1);
		PERFORM fixture.version(name, name || '-v2', active => false);
		PERFORM fixture.preset(name || '-v2', name || '-2', 1);
		PERFORM prebuild_stage(fixture.v(name || '-v2'));
		PERFORM prebuild_reconcile();
		PERFORM fixture.finish_jobs();
		IF promote THEN
			PERFORM prebuild_stage(fixture.v(name || '-v2'), promote => true);
		END IF;
	END $$;
	CREATE FUNCTION fixture.active(name text) RETURNS text LANGUAGE sql AS $$
		SELECT v.name FROM templates t JOIN template_versions v ON v.id = t.active_version_id WHERE t.name = active.name $$;
	CREATE FUNCTION fixture.kinds(name text) RETURNS text LANGUAGE sql AS $$
		SELECT string_agg(e.kind, ' ' ORDER BY e.id) FROM prebuild_event e JOIN templates t ON t.id = e.template_id
		WHERE t.name = kinds.name AND e.kind <> 'staged' $$});

sub active { return $node->safe_psql($db, "SELECT fixture.active('$_[0]')") }
sub kinds { return $node->safe_psql($db, "SELECT fixture.kinds('$_[0]')") }
sub promote { return "SELECT prebuild_promote(fixture.v('$_[0]-v2'))" }
sub staged { $node->safe_psql($db, "SELECT fixture.staged('$_[0]'" . ($_[1] ? ', true' : '') . ')'); return }

# Begin something that waits for a lock of another session.
sub waiting
{
	my ($script) = @_;
	my $session = start_session($node, $db, $script);

	wait_until($node, $db, $lock_waits);
	return $session;
}

# two sessions promote
staged('two');
my $other = $node->background_psql($db);
$other->query_safe('BEGIN;' . promote('two'));
my $second = waiting(promote('two'));
is(active('two'), 'two-v1', 'a promotion is not seen before its commit');
$other->query_safe('COMMIT');
ok(!finish_session($second), 'of two promotions one fails');
like($second->{output}, qr/ERROR:  template version \S+ is not staged/, 'as nothing is staged any more');
is(active('two'), 'two-v2', 'the other makes the version active');
is(kinds('two'), 'promoted', 'once');

# who watches the template is told
staged('watched');
my $template = $node->safe_psql($db, q{SELECT fixture.t('watched')});
my ($status, $out, $err) = $node->psql($db, qq{LISTEN "template:$template"; } . promote('watched'));
like($out, qr/Asynchronous notification "template:$template" received/, 'watchers of the template are told');

# beside a pass
staged('beside');
$node->safe_psql($db, q{UPDATE template_version_presets SET desired_instances = 2 WHERE name = 'beside-2'});
$other->query_safe('BEGIN');
is(answer($other, 'SELECT created FROM prebuild_reconcile()'), 1, 'a pass is under way');
my $timeout = start_session($node, $db, "SET lock_timeout = '50ms';" . promote('beside'));
ok(!finish_session($timeout), 'a promotion waits for it');
like($timeout->{output}, qr/prebuild_promote\(\) did not get the reconcilers' lock within lock_timeout/, 'as long as lock_timeout says');
$second = waiting(promote('beside'));
$other->query_safe('COMMIT');
ok(!finish_session($second), 'and then judges');
like($second->{output}, qr/cannot become active: 1 of 2 are eligible/, 'what the pass has left');
$node->safe_psql($db, 'SELECT fixture.finish_jobs();' . promote('beside'));
is(active('beside'), 'beside-v2', 'at last it is there');
$node->safe_psql($db, q{
	CREATE FUNCTION promotes() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM prebuild_promote(fixture.v('beside-v2'), true); RETURN NEW; END $$;
	CREATE TRIGGER promotes BEFORE INSERT ON workspaces FOR EACH ROW EXECUTE FUNCTION promotes();
	UPDATE template_version_presets SET desired_instances = 3 WHERE name = 'beside-2'});
($status, $out, $err) = $node->psql($db, 'SELECT failed FROM prebuild_reconcile()');
like($err, qr/prebuild_promote\(\) cannot wait for the pass that called it/, 'a trigger of the pass does not promote');
$node->safe_psql($db, 'DROP TRIGGER promotes ON workspaces');

# unstaged during a promotion, and before it
staged('undone');
$other->query_safe('BEGIN;' . promote('undone'));
$second = waiting(q{SELECT prebuild_unstage(fixture.v('undone-v2'))});
$other->query_safe('COMMIT');
ok(!finish_session($second), 'who unstages too late');
like($second->{output}, qr/is not staged/, 'is told');
is(active('undone'), 'undone-v2', 'it is promoted');
foreach my $change (
	[ 'unstaged', q{SELECT prebuild_unstage(fixture.v('unstaged-v2'))} ],
	[ 'restaged', q{SELECT prebuild_stage(fixture.v('restaged-v2'), 0.5)} ],
	[ 'elsewhere', q{UPDATE templates SET active_version_id = fixture.version('elsewhere', 'elsewhere-v3', false) WHERE name = 'elsewhere'} ],
	[ 'deleted', q{UPDATE templates SET deleted = true WHERE name = 'deleted'} ])
{
	my ($name, $statement) = @$change;
	my $before = $name eq 'elsewhere' ? 'elsewhere-v3' : "$name-v1";

	staged($name);
	$other->query_safe("BEGIN; $statement");
	$second = waiting(promote($name));
	$other->query_safe('COMMIT');
	ok(!finish_session($second), "$name during a promotion");
	like($second->{output}, qr/template "$name" or its stage has changed meanwhile/, 'stops it');
	is(active($name), $before, 'it is not promoted');

	# the same during a pass that promotes, which does not wait for long
	staged("$name-by-pass", 1);
	$statement =~ s/'$name/'$name-by-pass/g;
	$other->query_safe("BEGIN; $statement");
	($status, $out, $err) = $node->psql($db, q{SET lock_timeout = '200ms'; SELECT lock_acquired, failed FROM prebuild_reconcile()});
	is($out, 't|0', 'a pass does the rest');
	like($err, qr/because of locks of other sessions: the staged version of template "$name-by-pass"/, 'and leaves it');
	$other->query_safe('COMMIT');
	($status, $out, $err) = $node->psql($db, 'SELECT lock_acquired, failed FROM prebuild_reconcile()');
	is("$out$err", 't|0', 'the next pass goes by what is there');
	isnt(active("$name-by-pass"), "$name-by-pass-v2", 'which does not become active');
}
is($node->safe_psql($db, q{SELECT string_agg(t.name, ' ' ORDER BY t.name) FROM prebuild_stage s JOIN templates t ON t.id = s.template_id}),
	'elsewhere elsewhere-by-pass restaged restaged-by-pass', 'and what is staged still is');
$other->quit;

# A race: versions are staged and promoted, one after the other, by passes and by hand, while workspaces are
# claimed all the time, and prebuilds built and deleted.
my $race = new_control_plane($node, 'race');
$node->safe_psql($race, q{
	SELECT fixture.simple('app', 3), fixture.usr('ada');
	CREATE TABLE active_from (version uuid, since timestamptz, seen timestamptz);
	CREATE TABLE claims (version uuid, began timestamptz, ended timestamptz);
	INSERT INTO active_from SELECT fixture.v('app-v1'), '-infinity', '-infinity';
	CREATE TABLE race_over ();
	CREATE PROCEDURE promoter(seconds float8) LANGUAGE plpgsql AS $$
	DECLARE
		stop timestamptz := clock_timestamp() + make_interval(secs => seconds);
		began timestamptz;
		version uuid;
		n int := (SELECT count(*) FROM active_from);
	BEGIN
		WHILE clock_timestamp() < stop LOOP
			n := n + 1;
			version := fixture.version('app', 'app-v' || n, active => false);
			PERFORM fixture.preset('app-v' || n, 'app-' || n, 3);
			PERFORM prebuild_stage(version, promote => n % 2 = 0);
			COMMIT;
			LOOP
				began := clock_timestamp();
				PERFORM prebuild_reconcile(clock_timestamp());
				COMMIT;
				IF n % 2 = 1 AND (SELECT ready FROM prebuild_stage_status(clock_timestamp())) THEN
					PERFORM prebuild_promote(version);
				END IF;
				COMMIT;
				EXIT WHEN (SELECT active_version_id = version FROM templates WHERE name = 'app');
			END LOOP;
			INSERT INTO active_from VALUES (version, began, clock_timestamp());
			COMMIT;
		END LOOP;
		INSERT INTO race_over DEFAULT VALUES;
	END $$;
	CREATE PROCEDURE provisioner() LANGUAGE plpgsql AS $$
	BEGIN
		-- until the last version has what it waits for
		WHILE NOT EXISTS (SELECT FROM race_over) LOOP
			PERFORM fixture.finish_jobs();
			COMMIT;
			PERFORM pg_sleep(0.005);
		END LOOP;
	END $$;
	CREATE PROCEDURE claimer(seconds float8) LANGUAGE plpgsql AS $$
	DECLARE
		stop timestamptz := clock_timestamp() + make_interval(secs => seconds);
		preset uuid;
		began timestamptz;
		ended timestamptz;
		workspace uuid;
	BEGIN
		WHILE clock_timestamp() < stop LOOP
			-- of any version of the last ones: it is the claim that says no
			SELECT l.id INTO preset FROM (SELECT p.id FROM template_version_presets p
				JOIN template_versions v ON v.id = p.template_version_id ORDER BY length(v.name) DESC, v.name DESC LIMIT 3) l
			ORDER BY random() LIMIT 1;
			began := clock_timestamp();
			SELECT c.id INTO workspace FROM prebuild_claim(preset, fixture.usr('ada'), gen_random_uuid()::text, at => clock_timestamp()) c;
			ended := clock_timestamp();
			INSERT INTO claims SELECT b.template_version_id, began, ended FROM workspace_builds b WHERE b.workspace_id = workspace;
			COMMIT;
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$});
my ($versions, $claims);
my $rounds = race_until(
	sub { return $versions > 3 && $claims > 20; },
	6,
	sub {
		$node->safe_psql($race, 'TRUNCATE race_over');
		run_in_parallel($node, $race, "CALL promoter($seconds)", 'CALL provisioner()', ("CALL claimer($seconds)") x 3);
		($versions, $claims) = split /\|/, $node->safe_psql($race,
			q{SELECT (SELECT count(*) FROM active_from), (SELECT count(*) FROM claims)});
	});
note("$versions versions, $claims claims in $rounds rounds");
cmp_ok($versions, '>', 3, 'versions were promoted');
cmp_ok($claims, '>', 20, 'and prebuilds given away');
# when a version was active: from the beginning of what promoted it to when the next one was seen
my $wrong = q{
	WITH span AS (SELECT version, since, coalesce(lead(seen) OVER (ORDER BY since), 'infinity') AS until FROM active_from)
	SELECT count(*) FROM claims c WHERE NOT EXISTS (
		SELECT FROM span s WHERE s.version = c.version AND c.ended >= s.since AND c.began <= s.until)};
is($node->safe_psql($race, $wrong), 0, 'nobody was given a prebuild of a version that was not active');
is($node->safe_psql($race, q{SELECT count(*) FROM prebuild_event WHERE kind = 'promoted'}), $versions - 1, 'each was promoted once');
is($node->safe_psql($race, q{SELECT count(*) FILTER (WHERE (detail ->> 'eligible')::int < 3) FROM prebuild_event WHERE kind = 'promoted'}),
	0, 'with a full pool');

$node->stop;
done_testing();
