# On an attached control plane the worker runs a pass within a second of what calls for one, long
# before the next one is due.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('wake', "shared_preload_libraries = 'prebuild_ext'", "prebuild.databases = 'plane'",
	"prebuild.worker_role = 'postgres'", "prebuild.reconcile_interval = '1h'", 'max_prepared_transactions = 5');
new_metadata($node, 'plane');
worker_is($node, 'plane', 'serving');

sub sql { return $node->safe_psql('plane', $_[0]); }
sub passes { return sql(q{SELECT passes FROM prebuild_worker_status WHERE lane = 'passes'}); }

# Wait until no pass is under way or asked for: one that is begins when a second has passed since the last one,
# and on a busy machine a little later.
sub settle
{
	my $before = -1;

	while (1)
	{
		my $began = time;
		my $now = passes();

		return if $now == $before;
		$before = $now;
		sleep 1.5 + 5 * (time - $began);
	}
	return;
}

# A statement brings a pass (or does not), in how long.
sub brings_pass
{
	my ($statement, $wanted, $name) = @_;

	settle();
	my $before = passes();
	my $start = time;
	sql($statement);
	my $deadline = $start + ($wanted ? 60 : 2);
	sleep 0.05 while passes() == $before && time < $deadline;
	is(passes() > $before ? 1 : 0, $wanted, $name);
	return;
}

wait_until($node, 'plane', q{SELECT passes >= 1 FROM prebuild_worker_status WHERE lane = 'passes'});
sql(q{SELECT fixture.simple('t', 2, preset_name => 'p')});
brings_pass(q{UPDATE template_version_presets SET desired_instances = 3}, 0, 'not attached, nothing brings a pass');

sql('SELECT prebuild_attach()');
brings_pass(q{UPDATE template_version_presets SET desired_instances = 2}, 1, 'a changed preset brings one');
is(sql('SELECT count(*) FROM prebuild_pool()'), 2, 'which fills the pool');
brings_pass(q{UPDATE template_version_presets SET name = name}, 0, 'a change that passes do not look at brings none');
brings_pass(q{BEGIN; UPDATE template_version_presets SET desired_instances = 2; ROLLBACK}, 0, 'nor does one that is rolled back');
brings_pass(q{BEGIN; UPDATE template_version_presets SET desired_instances = 2; PREPARE TRANSACTION 'x'}, 0, 'or only prepared');
sql(q{ROLLBACK PREPARED 'x'});
brings_pass(q{INSERT INTO template_version_preset_prebuild_schedules (preset_id, cron_expression, desired_instances)
	SELECT id, '* * * * *', 2 FROM template_version_presets}, 1, 'a schedule brings one');
brings_pass(q{UPDATE templates SET active_version_id = active_version_id}, 1, 'a promoted version brings one');
brings_pass(q{UPDATE provisioner_jobs SET started_at = now(), completed_at = now() WHERE type = 'workspace_build'}, 1,
	'a finished job brings one');
brings_pass(q{UPDATE workspaces SET owner_id = (SELECT id FROM users WHERE id <> prebuild_system_user() LIMIT 1)
	WHERE id = (SELECT id FROM prebuild_running() LIMIT 1)}, 1, 'a claim brings one');
is(sql('SELECT count(*) FROM prebuild_pool()'), 2, 'which refills the pool');
sql('SELECT fixture.finish_jobs()');
brings_pass(q{SELECT * FROM prebuild_claim((SELECT id FROM template_version_presets),
	(SELECT id FROM users WHERE id <> prebuild_system_user() LIMIT 1), 'mine')}, 1,
	'so does prebuild_claim(), as the first thing that a session does');

sql('SELECT prebuild_detach()');
brings_pass(q{UPDATE template_version_presets SET desired_instances = 3}, 0, 'detached, nothing brings one');
sql(q{SELECT fixture.version('t', 'next', active => false)});
sql(q{SELECT fixture.preset('next', 'next', 1)});
brings_pass(q{SELECT prebuild_stage(fixture.v('next'))}, 1, 'but a staged version');
brings_pass(q{SELECT prebuild_unstage(fixture.v('next'))}, 1, 'and one that is unstaged');

$node->stop;
done_testing();
