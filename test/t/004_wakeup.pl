# What a listening provisioner gets: one message for each kind of job, at commit, or none.
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
# field that is not expected.
sub readable
{
	return [
		sort map {
			my $payload = $_;
			$payload =~ s/'/''/g;
			$node->safe_psql($db, qq{
				SELECT concat_ws(' ', o.name, m->>'type', m->'tags',
					nullif((m - ARRAY['organization_id', 'type', 'tags'])::text, '{}'))
				FROM (SELECT '$payload'::jsonb) AS message (m)
				JOIN organizations o ON o.id = (m->>'organization_id')::uuid})
		} @_
	];
}

$node->safe_psql($db, q{
	SELECT fixture.preset(v, 'p' || n, 2) FROM fixture.template('one') v, generate_series(1, 3) n;
	SELECT fixture.preset(fixture.template('same tags'), 'p', 1);
	WITH version AS (SELECT fixture.template('gpu') AS id),
	tags AS (INSERT INTO template_version_workspace_tags
		SELECT id, 'gpu', '"it''s \"fast\""' FROM version)
	SELECT fixture.preset(id, 'p', 4) FROM version;
	SELECT fixture.preset(fixture.template('elsewhere', 'second'), 'p', 1);
	-- in the other flow, and without Terraform's values, a version has no tags of its own
	ALTER TABLE templates ALTER use_classic_parameter_flow SET DEFAULT true;
	UPDATE templates SET use_classic_parameter_flow = true;
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
$node->safe_psql($db, q{SELECT fixture.work();
	UPDATE template_version_presets SET desired_instances = 0 WHERE id IN (
		SELECT preset_id FROM prebuild_state() WHERE template_name = 'gpu')});
is($node->safe_psql($db, 'SELECT deleted FROM prebuild_reconcile()'), 4, 'four are deleted');
is_deeply(readable(messages()), ["first terraform $gpu"], 'and their provisioners are woken');
$node->safe_psql($db, 'SELECT fixture.work()');

# a payload that NOTIFY cannot carry; the others are not concerned
$node->safe_psql($db, q{
	WITH version AS (SELECT fixture.template('huge') AS id),
	tags AS (INSERT INTO template_version_workspace_tags
		SELECT id, 'huge', '"' || repeat('x', 8000) || '"' FROM version)
	SELECT fixture.preset(id, 'p', 3) FROM version;
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
		SELECT fixture.work();
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

$listener->quit;
$node->stop;
done_testing();
