# Agent metadata with the library preloaded: reports are buffered, merged, and written by the worker
# at capacity, at the interval, by hand and at shutdown; listeners are told, and find the values.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('batches', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'metadata'", "prebuild.worker_role = 'postgres'",
	"prebuild.metadata_flush_interval = '1h'", "prebuild.metadata_buffer_size = '1MB'");

sub sql { return $node->safe_psql('metadata', $_[0]); }

# Change settings of the server and have the worker know.
sub set
{
	my (%settings) = @_;

	foreach my $name (sort keys %settings)
	{
		$node->safe_psql('postgres', "ALTER SYSTEM SET prebuild.$name = '$settings{$name}'");
	}
	$node->reload;
	return;
}

# Wait until the worker knows the settings: a flush that is asked for after another one has ended begins with a
# look at them.
sub settings_are_known
{
	sql('SELECT prebuild_agent_metadata_flush(); SELECT prebuild_agent_metadata_flush()');
	return;
}

# buffered before there is anything to write it into

new_metadata($node, 'metadata');
add_agents($node, 'metadata', 1, 20000);
worker_is($node, 'metadata', 'serving');
new_metadata($node, 'unserved');
add_agents($node, 'unserved', 1, 1);

is(sql(q{SELECT report(1, 'cpu', 'first')}), '(1,0,0)', 'a report is taken');
is(value_of($node, 'metadata', 1, 'cpu'), '', 'and not written yet');
is(sql('SELECT mode, queued FROM prebuild_metadata_stats'), 'buffered|1', 'it waits');
sql(q{SELECT report(1, 'cpu', 'second'); SELECT report(1, 'mem', 'x')});
is(sql('SELECT queued, reported FROM prebuild_metadata_stats'), '2|3', 'two updates of a key are one entry');
sql(q{BEGIN; SELECT report(2, 'cpu', 'rolled back'); ROLLBACK});
is(sql('SELECT prebuild_agent_metadata_flush()'), '3', 'a flush by hand writes them');
is(value_of($node, 'metadata', 1, 'cpu'), 'second', 'the newest');
is(value_of($node, 'metadata', 2, 'cpu'), 'rolled back', 'a report survives the rollback of its caller');
is(sql('SELECT queued, flushed, batches_manual, last_flush_at IS NOT NULL FROM prebuild_metadata_stats'),
	'0|3|1|t', 'nothing waits any more');
is(sql('SELECT prebuild_agent_metadata_flush()'), '0', 'nothing, nothing');

# an older collected_at never overwrites
sql(q{SELECT report(1, 'cpu', 'older'); UPDATE workspace_agent_metadata
	SET value = 'newer', collected_at = now() + interval '1 hour' WHERE key = 'cpu'});
sql('SELECT prebuild_agent_metadata_flush()');
is(value_of($node, 'metadata', 1, 'cpu'), 'newer', 'what is newer in the table stays');
is(stat_of($node, 'metadata', 'skipped'), '1', 'and is counted');
sql('DELETE FROM workspace_agent_metadata');

# mixed keys with partial overlap, values that grow and shrink
sql(q{SELECT prebuild_agent_metadata_report(a(3), '{a,b,c}', '{1,2,3}')});
sql(q{SELECT prebuild_agent_metadata_report(a(3), '{d,c,b}', ARRAY['4', repeat('x', 2000), ''])});
sql(q{SELECT prebuild_agent_metadata_report_bytes(a(3), ARRAY['b', 'e', 'f', '\xff']::bytea[], ARRAY['B', '5', '\xff', '']::bytea[],
	ARRAY['', 'oops', '', '']::bytea[])});
sql('SELECT prebuild_agent_metadata_flush()');
is(sql(q{SELECT string_agg(key || '=' || left(value, 2) || error, ' ' ORDER BY key)
	FROM workspace_agent_metadata WHERE workspace_agent_id = a(3)}),
	'a=1 b=B c=xx d=4 e=5oops f=value of 1 bytes is not UTF8 text from byte 1 on', 'keys of several reports are merged');

# where nobody would write it, it is written directly
is($node->safe_psql('unserved', q{SELECT report(1, 'cpu', 'x'); SELECT value_of(1, 'cpu');
	SELECT mode FROM prebuild_metadata_stats}), "(1,0,0)\nx\ndirect", 'a database without a worker');
