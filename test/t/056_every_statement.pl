# A call that fails at any one of its statements leaves no trace that matters: the next one reaches the state that
# it would have reached undisturbed. Passes, claims and what else writes fail at each statement in turn: by an
# error, a cancel, a lock that does not come, a deadlock, an internal error, a lost connection, a killed backend.
# prebuild.inject_fault makes them fail (src/base/injected_fault.c), and the states are compared without ids and times.
#
# By default every statement of a pass fails by an error, and some statements of passes and other calls fail in other
# ways. PREBUILD_EVERY=1 has every statement of every call fail in every way, attached and not.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $every = $ENV{PREBUILD_EVERY} // 0;
my $node = new_server('every_statement', 'fsync = off', 'autovacuum = off', 'restart_after_crash = on');
my $db = new_control_plane($node, 'plane');

# A control plane in which a pass has something to do in each of its steps, and how to get it back.
$node->safe_psql($db, q{
SET search_path = public, fixture;
DO $$ BEGIN
	PERFORM notification_queue();
	UPDATE users SET rbac_roles = '{template-admin}' WHERE id = usr('boss');
	PERFORM usr('ada');
	-- creates, with parameters, tags and a schedule; two organizations to join
	PERFORM simple('grow', 1);
	PERFORM schedule('grow', '* 9-18 * * *', 3);
	UPDATE template_version_presets SET scheduling_timezone = 'UTC' WHERE name = 'grow';
	PERFORM parameter('grow-v1', 'region', 'eu');
	PERFORM preset_value('grow', 'region', 'us');
	INSERT INTO template_version_workspace_tags VALUES (v('grow-v1'), 'pool', 'var.pool');
	INSERT INTO template_version_variables VALUES (v('grow-v1'), 'pool', '', 'string', 'fast', '', false, false);
	PERFORM simple('other', 1, org => 'second');
	-- cannot be built
	PERFORM simple('invalid', 1);
	PERFORM parameter('invalid-v1', 'size', '', true);
	-- too many
	PERFORM simple('shrink', 1);
	PERFORM prebuild('shrink', 'shrink-' || n, created => t0() - n * interval '1 hour') FROM generate_series(1, 3) n;
	-- expired, replaced one after the other
	PERFORM simple('old', 2, 3600);
	PERFORM prebuild('old', 'old-' || n, created => t0() - interval '2 hours') FROM generate_series(1, 2) n;
	PERFORM prebuild_set_policy(t('old'), max_unavailable => '50%', max_surge => '1');
	-- sick; failed and kept too long; deletes that failed
	PERFORM simple('sick', 2);
	PERFORM prebuild('sick', 'sick-1', ready => false);
	PERFORM prebuild('sick', 'sick-2', status => 'failed', created => t0() - interval '2 days');
	PERFORM prebuild('sick', 'sick-3', created => t0() - interval '1 day');
	PERFORM build('sick-3', 'delete', 'failed', created => t0() - interval '1 hour');
	PERFORM prebuild('sick', 'sick-4', created => t0() - interval '1 day');
	PERFORM build('sick-4', 'delete', 'failed', created => t0() - n * interval '1 hour') FROM generate_series(1, 2) n;
	PERFORM prebuild_set_policy(t('sick'), unready_grace => '10 min', failed_retention => '1 day', failed_keep => 0, delete_retries => 1);
	-- at the hard limit, and failed of late
	PERFORM simple('limit', 1);
	PERFORM prebuild('limit', 'limit-' || n, status => 'failed', created => t0() - interval '1 day') FROM generate_series(1, 3) n;
	PERFORM simple('late', 2);
	PERFORM prebuild('late', 'late-1', status => 'failed', created => t0() - interval '10 s');
	-- members of an old version, one of which waits
	PERFORM simple('newer', 1);
	PERFORM prebuild('newer', 'newer-1');
	PERFORM prebuild('newer', 'newer-2', status => 'pending');
	PERFORM version('newer', 'newer-v2');
	-- a staged version that is ready, one that is not, one whose time is over
	PERFORM simple('staged', 1), simple('unready', 1), simple('over', 1);
	PERFORM prebuild('staged', 'staged-1'), prebuild('unready', 'unready-1'), prebuild('over', 'over-1');
	PERFORM version(n, n || '-v2', active => false), preset(n || '-v2', n || '-2', 1) FROM unnest('{staged,unready,over}'::text[]) n;
	PERFORM prebuild('staged-2', 'staged-2'), prebuild('over-2', 'over-2');
	PERFORM prebuild_stage(v('staged-v2'), promote => true), prebuild_stage(v('unready-v2'), promote => true);
	INSERT INTO prebuild_stage SELECT control_plane, t('over'), v('over-v2'), v('over-v1'), 1, true, t0() - interval '1 min', t0() - interval '1 day'
		FROM prebuild_stage LIMIT 1;
	-- claims and cold starts
	PERFORM simple('busy', 2);
	PERFORM prebuild('busy', 'busy-' || n, created => t0() - interval '1 day') FROM generate_series(1, 4) n;
	UPDATE workspaces SET owner_id = usr('ada'), name = 'mine-' || name WHERE name IN ('busy-3', 'busy-4');
	PERFORM build('mine-' || n, 'start', initiator => usr('ada'), preset_name => 'busy') FROM unnest('{busy-3,busy-4}'::text[]) n;
	-- a claim of this moment: resources that it replaced count
	UPDATE workspace_builds SET created_at = now() WHERE id = latest('mine-busy-3');
	PERFORM prebuild('busy', 'cold-' || n, owner => usr('ada')) FROM generate_series(1, 3) n;
	-- what is too old
	INSERT INTO prebuild_event (at, kind) VALUES (t0() - interval '30 days', 'old');
	INSERT INTO prebuild_mark (preset_id, kind, detail, since, control_plane) VALUES (gen_random_uuid(), 'hard_limited', '', t0(), 'public');
	INSERT INTO prebuild_failure (build_id, preset_id, workspace_id, kind, built_at, control_plane)
		VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'build', t0() - interval '300 days', 'public');
	INSERT INTO prebuild_demand_log VALUES ('public', gen_random_uuid(), t('busy'), 'busy', t0() - interval '2 years', true);
	INSERT INTO prebuild_replacement (workspace_id, build_id, template_id, preset_id, at)
		VALUES (gen_random_uuid(), gen_random_uuid(), t('busy'), p('busy'), t0() - interval '2 years');
	PERFORM daemon('d', 'org', '{terraform}', '{"scope": "organization", "owner": ""}', t0());
END $$;
UPDATE provisioner_jobs SET input = input WHERE false;

CREATE SCHEMA saved;
-- but those that speak of transactions and files, or measure the time between passes; of counts, the sum counts
CREATE TABLE saved.tables AS
SELECT c.oid::regclass AS name, c.relname LIKE 'prebuild_%' AS own, (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
	WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns
FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
	AND c.relname !~ '^prebuild_(pool_.*|demand_marker|pass_stats|idle)$' ORDER BY c.relname;
DO $$
DECLARE
	o saved.tables;
BEGIN
	FOR o IN SELECT * FROM saved.tables LOOP
		EXECUTE format('CREATE TABLE saved.%I AS TABLE %s', o.name::text, o.name);
	END LOOP;
END $$;
CREATE PROCEDURE saved.restore() LANGUAGE plpgsql AS $$
DECLARE
	o saved.tables;
BEGIN
	SET LOCAL session_replication_role = replica;
	FOR o IN SELECT * FROM saved.tables LOOP
		EXECUTE format('DELETE FROM %s', o.name);
		EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM saved.%I', o.name, o.columns, o.columns, o.name::text);
	END LOOP;
	SET LOCAL session_replication_role = origin;
	DELETE FROM prebuild_demand_marker;
END $$;
-- All rows. Of summaries, the sum counts; the fault of a preset is said only where there was one.
CREATE FUNCTION saved.state() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	o saved.tables;
BEGIN
	FOR o IN SELECT * FROM saved.tables LOOP
		CONTINUE WHEN o.name IN ('prebuild_event'::regclass, 'prebuild_preset_count'::regclass, 'prebuild_preset_count_log'::regclass);
		RETURN QUERY EXECUTE format('SELECT ''|'' || %L || '' '' || to_jsonb(x)::text FROM %s x', o.name, o.name);
	END LOOP;
	RETURN QUERY SELECT '|event ' || (to_jsonb(e) - 'id')::text FROM prebuild_event e WHERE e.kind NOT IN ('pass', 'preset_failed');
	RETURN QUERY SELECT format('|passes %s %s %s', sum((detail ->> 'created')::int), sum((detail ->> 'deleted')::int),
		sum((detail ->> 'canceled')::int)) FROM prebuild_event WHERE kind = 'pass';
	RETURN QUERY SELECT format('|count %s %s %s %s', c.template_id, c.preset_name, c.counter, sum(c.value)) FROM (
		SELECT template_id, preset_name, counter, value FROM prebuild_preset_count
		UNION ALL SELECT template_id, preset_name, counter, value FROM prebuild_preset_count_log) c
		GROUP BY c.template_id, c.preset_name, c.counter;
	RETURN QUERY SELECT '|demand ' || to_jsonb(d)::text FROM prebuild_demand('2000-01-01', '2100-01-01') d;
	RETURN QUERY SELECT '|wrong ' || to_jsonb(v)::text FROM prebuild_verify() v;
	RETURN QUERY SELECT '|trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal;
	RETURN QUERY SELECT '|lock ' || l.locktype FROM pg_locks l WHERE l.locktype = 'advisory';
END $$;
});
my %known = map { $_ => 1 } $node->safe_psql($db, q{SELECT saved.state()}) =~ /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

