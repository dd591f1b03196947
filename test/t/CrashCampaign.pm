# Crash a server under load, again and again, and look after each crash whether every promise was kept:
# the views of test/fixture/invariants.sql, workers that serve again, passes that reach the target.
#
#	my $campaign = CrashCampaign->new('name', seed => 1);
#	$campaign->crash($_) foreach CrashCampaign::kinds();
#	$campaign->finish;
#
# With standby => 1 the server has a synchronous standby, which fail_over() promotes when the server
# has crashed in the middle of something.
#
# Each crash() and fail_over() is one test. What clients were told is kept in files, outside the server. The tables that
# the extension writes all the time (the logs of the pool, of demand and of lead times) are in a tablespace of
# their own, whose disk gets full: the folder $PREBUILD_SMALL_DISK, a small file system of its own, or, without
# it, a folder in which a library below the server (full_disk.c) refuses to make files longer.
package CrashCampaign;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $here = dirname(abs_path(__FILE__));
my $db = 'plane';

# the sessions of the load, by the names that their crashes go by
my @load = (
	[ claims => 'CALL load.claims()' ], [ passes => 'CALL load.passes()' ], [ provisioner => 'CALL load.provisioner()' ],
	[ reports => 'CALL load.reports(1, 20)' ], [ versions => 'CALL load.versions()' ], [ people => 'CALL load.people()' ],
	# a standby's server leaves these out, so that the standby keeps up
	[ claims => 'CALL load.claims()' ], [ claims => 'CALL load.claims()' ], [ reports => 'CALL load.reports(21, 40)' ]);

# What crash() takes.
sub kinds { return ('backend', 'metadata worker', 'pass worker', 'postmaster', 'immediate', 'full disk') }

# A server with the control plane, its workers, and the tablespace.
sub new
{
	my ($class, $name, %options) = @_;
	my $self = bless {
		random => $options{seed} // 1,
		crashes => 0,
		slowest => 0,
		disk => $ENV{PREBUILD_SMALL_DISK} // PostgreSQL::Test::Utils::tempdir . '/log',
		told => PostgreSQL::Test::Utils::tempdir }, $class;

	$self->{flag} = "$self->{told}/full";
	unless ($options{standby})
	{
		mkdir $self->{disk};
		$self->preload_full_disk unless $ENV{PREBUILD_SMALL_DISK};
	}
	my $node = $self->{node} = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => $options{standby});
	$node->append_conf('postgresql.conf', join "\n", q{timezone = 'UTC'}, q{fsync = off}, q{max_connections = 40},
		q{restart_after_crash = on}, q{shared_preload_libraries = 'prebuild_ext'}, qq{prebuild.databases = '$db'},
		q{prebuild.worker_role = 'postgres'}, q{prebuild.reconcile_interval = '1s'}, q{prebuild.fold_interval = '1s'},
		q{prebuild.metadata_flush_interval = '200ms'}, q{prebuild.metadata_insert_missing = on},
		q{prebuild.max_surge = '1'}, q{prebuild.max_unavailable = '1'}, q{prebuild.unready_grace = '1h'},
		q{prebuild.failure_hard_limit = 0}, q{prebuild.backoff_interval = 0}, q{prebuild.failed_retention = '1s'},
		q{prebuild.delete_retries = 2}, q{autovacuum_naptime = '1s'}, q{max_standby_streaming_delay = -1}, '');
	$self->start;
	new_control_plane($node, $db);
	$node->safe_psql($db, join ";\n", slurp_file("$here/../fixture/load.sql"), slurp_file("$here/../fixture/invariants.sql"),
		'CALL load.prepare()');
	$self->move_logs unless $options{standby};
	$self->add_standby if $options{standby};
	return $self;
}

# Put what the extension writes all the time into the tablespace.
sub move_logs
{
	my ($self) = @_;

	$self->{node}->safe_psql($db, join ";\n", "CREATE TABLESPACE log LOCATION '$self->{disk}'",
		(map { "ALTER TABLE $_ SET TABLESPACE log" } qw(prebuild_pool_log prebuild_demand_log prebuild_lead_time_log)),
		(map { "ALTER INDEX $_ SET TABLESPACE log" } qw(prebuild_pool_log_xid_idx prebuild_demand_log_pkey
			prebuild_demand_log_preset_idx prebuild_demand_log_at_idx)));
	return;
}

# Give the server a standby that has applied what a client is told of.
sub add_standby
{
	my ($self) = @_;
	my $node = $self->{node};
	my $name = 'standby_' . ++$self->{standbys};
	my $standby = $self->{standby} = PostgreSQL::Test::Cluster->new($name);

	$node->backup($name);
	$standby->init_from_backup($node, $name, has_streaming => 1);
	$standby->start;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nsynchronous_commit = remote_apply\n");
	$node->reload;
	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'});
	# commits wait for it once the checkpointer has looked at the settings, as it does before the second one
	$node->safe_psql($db, 'CHECKPOINT; CHECKPOINT');
	return;
}

