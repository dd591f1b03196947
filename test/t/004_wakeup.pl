# What a listening provisioner gets: for each kind of job as many messages as there are jobs or live
# daemons that could run them, at commit, or none.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('wakeup');
my $db = new_control_plane($node, 'fleet');
my $listener = $node->background_psql($db);
$listener->query_safe('LISTEN provisioner_job_posted');

# The payloads that arrived since the last call; psql shows them after its next statements.
sub messages
{
	my $shown = join("\n", map { $listener->query_safe('SELECT pg_sleep(0.1)') } 1 .. 2);
	return $shown =~
	  /notification "provisioner_job_posted" with payload "(.*)" received from server/g;
}

# The same as "organization type tags", in a fixed order; dies where it is not JSON, and shows every
# field that is not expected. The id that makes a message another one must be that of a pending job
# of its kind.
sub readable
{
	my $payloads = join(', ', @_);

	$payloads =~ s/'/''/g;
	return [
		sort split /\n/, $node->safe_psql($db, qq{
			SELECT concat_ws(' ', o.name, m->>'type', m->'tags',
				nullif((m - ARRAY['organization_id', 'type', 'tags', 'job_id'])::text, '{}'),
				CASE WHEN j.id IS NULL THEN 'of no such job' END)
			FROM jsonb_array_elements('[$payloads]') m
			LEFT JOIN organizations o ON o.id = (m->>'organization_id')::uuid
			LEFT JOIN provisioner_jobs j ON j.id = (m->>'job_id')::uuid AND j.job_status = 'pending'
				AND j.organization_id = o.id AND j.provisioner::text = m->>'type' AND j.tags = m->'tags'})
	];
}

# The same, counted: "3 organization type tags".
sub counted
{
	my %count;

	$count{$_}++ for @{ readable(@_) };
	return [ sort map { "$count{$_} $_" } keys %count ];
}

$node->safe_psql($db, q{
	SELECT fixture.template('one', 'first'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, 2) FROM generate_series(1, 3) n;
	SELECT fixture.simple('same tags', 1, org => 'first', preset_name => 'p');
	SELECT fixture.simple('gpu', 4, org => 'first', preset_name => 'p');
	INSERT INTO template_version_workspace_tags VALUES (fixture.v('gpu-v1'), 'gpu', '"it''s \"fast\""');
	SELECT fixture.simple('elsewhere', 1, org => 'second', preset_name => 'p');
});
my $plain = '{"owner": "", "scope": "organization"}';
my $gpu = '{"gpu": "it\'s \"fast\"", "owner": "", "scope": "organization"}';

my $session = $node->background_psql($db);
is(answer($session, 'BEGIN; SELECT created FROM prebuild_reconcile()'),
	'12', 'a pass in a transaction');
is_deeply([ messages() ], [], 'wakes nobody before the commit');
$session->query_safe('ROLLBACK');
is_deeply([ messages() ], [], 'and nobody after a rollback');

is(answer($session, 'BEGIN; SELECT created FROM prebuild_reconcile()'), '12', 'once more');
$session->query_safe('COMMIT');
$session->quit;
is_deeply(
	readable(messages()),
	[ sort "first terraform $gpu", "first terraform $plain", "second terraform $plain" ],
	'the commit brings one message for each organization, type and set of tags');
is( $node->safe_psql($db, 'SELECT string_agg(DISTINCT tags::text, $$ $$ ORDER BY tags::text) FROM provisioner_jobs WHERE type = $$workspace_build$$'),
	"$gpu $plain", 'whose tags are those of the jobs');

$node->safe_psql($db, 'SELECT prebuild_reconcile()');
is_deeply([ messages() ], [], 'a pass that does nothing wakes nobody');

# deleting makes jobs too
$node->safe_psql($db, q{SELECT fixture.finish_jobs();
	UPDATE template_version_presets SET desired_instances = 0 WHERE id IN (
		SELECT preset_id FROM prebuild_state() WHERE template_name = 'gpu')});
is($node->safe_psql($db, 'SELECT deleted FROM prebuild_reconcile()'), 4, 'four are deleted');
is_deeply(readable(messages()), ["first terraform $gpu"], 'and their provisioners are woken');
$node->safe_psql($db, 'SELECT fixture.finish_jobs()');