# A state as text: ids that the calls made are named after the rows in which they are, and theirs.
sub normalised
{
	my (@rows) = @_;
	my $uuid = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
	my (%named, @before);

	foreach (@rows)
	{
		s/prebuild-[0-9a-z]{12,}/prebuild-NAME/g;
		s/2025-06-02T12:0[01]:\d\d(\.\d+)?\+00:00/PASS/g;
		s/202[6-9]-\d\d-\d\dT[\d:.]+\+00:00/CLOCK/g;
		$named{$_} = 'NEW' foreach grep { !$known{$_} } /$uuid/g;
	}
	for (1 .. 4)
	{
		my %rows_of;

		foreach my $row (@rows)
		{
			(my $seen = $row) =~ s/($uuid)/$named{$1} \/\/ $1/ge;
			foreach my $id (grep { $named{$_} } $row =~ /$uuid/g)
			{
				(my $own = $seen) = $row =~ s/($uuid)/$1 eq $id ? 'SELF' : $named{$1} \/\/ $1/ger;
				push @{ $rows_of{$id} }, $own;
			}
		}
		$named{$_} = 'NEW-' . md5_hex(join("\n", sort @{ $rows_of{$_} })) foreach keys %rows_of;
	}
	return join("\n", sort map { s/($uuid)/$named{$1} \/\/ $1/ger } @rows) . "\n";
}