my ($code, $out, $err) = $node->psql('metadata', q{SET default_transaction_read_only = on;
	SELECT report(1, 'cpu', 'x')});
like($err, qr/cannot execute .* in a read-only transaction/, 'a read-only transaction');

# listeners

my $listener = start_listener($node, 'metadata', 'workspace_agent_metadata_batch');
set(metadata_batch_size => 500);
sql('DELETE FROM workspace_agent_metadata');
sql(q{SELECT count(report(n, 'cpu', 'v' || n)) FROM generate_series(1, 600) n});
wait_for_stat($node, 'metadata', 'batches_capacity = 1');
sleep 0.3;
is(stat_of($node, 'metadata', 'queued'), '100', '600 entries: a batch of 500 is written at once');
my @messages = received($listener, 2);
is(scalar @messages, 2, 'with two messages');
is_deeply([ map { length $_->{payload} } @messages ], [ 7986, 3014 ], 'of 363 and 137 ids');
is_deeply([ sort(decoded(@messages)) ], [ map { agent($_) } 1 .. 500 ], 'for the 500 that came first');
is(MetadataTest::ask($listener, q{SELECT count(*) FROM workspace_agent_metadata
	WHERE value = 'v' || ('x' || right(workspace_agent_id::text, 8))::bit(32)::int}), "500\n",
	'whose values are there');
set(metadata_flush_interval => '200ms');
@messages = received($listener, 1);
is(scalar @messages, 1, 'the rest comes at the interval, which a reload changed, in one message');
is_deeply([ sort(decoded(@messages)) ], [ map { agent($_) } 501 .. 600 ], 'for the other 100');
is(stat_of($node, 'metadata', 'batches_capacity, batches_scheduled'), '1|1', 'and the batches are counted');
is(sql(q{SELECT count, sum FROM prebuild_metadata_histograms()
	WHERE histogram = 'batch_size' AND upper_bound = 100}), '4|610',
	'also by size');
is(sql(q{SELECT reason, count FROM prebuild_metadata_histograms()
	WHERE histogram = 'flush_duration_seconds' AND upper_bound = 'infinity' ORDER BY 1}),
	"capacity|1\nmanual|3\nscheduled|1\nshutdown|0", 'and by reason');

# at the moment of a message the new value is there
my ($late, $rounds) = (0, 0);
foreach my $round (1 .. 20)
{
	my $n = 1 + $round % 7;

	sql("SELECT report($n, 'round', '$round')");
	foreach my $id (decoded(received($listener, 1)))
	{
		my $value = MetadataTest::ask($listener, qq{SELECT value FROM workspace_agent_metadata
			WHERE workspace_agent_id = '$id' AND key = 'round'});
		$rounds++;
		$late++ if $id ne agent($n) || $value ne "$round\n";
	}
}
is($rounds, 20, 'each of 20 rounds is heard of');
is($late, 0, 'and finds its value');

