# What the tests of alerts and dashboard share: the rules, and a real Prometheus that scrapes a server
# through the real exporter, once a second.
package PrometheusTest;

use strict;
use warnings;
use Exporter 'import';
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(alert_rules start_prometheus stop_exporter stop_prometheus ask_prometheus wait_for_scrape
  alerts_that_hold becomes exporter_log);

our $monitoring = "$project/monitoring";
my ($exporter, $exporter_port, $prometheus, $port, $folder, $interval);
my ($exporter_log, $log) = ('', '');
my $http = HTTP::Tiny->new(timeout => 20);

# The rules of monitoring/alerts.yml, in order: name, expr, and how many minutes it must hold.
sub alert_rules
{
	my @alerts;
	my $rules = slurp_file("$monitoring/alerts.yml");

	push @alerts, { name => $1, expr => $2, minutes => $4 eq 'h' ? $3 * 60 : $3 }
	  while $rules =~ /- alert: (\w+)\n\s+expr: (.*)\n\s+for: (\d+)([mh])\n/g;
	@alerts == (() = $rules =~ /alert:/g) or die 'not every alert is understood';
	return @alerts;
}

# Scrape so often from now on, in seconds; a scrape may take as long.
sub scrape_every
{
	($interval) = @_;
	my $file = "$folder/prometheus.yml";

	unlink $file;
	append_to_file($file, "rule_files: [ $monitoring/alerts.yml ]\nscrape_configs:\n  - job_name: fleet\n    scrape_interval: ${interval}s\n"
		. "    scrape_timeout: ${interval}s\n    static_configs: [ { targets: [ '127.0.0.1:$exporter_port' ] } ]\n");
	$prometheus->signal('HUP') if $prometheus;
	return;
}

# Options that switch off whatever the exporter measures of its own accord. Later releases do that by default,
# with a connection a scrape, which they keep where a scrape takes too long.
sub without_collectors
{
	my $help = '';

	IPC::Run::run([ 'prometheus-postgres-exporter', '--help' ], '<', '/dev/null', '>&', \$help);
	return map { "--no-collector.$_" } $help =~ /^\s+--(?:\[no-\])?collector\.(\w+)\s/mg;
}

# Start both for a database, with the role that monitoring/ gives the exporter. The exporter keeps nothing from
# one scrape to the next.
sub start_prometheus
{
	my ($node, $database) = @_;

	$folder = PostgreSQL::Test::Utils::tempdir;
	$exporter_port = PostgreSQL::Test::Cluster::get_free_port();
	$port = PostgreSQL::Test::Cluster::get_free_port();
	$node->command_ok([ 'psql', '-XAtq', '-d', $node->connstr($database), '-f', "$monitoring/role.sql" ], 'a role for the exporter');
	append_to_file("$folder/queries.yml", slurp_file("$monitoring/postgres_exporter.yml") =~ s/^  cache_seconds: .*\n//mgr);
	scrape_every(1);
	local $ENV{DATA_SOURCE_NAME} = sprintf 'user=prebuild_scraper host=%s port=%d dbname=%s sslmode=disable',
	  $node->host, $node->port, $database;
	$exporter = IPC::Run::start([ 'prometheus-postgres-exporter', '--disable-default-metrics', '--disable-settings-metrics',
			without_collectors(), "--extend.query-path=$folder/queries.yml", "--web.listen-address=127.0.0.1:$exporter_port" ],
		'<', '/dev/null', '>&', \$exporter_log, IPC::Run::timeout(600));
	$prometheus = IPC::Run::start([ 'prometheus', "--config.file=$folder/prometheus.yml", "--storage.tsdb.path=$folder/tsdb",
			"--web.listen-address=127.0.0.1:$port" ], '<', '/dev/null', '>&', \$log, IPC::Run::timeout(600));
	wait_for_scrape();
	return;
}

sub stop_exporter
{
	$exporter->kill_kill(grace => 5) if $exporter;
	undef $exporter;
	return;
}

sub stop_prometheus
{
	stop_exporter();
	$prometheus->kill_kill(grace => 5) if $prometheus;
	undef $prometheus;
	return;
}

END
{
	my $status = $?;
	stop_prometheus();
	$? = $status;
}

# What Prometheus answers to an expression: an array of series, or undef while it does not answer. Dies with
# what it says of an expression that it does not take.
sub ask_prometheus
{
	my ($expression) = @_;
	my $response = $http->get("http://127.0.0.1:$port/api/v1/query?" . $http->www_form_urlencode({ query => $expression }));
	my $answer = eval { decode_json($response->{content}) };

	die "$expression: $answer->{error}\n" if $answer && $answer->{status} ne 'success';
	return $answer ? $answer->{data}{result} : undef;
}

# What the exporter has said so far.
sub exporter_log
{
	$exporter->pump_nb if $exporter;
	return $exporter_log;
}

# Wait until the exporter has been scraped after this moment, or until a query has a result. A busy machine gets
# more time for a scrape.
sub wait_for_scrape
{
	my ($query) = @_;
	my $moment = time;

	for (1 .. 3600)
	{
		my $result = ask_prometheus($query // 'timestamp(prebuild_ext_health{check="versions"})');
		return if $result && @$result && $result->[0]{value}[1] > ($query ? 0 : $moment);
		scrape_every(2 * $interval) if $_ % 300 == 0 && $interval < 16;
		sleep 0.05;
	}
	die "Prometheus has not scraped:\n$exporter_log\n$log";
}

# The alerts whose expressions hold now, by name.
sub alerts_that_hold
{
	return join ' ', sort map { $_->{name} } grep { @{ ask_prometheus($_->{expr}) // [] } } alert_rules();
}

# Scrape until these alerts hold and no other, and test that they do.
sub becomes
{
	my ($expected, $what) = @_;
	my $held;

	# some take a moment
	for (1 .. 30)
	{
		wait_for_scrape();
		$held = alerts_that_hold();
		last if $held eq $expected;
	}
	is($held, $expected, $what // $expected)
	  or diag(encode_json(ask_prometheus('prebuild_ext_health != 0') // []));
	return;
}

1;