my $show = q{SELECT '#state'; SELECT saved.state(); SELECT '#end';} . "\n";

# What can be called, and what is called afterwards until all is as it should be.
sub pass_at { return "SELECT prebuild_reconcile(fixture.t0() + interval '$_[0] s')" }
my %call = (
	pass => pass_at(0),
	claim => q{SELECT prebuild_claim(fixture.p('busy'), fixture.usr('ada'), 'new', at => fixture.t0())},
	promote => q{SELECT prebuild_promote(fixture.v('unready-v2'), force => true)},
	stage => q{SELECT prebuild_stage(fixture.v('over-v2'), 0.5)},
	unstage => q{SELECT prebuild_unstage(fixture.v('unready-v2'))},
	clean => q{SELECT prebuild_clean(at => fixture.t0())},
	retry => q{SELECT prebuild_retry(fixture.p('limit'), fixture.t0())},
	policy => q{SELECT prebuild_set_policy(fixture.t('busy'), 'busy', max_surge => '0')},
	'end of policy' => q{SELECT prebuild_unset_policy(fixture.t('old'))},
	invalidate => q{SELECT prebuild_invalidate(fixture.p('busy'))},
	pause => q{SELECT prebuild_pause()},
	fold => q{SELECT prebuild_fold()},
	rebuild => q{SELECT prebuild_rebuild()},
	attach => q{SELECT prebuild_attach(guard_claims => true)},
	detach => q{SELECT prebuild_detach()},
	upsert => q{SELECT prebuild_agent_metadata_upsert(array_agg(a.id), array_agg('new'::text), array_agg('1'::text), array_agg(''::text), array_agg(fixture.t0()))
		FROM workspace_agents a},
	report => q{SELECT prebuild_agent_metadata_report(a.id, '{cpu}', '{1}') FROM workspace_agents a JOIN workspace_resources r ON r.id = a.resource_id
		JOIN workspace_builds b ON b.job_id = r.job_id WHERE b.workspace_id = fixture.w('shrink-1')},
	'replaced resources' => q{SELECT prebuild_track_resource_replacement(fixture.w('mine-busy-3'), fixture.latest('mine-busy-3'), '{"disk": ["size"]}')},
);
my %before = (attach => 'SELECT prebuild_detach()', detach => 'SELECT prebuild_attach(), prebuild_rebuild()');