# a payload that NOTIFY cannot carry; the others are not concerned
$node->safe_psql($db, q{
	SELECT fixture.simple('huge', 3, org => 'first', preset_name => 'p');
	INSERT INTO template_version_workspace_tags
	VALUES (fixture.v('huge-v1'), 'huge', '"' || repeat('x', 8000) || '"');
	UPDATE template_version_presets SET desired_instances = 3
	WHERE id IN (SELECT preset_id FROM prebuild_state() WHERE template_name = 'elsewhere');
});
my ($status, $out, $err) = $node->psql($db, 'SELECT created, failed FROM prebuild_reconcile()');
is($out, '5|0', 'a pass with a wake-up that is too long goes on');
like($err, qr/^psql.*WARNING:.*provisioner_job_posted/m, 'with a warning');
unlike($err, qr/ERROR/, 'and no error');
is_deeply(readable(messages()), ["second terraform $plain"], 'the other wake-up is sent');
is( $node->safe_psql($db, q{SELECT count(*) FROM provisioner_jobs
		WHERE job_status = 'pending' AND length(tags->>'huge') = 8000}),
	3, 'the jobs of the other are there to be polled');

# The longest payload that fits has 7,999 bytes. How many a tag adds is seen from a short one.
sub pass_with_tag
{
	my ($length) = @_;

	$node->safe_psql($db, qq{
		SELECT fixture.finish_jobs();
		DELETE FROM workspaces WHERE template_id = (SELECT id FROM templates WHERE name = 'huge');
		UPDATE template_version_workspace_tags SET value = '"' || repeat('y', $length) || '"'
		WHERE key = 'huge'});
	($status, $out, $err) = $node->psql($db, 'SELECT created FROM prebuild_reconcile()');
	is($out, '3', "a tag of $length bytes: prebuilds are created");
	return messages();
}
my ($short) = pass_with_tag(10);
my ($longest) = pass_with_tag(7999 - length($short) + 10);
is(length($longest // ''), 7999, 'a payload of 7999 bytes is sent');
is($err, '', 'without a warning');
is_deeply([ pass_with_tag(7999 - length($short) + 11) ], [], 'one of 8000 is not');
like($err, qr/WARNING:.*provisioner_job_posted/, 'but warned of');

$node->safe_psql($db, q{SELECT fixture.finish_jobs(); UPDATE template_version_presets SET desired_instances = NULL});

# Daemons of several kinds, of which coderd wakes one kind a message.
$node->safe_psql($db, q{
	CREATE FUNCTION fixture.daemons(n int, org text, tags jsonb, seen interval DEFAULT '5 s',
		provisioners text DEFAULT '{terraform}') RETURNS void LANGUAGE sql AS $$
		SELECT fixture.daemon(gen_random_uuid()::text, org, provisioners, tags, now() - seen)
		FROM generate_series(1, n)
	$$;
	SELECT fixture.daemons(2, 'first', '{"owner": "", "scope": "organization"}'),
		-- none of these takes a job without tags of its own
		fixture.daemons(7, 'second', '{"owner": "", "scope": "organization"}'),
		fixture.daemons(1, 'first', '{"owner": "", "scope": "organization"}', '91 s'),
		fixture.daemons(1, 'first', '{"owner": "", "scope": "organization"}', provisioners => '{echo}'),
		fixture.daemons(1, 'first', '{"owner": "", "scope": "organization", "cluster": "a"}'),
		fixture.daemons(1, 'first', '{"owner": "ada", "scope": "user"}'),
		-- and these take the one with a tag, beside one of an old sight
		fixture.daemons(3, 'first', '{"owner": "", "scope": "organization", "gpu": "it''s \\"fast\\""}'),
		fixture.daemons(1, 'first', '{"owner": "", "scope": "organization", "gpu": "it''s \\"fast\\"", "size": "big"}',
			provisioners => '{echo,terraform}'),
		fixture.daemons(1, 'first', '{"owner": "", "scope": "organization", "gpu": "it''s \\"fast\\""}', '1 day'),
		fixture.daemons(1, 'first', '{"owner": "", "scope": "organization", "gpu": "slow"}');
	CREATE FUNCTION fixture.want(template text, n int) RETURNS void LANGUAGE sql SET search_path = public AS $$
		UPDATE template_version_presets p SET desired_instances = n
		FROM template_versions v JOIN templates t ON t.id = v.template_id
		WHERE v.id = p.template_version_id AND t.name = template
	$$;
});
sub jobs_wake
{
	my ($wanted, $created, $messages, $what) = @_;
	my @wanted = map { "fixture.want('$_', $wanted->{$_})" } sort keys %$wanted;

	$node->safe_psql($db, 'SELECT ' . join(', ', @wanted));
	is($node->safe_psql($db, 'SELECT created, deleted FROM prebuild_reconcile()'), $created, "$what: a pass");
	is_deeply(counted(messages()), [ sort @$messages ], "$what: the messages");
	$node->safe_psql($db, q{SELECT fixture.finish_jobs(); DELETE FROM workspaces;
		UPDATE template_version_presets SET desired_instances = NULL});
	return;
}
$node->safe_psql($db, 'DELETE FROM workspaces');
jobs_wake({ 'same tags' => 20, gpu => 6, elsewhere => 5 }, '31|0',
	[ "2 first terraform $plain", "4 first terraform $gpu", "5 second terraform $plain" ],
	'as many messages as daemons, or as jobs, of each kind');
jobs_wake({ 'same tags' => 1, gpu => 3, elsewhere => 12 }, '16|0',
	[ "1 first terraform $plain", "3 first terraform $gpu", "7 second terraform $plain" ],
	'and the other way round');
jobs_wake({ elsewhere => 2000 }, '2000|0', ["7 second terraform $plain"], 'many jobs are no reason for more');
$node->safe_psql($db, 'DELETE FROM provisioner_daemons WHERE organization_id = (SELECT id FROM organizations WHERE name = $$second$$)');
jobs_wake({ elsewhere => 3 }, '3|0', ["1 second terraform $plain"], 'no daemon at all: one message');

# deletes and creates of a kind go together
$node->safe_psql($db, q{SELECT fixture.daemons(5, 'second', '{"owner": "", "scope": "organization"}')});
$node->safe_psql($db, q{SELECT fixture.want('elsewhere', 2);
	SELECT fixture.simple('next door', 0, org => 'second', preset_name => 'p')});
$node->safe_psql($db, 'SELECT prebuild_reconcile()');
$node->safe_psql($db, 'SELECT fixture.finish_jobs()');
messages();
jobs_wake({ elsewhere => 0, 'next door' => 2 }, '2|2', ["4 second terraform $plain"],
	'two deletes and two creates');

# a preset that fails: the others are woken for as if it were not there
$node->safe_psql($db, q{
	CREATE FUNCTION fixture.refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN RAISE 'not this one'; END$$;
	SELECT fixture.simple('template ' || n, 0, org => 'second', preset_name => 'p') FROM generate_series(1, 5) n;
	DO $$BEGIN
		EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT ON workspaces FOR EACH ROW
			WHEN (NEW.template_id = %L) EXECUTE FUNCTION fixture.refuse()',
			(SELECT id FROM templates WHERE name = 'template 3'));
	END$$;
});
jobs_wake({ map { ("template $_" => 1) } 1 .. 5 }, '4|0', ["4 second terraform $plain"],
	'one of five presets fails');
jobs_wake({ map { ("template $_" => 3) } 1 .. 5 }, '12|0', ["5 second terraform $plain"],
	'with more jobs than daemons');
$node->safe_psql($db, 'DROP TRIGGER refuse ON workspaces');

# two passes in a transaction are two passes
$node->safe_psql($db, q{BEGIN; SELECT fixture.want('elsewhere', 1); SELECT prebuild_reconcile();
	SELECT fixture.want('elsewhere', 3); SELECT prebuild_reconcile(); COMMIT});
is_deeply(counted(messages()), ["3 second terraform $plain"], 'two passes in one transaction');

# who may not read the daemons can still create
$node->safe_psql($db, q{
	CREATE ROLE blind;
	SELECT prebuild_grant('blind');
	GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO blind;
	REVOKE ALL ON provisioner_daemons FROM blind;
	SELECT fixture.want('elsewhere', 5);
});
($status, $out, $err) = $node->psql($db, 'SET ROLE blind; SELECT created FROM prebuild_reconcile()');
is($out, '2', 'a pass that may not read the daemons');
like($err, qr/WARNING:  could not wake the provisioners: permission denied for table provisioner_daemons/,
	'says that nobody was woken');
is_deeply([ messages() ], [], 'which is true');

$listener->quit;
$node->stop;
done_testing();