# a direct batch and plain SQL tell as well
sql(q{SELECT prebuild_agent_metadata_upsert(ARRAY[a(9)], '{cpu}', '{x}', '{""}', ARRAY[now() + interval '1 day'])});
is_deeply([ decoded(received($listener, 1)) ], [ agent(9) ], 'a direct batch');
# attaching waits for a transaction that has written, in short tries that hold nobody up
my $writer = $node->background_psql('metadata');
$writer->query_safe('BEGIN; UPDATE workspace_agent_metadata SET value = value WHERE workspace_agent_id = a(600)');
($code, $out, $err) = $node->psql('metadata', q{SET prebuild.attach_timeout = '500ms'; SELECT prebuild_attach()});
like($err, qr/could not lock the control plane's tables within 500 ms/, 'attaching gives up in the end');
my $attacher = start_session($node, 'metadata', 'SELECT prebuild_attach()');
# a writer that waited for it would wait for the first writer, who goes on after this one
($code, $out, $err) = $node->psql('metadata', join '', "SET lock_timeout = '30s';",
	(q{UPDATE workspace_agent_metadata SET value = value WHERE workspace_agent_id = a(599); SELECT pg_sleep(0.05) \g /dev/null
	}) x 20);
is($err, '', 'writers go on meanwhile');
$writer->query_safe('COMMIT');
$writer->quit;
ok(finish_session($attacher), 'and it succeeds when the transaction has ended');
received($listener, 0);
sql(q{UPDATE workspace_agent_metadata SET value = 'plain' WHERE workspace_agent_id IN (a(10), a(11))});
is_deeply([ sort(decoded(received($listener, 1))) ], [ agent(10), agent(11) ], 'an UPDATE, by the trigger');
sql(q{INSERT INTO workspace_agent_metadata (workspace_agent_id, display_name, key, script, timeout, interval)
	SELECT a(n), 'x', 'plain', '', 0, 0 FROM generate_series(1000, 1400) n});
@messages = received($listener, 2);
is_deeply([ sort(decoded(@messages)) ], [ map { agent($_) } 1000 .. 1400 ], 'an INSERT of 401 agents');
sql(q{DELETE FROM workspace_agent_metadata WHERE key = 'plain' AND workspace_agent_id = a(1000)});
is_deeply([ decoded(received($listener, 1)) ], [ agent(1000) ], 'a DELETE');
sql(q{UPDATE workspace_agent_metadata SET value = 'plain' WHERE false});
sql(q{SELECT report(12, 'cpu', 'once')});
is_deeply([ map { $_->{payload} } received($listener, 1) ],
	[ sql('SELECT prebuild_agent_ids_encode(ARRAY[a(12)])') ],
	'nothing for no rows, and the worker tells once although the trigger is there');
sql('SELECT prebuild_detach()');
stop_listener($listener);

# older control planes listen to a channel for each agent
set(metadata_notify => 'both');
$listener = start_listener($node, 'metadata', 'workspace_agent_metadata_batch',
	'workspace_agent_metadata:' . agent(13));
settings_are_known();
sql(q{SELECT prebuild_agent_metadata_report(a(13), ARRAY['cpu', 'a "b"'], '{1,2}')});
@messages = sort { $a->{channel} cmp $b->{channel} } received($listener, 2);
is($messages[0]{channel}, 'workspace_agent_metadata:' . agent(13), 'an agent\'s own channel');
like($messages[0]{payload},
	qr/^\{"collected_at": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "keys": \["a \\"b\\"", "cpu"\]\}$/,
	'names the keys');
is($messages[1]{channel}, 'workspace_agent_metadata_batch', 'beside the batch channel');
stop_listener($listener);
set(metadata_notify => 'batch', metadata_flush_interval => '1h');

# concurrent reports of the same agents
sql('SELECT prebuild_agent_metadata_flush(); DELETE FROM workspace_agent_metadata');
my $reporter = q{SELECT count(report(n % 50 + 1, 'key' || SESSION, i || '.' || SESSION))
	FROM generate_series(1, 40) i, generate_series(1, 50) n};
run_in_parallel($node, 'metadata', map { my $s = $reporter; $s =~ s/SESSION/$_/g; $s } 1 .. 8);
sql('SELECT prebuild_agent_metadata_flush()');
is(sql('SELECT count(*), count(DISTINCT workspace_agent_id), bool_and(value LIKE $$40.%$$) FROM workspace_agent_metadata'),
	'400|50|t', 'of concurrent reports the newest of each key is stored');

# a full buffer drops and counts; what it took arrives
set(metadata_batch_size => 100000);
settings_are_known();
my ($dropped, $taken) = (0, 0);
my $warnings = 0;
my $before = stat_of($node, 'metadata', 'dropped');
($code, $out, $err) = $node->psql('metadata', q{SELECT sum((r).queued), sum((r).dropped), sum((r).rejected)
	FROM (SELECT prebuild_agent_metadata_report(a(n), '{x,y}', ARRAY[repeat('x', 500), 'small']) AS r
		FROM generate_series(1, 2000) n) s});
($taken, $dropped) = split /\|/, $out;
is($taken + $dropped, 4000, 'every entry is taken or dropped');
cmp_ok($dropped, '>', 1000, 'a buffer of 1 MB does not take 2 MB');
cmp_ok($taken, '>', 500, 'but what fits');
$warnings = () = $err =~ /WARNING:  dropping agent metadata because its buffer is full/g;
is($warnings, 1, 'which is told once');
is(stat_of($node, 'metadata', 'dropped') - $before, $dropped, 'and counted');
is(stat_of($node, 'metadata', 'queued'), $taken, 'what was taken waits');
is(sql(q{SELECT r::text FROM prebuild_agent_metadata_report(a(1), '{x}', ARRAY[repeat('y', 500)]) r}), '(1,0,0)',
	'a key that waits can still be replaced');
sql('DELETE FROM workspace_agent_metadata');
is(sql('SELECT prebuild_agent_metadata_flush()'), $taken, 'the rest arrives');
is(sql('SELECT count(*) FROM workspace_agent_metadata'), $taken, 'all of it');
is(sql(q{SELECT sum((r).dropped) FROM (SELECT prebuild_agent_metadata_report(a(n), '{x}', '{x}') AS r
	FROM generate_series(1, 300) n) s}), '0', 'and there is room again');

# shutdown
sql('DELETE FROM workspace_agent_metadata');
sql(q{SELECT count(report(n, 'x', 'last')) FROM generate_series(1, 1000) n});
my $start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 15, 'a fast shutdown is one');
$node->start;
is(sql(q{SELECT count(*) FROM workspace_agent_metadata WHERE value = 'last'}), '1000',
	'and writes what was buffered');

