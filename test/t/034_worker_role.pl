# While the workers serve, their role is dropped, recreated, or replaced by another role of its name.
# They never go on with a role that no longer exists, and report what is wrong.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('role', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'plane'", "prebuild.worker_role = 'keeper'",
	"prebuild.metadata_flush_interval = '200ms'", "prebuild.fold_interval = '1s'");
new_metadata($node, 'plane');
add_agents($node, 'plane', 1, 10);

sub sql { return $node->safe_psql('plane', $_[0]); }

# Make the role with what it needs, in one go.
sub make_keeper
{
	sql(q{BEGIN; CREATE ROLE keeper LOGIN; SELECT prebuild_grant('keeper');
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO keeper; COMMIT});
	return;
}

make_keeper();
sql('SELECT prebuild_attach(false)');
worker_is($node, 'plane', 'serving');
sql(q{SELECT report(1, 'cpu', 'first')});
wait_until($node, 'plane', q{SELECT value_of(1, 'cpu') = 'first'});

# dropped: the workers cannot serve, and say so; reports go into the table
sql('DROP OWNED BY keeper; DROP ROLE keeper');
wait_until($node, 'plane', q{SELECT bool_and(state = 'unable' AND detail ~ 'role "keeper" does not exist')
	FROM prebuild_worker_status});
pass('workers whose role is dropped say that it does not exist');
sql(q{SELECT report(1, 'cpu', 'second')});
is(value_of($node, 'plane', 1, 'cpu'), 'second', 'reports are written directly');

make_keeper();
worker_is($node, 'plane', 'serving');
sql(q{SELECT report(1, 'cpu', 'third')});
wait_until($node, 'plane', q{SELECT value_of(1, 'cpu') = 'third'});
pass('they serve when it is made again');

# dropped and made again in one go: another role of the same name
my $pids = sql('SELECT array_agg(pid) FROM prebuild_worker_status');
sql(q{BEGIN; DROP OWNED BY keeper; DROP ROLE keeper; CREATE ROLE keeper LOGIN; SELECT prebuild_grant('keeper');
	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO keeper; COMMIT});
wait_until($node, 'plane', qq{SELECT bool_and(w.state = 'serving' AND pid <> ALL ('$pids') AND a.usesysid = 'keeper'::regrole)
	FROM prebuild_worker_status w JOIN pg_stat_activity a USING (pid)});
pass('both serve as a role that took the place of theirs');
my $folds = sql(q{SELECT folds FROM prebuild_worker_status WHERE lane = 'passes'});
sql(q{SELECT report(1, 'cpu', 'fourth')});
wait_until($node, 'plane', q{SELECT value_of(1, 'cpu') = 'fourth'});
wait_until($node, 'plane', qq{SELECT folds > $folds FROM prebuild_worker_status WHERE lane = 'passes'});
pass('and do their work');

$node->stop;
done_testing();