# A number from 0 to before $limit, by the seed alone.
sub random
{
	my ($self, $limit) = @_;

	$self->{random} = ($self->{random} * 1103515245 + 12345) % 2**31;
	return $self->{random} / 2**31 * $limit;
}

# Build the library that stands in for a small disk.
sub preload_full_disk
{
	my ($self) = @_;
	my $library = "$self->{told}/full_disk.so";

	system_or_bail($ENV{CC} // 'cc', '-shared', '-fPIC', '-O1', '-o', $library, "$here/full_disk.c", '-ldl');
	$self->{library} = $library;
	return;
}

# Start the server. The processes of one whose postmaster was killed may be there for a moment.
sub start
{
	my ($self) = @_;
	my $tries = 0;

	local $ENV{FULL_DISK_FOLDER} = $self->{disk};
	local $ENV{FULL_DISK_FLAG} = $self->{flag};
	local $ENV{LD_PRELOAD} = join ' ', grep { defined && $_ ne '' } $ENV{LD_PRELOAD}, $self->{library};
	until ($self->{node}->start(fail_ok => 1))
	{
		die 'the server does not start' if ++$tries > 100;
		# what the server that was killed has left in postmaster.pid
		$self->{node}{_pid} = undef;
		sleep 0.1;
	}
	return;
}

# Start the load. The sessions say in which process each is.
sub start_load
{
	my ($self) = @_;
	my @sessions = $self->{standby} ? @load[ 0 .. 5 ] : @load;

	$self->{sessions} = [];
	foreach my $session (@sessions)
	{
		push @{ $self->{sessions} }, start_session($self->{node}, $db, "SET application_name = 'load $session->[0]'; $session->[1];");
	}
	wait_until($self->{node}, $db, 'SELECT count(*) = ' . @sessions . q{ FROM pg_stat_activity
		WHERE application_name LIKE 'load %' AND query LIKE 'CALL%'});
	return;
}

# End what is left of the load, and put what clients were told into the database.
sub stop_load
{
	my ($self) = @_;
	my $lines = '';

	try_query($self->{node}, $db, q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'load %'});
	foreach my $session (@{ $self->{sessions} })
	{
		finish_session($session);
		$lines .= "$session->{output}\n";
	}
	$self->{sessions} = [];
	# the last line may be one half of it
	my @claims = $lines =~ /INFO:  (claimed \S{36} \S{36} \S+)(?=\n)/g;
	my @reports = $lines =~ /INFO:  (flushed \S{36} \S+ \d+)(?=\n)/g;
	my %newest = map { /^flushed (\S+ \S+) (\d+)$/ ? ($1 => $2) : () } @reports;
	$self->{claims} += @claims;
	$self->{reports} += @reports;
	append_to_file("$self->{told}/claims", join '', map { s/^claimed //r =~ tr/ /\t/r . "\n" } @claims);
	append_to_file("$self->{told}/reports", join '', map { "$_ $newest{$_}" =~ tr/ /\t/r . "\n" } sort keys %newest);
	return;
}

# Tell the database what clients were told.
sub load_told
{
	my ($self) = @_;

	wait_for_server($self->{node}, $db);
	$self->{node}->safe_psql($db, qq{TRUNCATE invariant.told_claims, invariant.told_reports;
		COPY invariant.told_claims FROM '$self->{told}/claims';
		COPY invariant.told_reports FROM '$self->{told}/reports'});
	return;
}

# The process of a session of the load or of a worker.
sub process
{
	my ($self, $kind) = @_;
	my @pids = split /\n/, $self->{node}->safe_psql($db, $kind eq 'backend'
		? q{SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'load %' ORDER BY application_name, pid}
		: sprintf q{SELECT pid FROM prebuild_worker_status WHERE lane = '%s'}, $kind eq 'pass worker' ? 'passes' : 'metadata');

	return $pids[ int $self->random(scalar @pids) ];
}

# How often the server's log has a text.
sub logged
{
	my ($self, $text) = @_;

	return scalar(() = slurp_file($self->{node}->logfile) =~ /$text/g);
}

# Let the disk of the tablespace be full until statements have failed of it and some time has passed.
sub fill_disk
{
	my ($self, $seconds) = @_;
	my $known = $self->logged('No space left on device');
	my $until = time + 150;

	if ($self->{library})
	{
		append_to_file($self->{flag}, '');
	}
	else
	{
		# dd fails when the disk is full
		IPC::Run::run([ 'dd', 'if=/dev/zero', "of=$self->{disk}/filling", 'bs=64k' ], '>', '/dev/null', '2>&1');
		IPC::Run::run([ 'dd', 'if=/dev/zero', "of=$self->{disk}/filling2", 'bs=512' ], '>', '/dev/null', '2>&1');
	}
	sleep 0.05 while $self->logged('No space left on device') == $known && time < $until;
	sleep $seconds;
	unlink $self->{flag}, "$self->{disk}/filling", "$self->{disk}/filling2";
	return $self->logged('No space left on device') > $known ? '' : 'no statement found the disk full';
}

# Do to the server what "kind" says. Returns what went wrong with that, or nothing.
sub strike
{
	my ($self, $kind) = @_;
	my $node = $self->{node};
	my $wait = $self->random(0.7);

	if ($kind eq 'full disk')
	{
		my $started = $node->safe_psql($db, 'SELECT pg_postmaster_start_time(), min(backend_start) FROM pg_stat_activity WHERE backend_type ~ $$^(check|wal)$$');
		my $wrong;

		sleep $wait;
		$wrong = $self->fill_disk($self->random(0.5));
		my $now = $node->safe_psql($db, 'SELECT pg_postmaster_start_time(), min(backend_start) FROM pg_stat_activity WHERE backend_type ~ $$^(check|wal)$$');
		return $now eq $started ? $wrong : 'a full disk has crashed the server';
	}
	if ($kind eq 'postmaster')
	{
		sleep $wait;
		$node->kill9;
		$self->start;
	}
	elsif ($kind eq 'immediate')
	{
		sleep $wait;
		$node->stop('immediate');
		$self->start;
	}
	else
	{
		my $pid = $self->process($kind);

		sleep $wait;
		return "there is no $kind" unless $pid && kill 'KILL', $pid;
		# the server takes all its processes down for that
		sleep 0.02 while kill 0, $pid;
	}
	return '';
}

# The seconds until both workers serve.
sub seconds_until_workers_serve
{
	my ($self) = @_;
	my $began = time;

	wait_for_server($self->{node}, $db);
	wait_until($self->{node}, $db, q{SELECT count(*) = 2 FROM prebuild_worker_status WHERE state = 'serving'});
	return time - $began;
}

# What is wrong now, a line each.
sub broken
{
	my ($self, $node) = @_;

	return split /\n/, ($node // $self->{node})->safe_psql($db, q{SET default_transaction_isolation = 'repeatable read';
		SELECT invariant || ': ' || detail FROM invariant.broken});
}

# Let the pools settle. Returns what is wrong with that.
sub settle
{
	my ($self) = @_;
	my $left;

	for (1 .. 40)
	{
		$self->{node}->safe_psql($db, q{SELECT fixture.finish_jobs(clock_timestamp()); SELECT FROM prebuild_reconcile(clock_timestamp())});
		$left = $self->{node}->safe_psql($db, q{SELECT string_agg(format('%s of %s: %s', s.preset_id, s.desired, s.actual - s.expired + s.starting), ', ')
			FROM prebuild_state(clock_timestamp()) s WHERE (s.active OR s.staged) AND s.actual - s.expired + s.starting < s.desired});
		return () if $left eq '';
	}
	return "pools do not reach their targets: $left";
}

# What is wrong after a crash from which the server has come back.
sub wrong_after
{
	my ($self) = @_;
	my @wrong;
	my $seconds = $self->seconds_until_workers_serve;

	push @wrong, sprintf 'the workers needed %.1f s', $seconds if $seconds > 30;
	$self->{slowest} = $seconds if $seconds > $self->{slowest};
	$self->stop_load;
	$self->load_told;
	push @wrong, $self->broken, $self->settle, $self->broken;
	push @wrong, 'the kept pool is not in use: ' . $self->{node}->safe_psql($db, 'SELECT pool_unused FROM prebuild_worker_status')
	  if $self->{node}->safe_psql($db, 'SELECT count(pool_unused) FROM prebuild_worker_status') != 0;
	# a pass keeps its lock until its end, and a little longer
	wait_until($self->{node}, $db, q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'});
	return @wrong;
}

# One crash, which is one test.
sub crash
{
	my ($self, $kind) = @_;

	$self->{crashes}++;
	$self->start_load;
	my @wrong = grep { $_ ne '' } $self->strike($kind), $self->wrong_after;
	is(join("\n", @wrong), '', "crash $self->{crashes}, $kind: all promises are kept")
	  or diag("the server's log: " . $self->{node}->logfile);
	return;
}

# What fail_over() takes: nothing in particular under load, or what a session or the worker is in the middle of.
my %middles = (
	fold => q{DO $$ BEGIN LOOP EXIT WHEN prebuild_fold() > 0; END LOOP; END $$;},
	pass => q{DO $$ BEGIN LOOP EXIT WHEN (SELECT created > 0 FROM prebuild_reconcile(clock_timestamp())); END LOOP; END $$;},
	flush => q{SELECT FROM workspace_agent_metadata WHERE workspace_agent_id = fixture.a(41) FOR UPDATE;});

sub middles { return ('load', sort keys %middles) }

# Stop in the middle of a fold, a pass or a flush that the standby has received so far.
sub stop_in_the_middle
{
	my ($self, $kind) = @_;
	my $node = $self->{node};

	# so that there is something to do
	$node->safe_psql($db, q{SELECT FROM prebuild_agent_metadata_report(fixture.a(41), '{cpu}', '{0}'); SELECT prebuild_agent_metadata_flush()});
	push @{ $self->{sessions} }, start_session($node, $db, qq{BEGIN;
		SELECT FROM template_version_presets p JOIN templates t ON t.active_version_id = p.template_version_id,
			LATERAL prebuild_claim(p.id, load.owner(), 'middle-' || nextval('load.names'), at => clock_timestamp()) WHERE p.name = 'steady';
		$middles{$kind} SELECT pg_sleep(600)});
	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
	if ($kind eq 'flush')
	{
		$node->safe_psql($db, q{SELECT count(prebuild_agent_metadata_report(fixture.a(n), '{cpu}', '{1000000000}')) FROM generate_series(1, 41) n});
		wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE query = 'prebuild: writing agent metadata' AND wait_event_type = 'Lock'});
	}
	$node->safe_psql($db, 'SELECT pg_switch_wal()');
	$node->wait_for_catchup($self->{standby}, 'replay', $node->lsn('insert'));
	return;
}