# psql's commands from the beginning to the fault in a call. What is left of the fault is said, and whether the call failed.
sub until_fault
{
	my ($call, $fault) = @_;

	# without VACUUM the builds would need more blocks each time, and demand more passes
	return "VACUUM workspace_builds;\nCALL saved.restore();\n" . (exists $before{$call} ? "$before{$call};\n" : '') . "SET prebuild.inject_fault = '$fault';\n$call{$call};\n\\set failed :ERROR\n"
	  . "SELECT '#left', current_setting('prebuild.inject_fault');\nSET prebuild.inject_fault = '';\n";
}

# The same from there on. A call that failed is made again; of passes there is always a next one. In the end
# passes find nothing more to do.
sub until_end
{
	my ($call) = @_;

	return ($call eq 'pass' ? '' : "\\if :failed\n$call{$call};\n\\endif\n") . join('', map { pass_at($_) . ";\n" } 1, 2) . $show;
}

sub results_of
{
	my ($output) = @_;
	my @results;

	while ($output =~ /(.*?)^#state\n(.*?)^#end$/msg)
	{
		my ($said, $rows) = ($1, $2);
		my ($left) = $said =~ /^#left\|(.*)$/m;
		push @results, { said => $said, left => $left, state => normalised(grep { /^\|/ } split /\n/, $rows) };
	}
	return @results;
}

# The first lines in which two states differ.
sub difference
{
	my ($got, $wanted) = @_;
	my %count;

	$count{$_}++ foreach split /\n/, $got;
	$count{$_}-- foreach split /\n/, $wanted;
	my @lines = map { ($count{$_} > 0 ? 'too much: ' : 'missing: ') . $_ } grep { $count{$_} } sort keys %count;
	return join("\n", @lines[0 .. ($#lines < 9 ? $#lines : 9)]);
}

my (%undisturbed, $faults);

# The state that a call leads to undisturbed, and the number of its statements.
sub undisturbed
{
	my ($call) = @_;

	$undisturbed{$call} //= do {
		my ($result) = results_of(say_all(until_fault($call, 'error 1000') . until_end($call)));
		my ($left) = $result->{left} =~ /^error (\d+)$/;

		ok($result->{state} ne $undisturbed{nothing}, "$call does something") if $call !~ /^(?:pass|fold|rebuild|detach)$/;
		{ state => $result->{state}, statements => 1000 - $left };
	};
	return $undisturbed{$call};
}

# Have the statements of a call fail in one way, those in whose number the given step goes after an offset.
sub fails
{
	my ($call, $kind, $step, $offset) = @_;
	my $wanted = undisturbed($call);
	my $lasting = $kind =~ s/\+$// ? '+' : '';
	my @numbers = grep { ($_ - 1 + ($offset // 0)) % $step == 0 } 1 .. $wanted->{statements};
	my $dies = $kind =~ /^(?:exit|kill)$/;
	my @results;
	my $wrong = '';

	if ($dies)
	{
		foreach my $n (@numbers)
		{
			my $log = -s $node->logfile;
			my $said = say_all(until_fault($call, "$kind $n$lasting"));

			$wrong .= "statement $n: the session lives\n" if $said !~ /connection to server was lost/;
			$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log) if $kind eq 'kill';
			wait_for_server($node, $db);
			push @results, results_of(say_all("\\set failed true\n" . until_end($call)));
		}
	}
	else
	{
		@results = results_of(say_all(join('', map { until_fault($call, "$kind $_$lasting") . until_end($call) } @numbers)));
	}
	$wrong .= 'results of ' . @results . ' of ' . @numbers . "\n" if @results != @numbers;
	foreach my $n (@numbers)
	{
		my $result = shift @results or last;

		$wrong .= "statement $n: the fault has not happened: $result->{left}\n" if !$dies && $result->{left} !~ /^$kind 0/;
		# a pass that leaves its own record to the next one says so
		my ($got, $same) = map { s/^\|passes .*\n//mr } $result->{state}, $wanted->{state};
		($got, $same) = ($result->{state}, $wanted->{state}) if $result->{said} !~ /the record of the pass/;
		$wrong .= "statement $n: " . difference($got, $same) . "\n" . ($result->{said} =~ s/^/  said: /mgr) if $got ne $same;
		$faults++;
	}
	is($wrong, '', "$call, $kind$lasting: " . @numbers . " of $wanted->{statements} statements");
	return;
}

sub say_all
{
	my ($script) = @_;
	my $session = start_session($node, $db,
		"\\set ON_ERROR_STOP off\nSET prebuild.lock_linger = 0;\nSET prebuild.metadata_insert_missing = on;\nSET prebuild.attach_timeout = '200ms';\n$script");

	finish_session($session);
	return $session->{output};
}

my @kinds = ('error', 'error+', 'cancel', 'lock_timeout', 'lock_timeout+', 'deadlock', 'internal', 'exit', 'kill');
foreach my $attached ($every ? (1, 0) : 1)
{
	$node->safe_psql($db, $attached ? 'SELECT prebuild_attach(), prebuild_rebuild()' : 'SELECT prebuild_detach()');
	%undisturbed = ();
	$undisturbed{nothing} = (results_of(say_all("CALL saved.restore();\n" . join('', map { pass_at($_) . ";\n" } 1, 2) . $show)))[0]{state};
	unlike($undisturbed{nothing}, qr/^\|(?:wrong|lock)/m, 'the kept pool is right, and nothing holds a lock');
	cmp_ok(undisturbed('pass')->{statements}, '>', 50, 'a pass has ' . undisturbed('pass')->{statements} . ' statements');
	fails('pass', 'error', 1);
	my $offset = 0;
	fails('pass', $_, $every ? 1 : $_ eq 'kill' ? 60 : 20, $offset += 7) foreach @kinds[1 .. $#kinds];
	foreach my $call ((grep { !/^(?:pass|attach|detach)$/ } sort keys %call), 'attach', 'detach')
	{
		fails($call, $_, $every ? 1 : 4, $offset++) foreach $every ? @kinds : 'error';
	}
}
note("$faults faults");

$node->stop;
done_testing();