# buffered while the worker is not up yet
worker_is($node, 'metadata', 'serving');
$node->append_conf('postgresql.conf', 'prebuild.worker_role = nobody');
$node->restart;
is(sql(q{SELECT report(1, 'early', 'x'); SELECT state FROM prebuild_worker_status WHERE lane = 'metadata'}) =~ /^\(1,0,0\)\n(starting|unable)$/ ? 1 : 0,
	1, 'a report is taken before the worker serves');
worker_is($node, 'metadata', 'unable');
like(sql(q{SELECT detail FROM prebuild_worker_status WHERE lane = 'metadata'}), qr/role "nobody" does not exist/, 'which says why');
is(sql(q{SELECT report(1, 'direct', 'x'); SELECT value_of(1, 'direct')}), "(1,0,0)\nx",
	'as long as it cannot serve, reports are written directly');
$node->append_conf('postgresql.conf', 'prebuild.worker_role = postgres');
$node->reload;
worker_is($node, 'metadata', 'serving');
sql('SELECT prebuild_agent_metadata_flush()');
is(value_of($node, 'metadata', 1, 'early'), 'x', 'and what was buffered arrives');

# what comes while the worker leaves listeners a rest goes into one batch, and is published at once
set(metadata_batch_size => 500);
settings_are_known();
my $large = q{SELECT max(count) FILTER (WHERE upper_bound = 'infinity') - max(count) FILTER (WHERE upper_bound = 500)
	FROM prebuild_metadata_histograms() WHERE histogram = 'batch_size'};
my $large_before = sql($large);
foreach my $try (1 .. 10)
{
	sql(qq{SELECT count(prebuild_agent_metadata_report(a(n), keys, keys)) FROM generate_series(1, 200) n,
		(SELECT array_agg('try$try-' || k) AS keys FROM generate_series(1, 20) k) k});
	wait_for_stat($node, 'metadata', 'queued < 500');
	last if sql($large) > $large_before;
}
cmp_ok(sql($large), '>', $large_before, 'a batch takes more than a full one, if more waits');
sql('SELECT prebuild_agent_metadata_flush()');
is(sql(q{SELECT count(*) % 4000, count(*) > 0 FROM workspace_agent_metadata WHERE key LIKE 'try%'}), '0|t', 'and none is lost');

# a steady stream: reports that come during a flush must not keep later ones from waking the worker, which
# otherwise looks once a second
set(metadata_batch_size => 50, metadata_flush_interval => '1s');
settings_are_known();
sql(q{
	CREATE FUNCTION stream() RETURNS float8 LANGUAGE plpgsql AS $$
	DECLARE
		waiting bigint[];
	BEGIN
		FOR i IN 1 .. 4000 LOOP
			PERFORM report(i, 'stream', 'x');
			waiting := waiting || (SELECT queued FROM prebuild_metadata_stats);
			PERFORM pg_sleep(0.0005);
		END LOOP;
		RETURN (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY w) FROM unnest(waiting) w);
	END $$});
my $waiting;
# a worker that the machine gives no time is not asleep
race_until(sub { return $waiting < 300; }, 5, sub { $waiting = sql('SELECT stream()'); });
cmp_ok($waiting, '<', 300, "a stream of reports is written as batches fill up ($waiting wait in the middle)");

$node->stop;
done_testing();