# The server crashes and its standby is promoted, which is one test.
sub fail_over
{
	my ($self, $kind) = @_;
	my @wrong;

	$self->{crashes}++;
	$self->start_load;
	for (1 .. 2)
	{
		sleep $self->random(0.5);
		push @wrong, map { "on the standby $_" } $self->broken($self->{standby});
	}
	if ($kind ne 'load')
	{
		$self->stop_load;
		$self->stop_in_the_middle($kind);
	}
	$self->{node}->stop('immediate');
	$self->{standby}->promote;
	$self->{node} = delete $self->{standby};
	push @wrong, $self->wrong_after;
	is(join("\n", @wrong), '', "promotion $self->{crashes}, in the middle of a $kind: all promises are kept")
	  or diag("the server's log: " . $self->{node}->logfile);
	$self->add_standby;
	return;
}

# How many demands, promotions and delete builds there were.
sub counts
{
	my ($self) = @_;

	return split /\|/, $self->{node}->safe_psql($db, q{SELECT (SELECT count(*) FROM invariant.demands),
		(SELECT count(*) FROM prebuild_event WHERE kind = 'promoted'),
		(SELECT count(*) FROM workspace_builds WHERE transition = 'delete')});
}

# Whether the campaign was one: that things were promised, if need be after some time of load more, and that
# the logs are complete at its end.
sub finish
{
	my ($self) = @_;
	my $node = $self->{node};
	my ($demands, $promotions, $deleted) = $self->counts;

	for (1 .. 6)
	{
		last if $self->{claims} && $self->{reports} && $promotions && $deleted;
		$self->start_load;
		sleep 2;
		$self->stop_load;
		$self->load_told;
		is(join("\n", $self->settle, $self->broken), '', 'all promises are kept without a crash, too');
		($demands, $promotions, $deleted) = $self->counts;
	}

	note(sprintf '%d crashes: clients were told of %d claims and %d flushed reports; %d demands, %d promotions, %d delete builds; the workers served after %.1f s at most',
		$self->{crashes}, $self->{claims}, $self->{reports}, $demands, $promotions, $deleted, $self->{slowest});
	cmp_ok($_->[1], '>', 0, "there were $_->[0]") foreach [ claims => $self->{claims} ], [ 'flushed reports' => $self->{reports} ],
	  [ promotions => $promotions ], [ 'delete builds' => $deleted ];
	# some passes more, and the log itself has all demands
	wait_until($node, $db, q{SELECT count(*) = 0 FROM (SELECT workspace_id, warm FROM invariant.demands
		EXCEPT SELECT workspace_id, warm FROM prebuild_demand_log) missing});
	pass('the log of demand has all of it');
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|XX000|signal 11|ERROR:  (unexpected|could not find|invalid memory)/, 'and no process has crashed by itself');
	$self->{standby}->stop('immediate') if $self->{standby};
	$node->stop('immediate');
	return;
}

1;
