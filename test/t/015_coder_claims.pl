# The claim statement of each release of Coder, taken from the release's own files, by two sessions at
# once on the release's own schema: without the guard one prebuild goes to two people, and one that a
# pass is deleting to somebody; with prebuild_attach(guard_claims => true) neither.
#
# The environment variable PREBUILD_CODER_DATABASE names a folder with a subfolder for each release
# (v2.24.0 and so on), laid out as Coder's coderd/database: dump.sql, queries/prebuilds.sql.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

plan skip_all => 'PREBUILD_CODER_DATABASE does not name a folder with releases of Coder'
  unless $ENV{PREBUILD_CODER_DATABASE};
my @releases = coder_releases();
ok(@releases > 0, "there are releases in $ENV{PREBUILD_CODER_DATABASE}");

my $node = new_server('coder_claims', 'fsync = off');
my ($db, $template);

# The release's claim of a prebuild of the preset "p", for a user and under a name.
sub claim
{
	my ($login, $name) = @_;
	my %arguments = (
		new_user_id => "(SELECT id FROM users WHERE username = '$login')",
		new_name => "'$name'",
		preset_id => "(SELECT id FROM template_version_presets WHERE name = 'p')",
		now => 'now()',
		autostart_schedule => 'NULL',
		next_start_at => 'NULL',
		workspace_ttl => 'NULL');
	my $statement = $template;

	$statement =~ s/\@([a-z_]+)/$arguments{$1} or die "unknown argument $1"/ge;
	return $statement;
}

# Ben's claim while another session has an open transaction; what he gets when it ends.
sub claim_meanwhile
{
	my ($other, $name) = @_;
	my $ben = start_session($node, $db, "SET application_name = 'ben';\n" . claim('ben', $name));

	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE application_name = 'ben' AND wait_event_type = 'Lock'});
	$other->query_safe('COMMIT');
	finish_session($ben) or die "a claim failed: $ben->{output}";
	return $ben->{output};
}

# Both claim at once; what Ada and Ben get: "id|name", or nothing.
sub race
{
	my ($name) = @_;
	my $ada = $node->background_psql($db);

	$ada->query_safe('BEGIN');
	my $first = answer($ada, claim('ada', "ada-$name"));
	my $second = claim_meanwhile($ada, "ben-$name");
	$ada->quit;
	return ($first, $second);
}

# Ben claims while a pass deletes all prebuilds; what he gets.
sub race_with_pass
{
	my ($name) = @_;
	my $pass = $node->background_psql($db);

	$pass->query_safe('BEGIN');
	$pass->query_safe('UPDATE template_version_presets SET desired_instances = 0');
	$pass->query_safe('SELECT prebuild_reconcile()');
	my $got = claim_meanwhile($pass, "ben-$name");
	$pass->quit;
	return $got;
}

# Have this many prebuilds ready.
sub fill_pool
{
	my ($n) = @_;

	$node->safe_psql($db, "UPDATE template_version_presets SET desired_instances = $n");
	$node->safe_psql($db, $_)
	  foreach ('SELECT fixture.finish_jobs()', 'SELECT prebuild_reconcile()', 'SELECT fixture.finish_jobs()');
	die 'the pool was not filled' if $node->safe_psql($db, 'SELECT eligible FROM prebuild_state()') != $n;
	return;
}

# Of the workspace of this name: the owner, and the transitions of its builds.
sub fate
{
	my ($name) = @_;

	return $node->safe_psql($db, qq{
		SELECT u.username, (SELECT string_agg(b.transition::text, ' ' ORDER BY b.build_number)
			FROM workspace_builds b WHERE b.workspace_id = w.id)
		FROM workspaces w JOIN users u ON u.id = w.owner_id WHERE w.name = '$name'});
}

