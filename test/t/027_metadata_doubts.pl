# Errors whose code does not tell whether one row or the whole table is at fault. A row that is refused
# by such an error does not keep the others from the table, and no row is lost if the table refuses all.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('doubts', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'plane'", "prebuild.worker_role = 'postgres'",
	"prebuild.metadata_flush_interval = '1h'", 'prebuild.metadata_batch_size = 200');
new_metadata($node, 'plane');
add_agents($node, 'plane', 1, 600);

# A trigger of the operator's that refuses a value "refused CODE" with this code, and all values
# while the table "switch" has one. It names tables as an application's session does.
$node->safe_psql('plane', q{
	CREATE TABLE switch (code text);
	CREATE TABLE audit (agent uuid REFERENCES workspace_agents DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		wanted text := coalesce((SELECT code FROM switch), substring(NEW.value FROM 'refused (.*)'));
	BEGIN
		IF wanted IS NOT NULL THEN
			RAISE EXCEPTION 'not this one' USING ERRCODE = wanted;
		END IF;
		IF NEW.value = 'unknown' THEN
			INSERT INTO audit VALUES (gen_random_uuid());
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON workspace_agent_metadata
		FOR EACH ROW EXECUTE FUNCTION refuse();
	CREATE FUNCTION look_around() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN PERFORM FROM switch; RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER look_around AFTER INSERT OR UPDATE ON workspace_agent_metadata
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look_around();
	-- what a flush by hand says: the number of entries, or why there is none
	CREATE FUNCTION flushed() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		detail text;
	BEGIN
		RETURN prebuild_agent_metadata_flush();
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN detail;
	END $$});
my $session = $node->background_psql('plane');
sub sql { return answer($session, $_[0]); }

# Entries that were refused since the last call, and those that wait.
my $refused = 0;
sub refused_and_queued
{
	my ($all, $queued) = split /\|/, sql('SELECT refused, queued FROM prebuild_metadata_stats');
	my $new = $all - $refused;

	$refused = $all;
	return "$new $queued";
}

# How many agents have this value.
sub stored { return sql("SELECT count(*) FROM workspace_agent_metadata WHERE value = '$_[0]'"); }

# A worker that has had no failure.
sub new_worker
{
	my $pid = sql(q{SELECT pid FROM prebuild_worker_status WHERE lane = 'metadata'});

	sql("SELECT pg_terminate_backend($pid)");
	wait_until($node, 'plane', "SELECT state = 'serving' AND pid <> $pid FROM prebuild_worker_status WHERE lane = 'metadata'");
	return;
}

# Agents from the first to the last report a value, but for some, whose value is another.
sub report
{
	my ($first, $last, $value, $bad, @agents) = @_;
	my $list = join(',', @agents) || '0';

	sql(qq{SELECT count(report(n, 'cpu', CASE WHEN n IN ($list) THEN '$bad' ELSE '$value' END))
		FROM generate_series($first, $last) n});
	return;
}

worker_is($node, 'plane', 'serving');
report(1, 100, 'bare');
is(sql('SELECT flushed()'), '100', 'triggers that name tables without a schema work in the worker');
is(stored('bare'), '100', 'deferred ones too');

# what fails at the end of the transaction only, for what a trigger wrote elsewhere
report(1, 100, 'known', 'unknown', 30, 31);
is(sql('SELECT flushed()'), '100', 'a deferred constraint of another table fails the rows that violate it');
is(refused_and_queued() . ' ' . stored('known'), '2 0 98', 'and no others');

# what an error says is kept in whole characters
sql(q{UPDATE workspace_agent_metadata SET value = 'gone'; CREATE FUNCTION wordy() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION '%', repeat(chr(233), 300); END $$;
	CREATE TRIGGER wordy BEFORE UPDATE ON workspace_agent_metadata FOR EACH ROW WHEN (NEW.value = 'wordy') EXECUTE FUNCTION wordy()});
report(1, 2, 'known', 'wordy', 2);
is(sql('SELECT flushed()'), '2', 'a long error');
is(sql('SELECT octet_length(last_error) FROM prebuild_metadata_stats'), '510', 'is kept up to a whole character');
refused_and_queued();

# one row is refused, with codes that usually are not the fault of a row
foreach my $code (qw(42501 XX000 XX001 40001 0A000 42P01 53200 58030))
{
	new_worker();
	report(1, 100, "passed $code", "refused $code", 50);
	is(join(',', map { sql('SELECT flushed()') } 1 .. 3), 'not this one,not this one,not this one',
		"$code: a flush fails, in case it passes");
	is((split / /, refused_and_queued())[0], '0', "$code: and drops nothing");
	is(stored("passed $code"), '0', "$code: meanwhile all wait");
	like(sql('SELECT flushed()'), qr/^\d+$/, "$code: after a few failures a flush succeeds");
	is(refused_and_queued(), '1 0', "$code: the row is dropped and counted");
	is(stored("passed $code"), '99', "$code: all others are written");
	is(stored("refused $code"), '0', "$code: not that one");
}
like(slurp_file($node->logfile),
	qr/WARNING:  dropping refused metadata key "cpu" of agent 0{8}-0{4}-0{4}-0{4}-0{10}32: not this one/,
	'the log names the row');

# from now on the worker knows
report(1, 100, 'again', 'refused 42501', 10, 60);
like(sql('SELECT flushed()'), qr/^\d+$/, 'the next row that is refused costs no failures');
is(refused_and_queued() . ' ' . stored('again'), '2 0 98', 'it is dropped at once');

# rows that are refused fill all the batches that come first
report(1, 450, '', 'refused 42501', 1 .. 450);
report(451, 600, 'behind');
like(sql('SELECT flushed()'), qr/^(\d+|not this one)$/, 'batches of nothing else than refused rows');
wait_for_stat($node, 'plane', 'queued = 0');
is(refused_and_queued() . ' ' . stored('behind'), '450 0 150', 'do not keep the others waiting');

# nor if they stand at equal distances, whatever their number
foreach my $agents (32, 64, 100)
{
	new_worker();
	report(1, $agents, "between $agents", 'refused 42501', map { $_ * 2 - 1 } 1 .. $agents / 2);
	sql('SELECT flushed()') for 1 .. 12;
	is(refused_and_queued(), $agents / 2 . ' 0', "$agents agents, every other one refused: those are dropped");
	is(stored("between $agents"), $agents / 2, "$agents agents, every other one refused: the others are written");
	sql('TRUNCATE workspace_agent_metadata');
}

# a refused row alone looks like a table that refuses every row
report(7, 7, '', 'refused 42501', 7);
is(sql('SELECT flushed()'), 'not this one', 'a row that is refused alone fails the flush');
is(refused_and_queued(), '0 1', 'and stays');
report(8, 8, 'company');
is(sql('SELECT flushed()'), '2', 'until there is another');
is(refused_and_queued() . ' ' . stored('company'), '1 0 1', 'which is written, and that one is dropped');

# a lock wait, a cancel or a full disk is never the fault of a row
foreach my $code (qw(55P03 40P01 57014 57P01 53100))
{
	report(1, 100, "kept $code", "refused $code", 40);
	is(join(',', map { sql('SELECT flushed()') } 1 .. 5), join(',', ('not this one') x 5), "$code: flushes fail");
	is((split / /, refused_and_queued())[0], '0', "$code: and drop nothing");
	report(40, 40, "kept $code");
	like(sql('SELECT flushed()'), qr/^\d+$/, "$code: when it has passed they succeed");
	is(refused_and_queued() . ' ' . stored("kept $code"), '0 0 100', "$code: everything arrives");
}

# a table that refuses every row loses no entry, whether the worker expects refusals or not
foreach my $state ('expecting refusals', 'new')
{
	new_worker() if $state eq 'new';
	foreach my $code (qw(42501 XX000 42P01 55000))
	{
		report(1, 100, "all $code $state");
		sql("INSERT INTO switch VALUES ('$code')");
		is(join(',', map { sql('SELECT flushed()') } 1 .. 5), join(',', ('not this one') x 5), "$state, $code: flushes fail");
		is(refused_and_queued(), '0 100', "$state, $code: nothing is dropped");
		sql('DELETE FROM switch');
		is(sql('SELECT flushed()'), '100', "$state, $code: when it has passed they succeed");
		is(stored("all $code $state"), '100', "$state, $code: everything arrives");
	}
}

$session->quit;
$node->stop;
done_testing();
