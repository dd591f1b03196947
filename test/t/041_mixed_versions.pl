# A library and a script of different releases, the worker included: right answers or an error that
# names the fault, never a crash. An upgrade under use keeps all data, and everything goes on.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use ReleaseTest;
use FindBin;
use Test::More;

# Release 0.1 looks its database up in a commit, after the transaction. Today's looks it up before
# (worker_slot_here()).
plan skip_all => 'the library of release 0.1 fails an assertion of this server'
  if `pg_config --configure` =~ /--enable-cassert/;

my $tree = server_tree();
my $node = node_of_tree('mixed', $tree);
my $database;

sub sql { return $node->safe_psql($database, $_[0]); }

# Have the server run with a library from now on.
sub restart_with
{
	my ($library) = @_;

	install_library($tree, $library);
	$node->restart;
	return;
}

# Nothing has crashed and no error was an internal one since the log was so long.
sub log_is_clean
{
	my ($from, $what) = @_;
	my $log = substr slurp_file($node->logfile), $from;
	my @bad = grep { /terminated by signal|PANIC|TRAP| XX\d\d\d |exited with exit code [2-9]/ } split /\n/, $log;

	is(join("\n", @bad), '', "$what: nothing crashed, no internal error");
	return;
}

# Let the worker run passes until it has run one, or says why not. With a library that fits it does.
sub worker_serves
{
	my ($what, $must) = @_;
	my $from = -s $node->logfile;
	my ($passes, $error) = ('', '');
	my $before = sql('SELECT coalesce(sum(passes), 0) FROM prebuild_pass_stats');

	sql(q{ALTER SYSTEM SET prebuild.reconcile_interval = '1s'});
	$node->reload;
	for (1 .. 1800)
	{
		my ($status, $output) = $node->psql($database,
			"SELECT passes - $before FROM prebuild_pass_stats WHERE passes > $before");
		$passes = $output if $status == 0;
		($error) = substr(slurp_file($node->logfile), $from) =~ /(prebuild (?:pass )?worker \w+ ERROR: .*)/;
		last if $passes || $error;
		select undef, undef, undef, 0.1;
	}
	sql(q{ALTER SYSTEM RESET prebuild.reconcile_interval});
	$node->reload;
	if ($must)
	{
		ok($passes, "$what: the worker runs passes") or diag($error // 'no error');
	}
	else
	{
		ok($passes || $error, "$what: the worker runs passes, or says why not: " . ($error // ''));
	}
	return;
}

# A report of metadata comes into the table, at once or by the worker, or is refused by name.
sub metadata_is_written
{
	my ($what, $must) = @_;
	my $agent = sql('SELECT workspace_agent_id FROM workspace_agent_metadata ORDER BY 1 LIMIT 1');
	my $value = "as $what";
	my ($status, $output, $error) = $node->psql($database, qq{
		SELECT * FROM prebuild_agent_metadata_report('$agent', '{cpu}', '{"$value"}');
		SELECT prebuild_agent_metadata_flush()}, on_error_stop => 1);

	if ($status == 0)
	{
		is(sql("SELECT value FROM workspace_agent_metadata WHERE workspace_agent_id = '$agent' AND key = 'cpu'"),
			$value, "$what: metadata is written");
	}
	else
	{
		ok(!$must && $error =~ /could not find function|prebuild_ext/, "$what: metadata is refused: $error");
	}
	return;
}

# Ask everything, and compare with what was said in an earlier phase.
sub answers_are
{
	my ($phase, $wanted, $errors) = @_;

	cmp_ok(sql("SELECT mixed.ask('$phase')"), '>', 30, "$phase: everything answers");
	is(sql("SELECT mixed.wrong('$wanted', '$phase', $errors)"), '', "$phase: rightly or by an error that is named");
	return;
}

# Everything in the extension's own tables except the stored pool.
my $own_rows = q{SELECT to_jsonb(e) - 'id' FROM prebuild_event e UNION ALL SELECT to_jsonb(r) FROM prebuild_replacement r
	UNION ALL SELECT jsonb_build_object('kind', kind, 'preset_id', preset_id) FROM prebuild_mark ORDER BY 1};

$node->init;
foreach my $version (releases())
{
	my $old = release_library($version);
	my $new = new_library();
	my $from;

	$database = 'plane_' . $version =~ s/\W/_/r;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'prebuild_ext'
		prebuild.databases = '$database'
		prebuild.worker_role = 'postgres'
		timezone = 'UTC'
		log_line_prefix = '%b %e '");
	install_library($tree, $old);
	$node->start;

	# old and old: what is right
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	sql("CREATE EXTENSION prebuild_ext SCHEMA public VERSION '$version'; SELECT prebuild_create_control_plane()");
	load_fixture($node, $database);
	sql(slurp_file("$FindBin::Bin/mixed.sql"));
	sql('SELECT mixed.fleet(); SELECT prebuild_attach(true, true)');
	sql('SELECT prebuild_reconcile()');
	sql('SELECT fixture.finish_jobs()');
	sql('SELECT mixed.claim()');
	sql('SELECT prebuild_reconcile()');
	sql('SELECT fixture.finish_jobs()');
	worker_serves("$version", 1);
	metadata_is_written("$version", 1);
	cmp_ok(sql("SELECT mixed.ask('old')"), '>', 30, "$version: everything answers");
	is(sql(q{SELECT jsonb_array_length(answer) FROM mixed.answers WHERE name = 'prebuild_pool'}), 7, "$version: the fleet runs");
	my $rows = sql($own_rows);
	like($rows, qr/resource_replaced.*validation_failed|validation_failed.*resource_replaced/s, 'it has events and marks');
	sql('SELECT prebuild_fold()');

	# the files are installed and the server goes on with the old library: an upgrade is done, or is not
	install_library($tree, $new);
	$from = -s $node->logfile;
	$node->safe_psql('postgres', 'CREATE DATABASE early');
	$node->safe_psql('early', "CREATE EXTENSION prebuild_ext VERSION '$version'");
	my ($status, undef, $error) = $node->psql('early', 'ALTER EXTENSION prebuild_ext UPDATE');
	ok($status == 0 || $error =~ /could not find function/, "$version: an upgrade before the restart: " . ($error || 'done'));
	is($node->safe_psql('early', q{SELECT extversion FROM pg_extension WHERE extname = 'prebuild_ext'}),
		$version, 'is undone where the library lacks something') if $status != 0;
	# with data, too: the worker, the triggers and the kept pool go on as before
	($status, undef, $error) = $node->psql($database, 'ALTER EXTENSION prebuild_ext UPDATE');
	if ($status != 0)
	{
		like($error, qr/could not find function/, "$version, with data: the upgrade is refused");
		is(sql(q{SELECT extversion FROM pg_extension WHERE extname = 'prebuild_ext'}), $version, 'and undone');
		answers_are('after a try', 'old', 'false');
		sql('SELECT mixed.write()');
		is(sql('SELECT * FROM prebuild_verify()'), '', 'the kept pool is right');
		worker_serves("$version, after a try", 1);
	}
	log_is_clean($from, "$version: an upgrade before the restart");
	$node->safe_psql('postgres', 'DROP DATABASE early');
	$node->restart;

	# new library, old script
	$from = -s $node->logfile;
	answers_are('new library, old script', 'old', 'true');
	is(sql(q{
		BEGIN;
		SELECT mixed.ill();
		SET LOCAL prebuild.unready_grace = '10min';
		SET LOCAL prebuild.disconnected_grace = '5min';
		SET LOCAL prebuild.failed_retention = '1h';
		SET LOCAL prebuild.delete_retries = 1;
		SET LOCAL prebuild.hard_limit_retry = '30min';
		SET LOCAL prebuild.require_provisioner = on;
		SET LOCAL prebuild.max_unavailable = 0;
		SELECT deleted, failed FROM prebuild_reconcile();
		SELECT prebuild_status FROM template_version_presets WHERE name = 'probed';
		ROLLBACK}) =~ s/^\n+//r, "6|0\nhealthy", 'new library, old script: sick pools are kept without a memory of failures');
	sql('SELECT mixed.write()');
	sql('SELECT prebuild_fold()');
	is(sql('SELECT * FROM prebuild_verify()'), '', 'the kept pool is right');
	worker_serves('new library, old script', 1);
	metadata_is_written('new library, old script', 1);
	log_is_clean($from, 'new library, old script');

	# upgraded, attached and with all that was kept
	$from = -s $node->logfile;
	sql('ALTER EXTENSION prebuild_ext UPDATE');
	my %now = map { $_ => 1 } split /\n/, sql($own_rows);
	is(join("\n", grep { !$now{$_} } split /\n/, $rows), '', 'upgraded: events, marks and counts are kept');
	# the triggers are those of before; a fold of the tables' owner mends them
	answers_are('just upgraded', 'old', 'true');
	sql('SELECT prebuild_fold()');
	answers_are('upgraded', 'old', 'false');
	is(sql(q{SELECT status FROM prebuild_health() WHERE name = 'versions'}), 'ok', 'upgraded: the versions fit');
	sql('SELECT mixed.write()');
	sql('SELECT prebuild_reconcile()');
	my ($code, $differences, $notices) = $node->psql($database, 'SELECT * FROM prebuild_verify()');
	is("$code$differences$notices", '0', 'upgraded: the kept pool is in use and right');
	worker_serves('upgraded', 1);
	metadata_is_written('upgraded', 1);

	# dumped and restored it says the same, and its dump is the same
	my $folder = PostgreSQL::Test::Utils::tempdir;
	$node->command_ok([ 'pg_dump', '-f', "$folder/dump", $database ], 'upgraded: it is dumped');
	$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
	$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', "$folder/dump", '-d', 'copy' ], 'and restored');
	$node->command_ok([ 'pg_dump', '-f', "$folder/again", 'copy' ], 'and dumped again');
	my ($first, $second) = map { join "\n", sort split /\n/, s/^\\(un)?restrict .*$//mgr }
	  slurp_file("$folder/dump"), slurp_file("$folder/again");
	is($second, $first, 'to the same text');
	is($node->safe_psql('copy', $own_rows), sql($own_rows), 'events, marks and counts are restored');
	$node->safe_psql('copy', q{SELECT mixed.ask('restored')});
	is($node->safe_psql('copy', q{SELECT mixed.wrong('upgraded', 'restored', false)}), '', 'restored: everything answers rightly');
	is($node->safe_psql('copy', 'SELECT paused, created, deleted, failed FROM prebuild_reconcile()'), 'f|0|0|0',
		'and passes go on');
	is(join('', $node->psql('copy', 'SELECT * FROM prebuild_verify()')), '0', 'which keep the pool again');
	$node->safe_psql('postgres', 'DROP DATABASE copy');
	sql('SELECT prebuild_detach(); SELECT prebuild_attach()');
	is(sql('SELECT * FROM prebuild_verify()'), '', 'upgraded: it is detached and attached');
	log_is_clean($from, 'upgraded');

	# old library, new script: somebody has installed the old one again, or never restarted
	restart_with($old);
	$from = -s $node->logfile;
	answers_are('old library, new script', 'upgraded', 'true');
	is(sql(q{SELECT name, status FROM prebuild_health() WHERE status <> 'ok'}), 'versions|fail',
		'old library, new script: prebuild_health() says so') if $version eq '0.1';
	sql('SELECT mixed.write()');
	worker_serves('old library, new script', 0);
	metadata_is_written('old library, new script', 0);
	log_is_clean($from, 'old library, new script');

	# and all is well with the new one
	restart_with($new);
	$from = -s $node->logfile;
	answers_are('at last', 'upgraded', 'false');
	sql('SELECT prebuild_reconcile()');
	is(sql('SELECT * FROM prebuild_verify()'), '', 'at last: the kept pool is right');
	worker_serves('at last', 1);
	log_is_clean($from, 'at last');
	$node->stop;
}

done_testing();