# Like coderd's own reconciler: a delete build added in REPEATABLE READ, without a lock.
my $look = 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM workspaces';
my $delete = q{
	WITH last AS (
		SELECT b.*, j.organization_id, j.file_id, j.tags, gen_random_uuid() AS new_job
		FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
		WHERE b.workspace_id = '%s' ORDER BY b.build_number DESC LIMIT 1
	), job AS (
		INSERT INTO provisioner_jobs (id, created_at, updated_at, organization_id, initiator_id,
			provisioner, storage_method, type, input, file_id, tags)
		SELECT new_job, now(), now(), organization_id, initiator_id, 'terraform', 'file',
			'workspace_build', '{}', file_id, tags FROM last RETURNING id
	)
	INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
		build_number, transition, initiator_id, job_id)
	SELECT gen_random_uuid(), now(), now(), workspace_id, template_version_id, build_number + 1,
		'delete', initiator_id, job.id
	FROM last, job
};

foreach my $release (@releases)
{
	(my $database = $release) =~ s/\W/_/g;
	$db = new_coder_control_plane($node, $database, $release);
	my $queries = slurp_file("$ENV{PREBUILD_CODER_DATABASE}/$release/queries/prebuilds.sql");
	($template) = $queries =~ /^-- name: ClaimPrebuiltWorkspace :one\n(.*?);/ms
	  or die "no claim statement in $release";
	$node->safe_psql($db, q{
		SELECT fixture.simple('one', 0, preset_name => 'p');
		SELECT fixture.usr('ada'), fixture.usr('ben');
	});

	# without the guard
	fill_pool(2);
	my ($first, $second) = race('bare');
	like($first, qr/\|ada-bare$/, "$release: Ada gets a prebuild");
	is($second, $first =~ s/ada/ben/r, "$release: without the guard Ben gets the same one");
	is(fate('ada-bare') . fate('ben-bare'), 'ben|start', "$release: it is Ben's");
	fill_pool(2);
	like(race_with_pass('doomed'), qr/\|ben-doomed$/,
		"$release: without the guard Ben gets one that a pass deletes");
	is(fate('ben-doomed'), 'ben|start delete', "$release: it is being deleted");

	# with it
	$node->safe_psql($db, 'SELECT prebuild_attach(guard_claims => true)');
	fill_pool(2);
	($first, $second) = race('guarded');
	like($first, qr/\|ada-guarded$/, "$release: guarded, Ada gets a prebuild");
	is($second, '', "$release: and Ben nothing");
	is(fate('ada-guarded'), 'ada|start', "$release: it stays Ada's");
	like($node->safe_psql($db, claim('ben', 'ben-guarded')), qr/\|ben-guarded$/,
		"$release: when Ben asks again, he gets the other one");
	is($node->safe_psql($db, claim('ben', 'ben-more')), '', "$release: and then there is none");
	fill_pool(2);
	is(race_with_pass('spared'), '', "$release: guarded, nobody gets what a pass deletes");

	# a builder that locks nothing, as coderd's own
	fill_pool(1);
	my $id = $node->safe_psql($db, 'SELECT id FROM prebuild_running()');
	my $builder = $node->background_psql($db, on_error_stop => 0);
	$builder->query_safe($look);
	$builder->query_safe(sprintf($delete, $id));
	is($node->safe_psql($db, claim('ben', 'ben-early')), '',
		"$release: guarded, nobody gets what is about to be deleted");
	$builder->query_safe('ROLLBACK');
	$builder->query_safe($look);
	like($node->safe_psql($db, claim('ben', 'ben-late')), qr/^$id\|/, "$release: Ben was first");
	$builder->query(sprintf($delete, $id));
	like($builder->{stderr}, qr/could not serialize access due to concurrent update/,
		"$release: and who wants to delete it fails");
	$builder->quit;
	is(fate('ben-late'), 'ben|start', "$release: it stays Ben's");
}

like(slurp_file($node->logfile),
	qr/LOG:  prebuilt workspace [0-9a-f-]{36} was not given away\n.*DETAIL:  Its owner has changed/,
	'the log has what was refused');
$node->stop;
done_testing();
