# Metrics as others read them: Prometheus' own checker, the exporter with monitoring/'s queries,
# and the dashboard.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use HTTP::Tiny;
use IPC::Run;
use FindBin;
use lib $FindBin::Bin;
use JSON::PP;
use MetadataTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep);

my $monitoring = abs_path(dirname(abs_path(__FILE__)) . '/../monitoring');
my $nasty = qq(quote " back \\ line\nend \x{e9}\x{20ac} {a="b"} 'x');
utf8::encode($nasty);
my $node = new_server('metrics', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'fleet'", "prebuild.worker_role = 'postgres'");
my $db = new_metadata($node, 'fleet');

# one preset for everything that is there for some presets only
(my $quoted = $nasty) =~ s/'/''/g;
$node->safe_psql($db, qq{
	SET prebuild.backoff_lookback = '1d';
	SELECT fixture.simple('plain', 2, preset_name => 'p'),
		fixture.simple('limited', 1, preset_name => 'p'),
		fixture.simple('backing off', 1, preset_name => 'p'),
		fixture.simple('invalid', 1, preset_name => 'p'),
		fixture.simple(E'second', 1, org => 'other', preset_name => '$quoted'),
		fixture.usr('ada');
	UPDATE templates SET name = 'plain' WHERE name = 'second';
	UPDATE organizations SET name = '$quoted' WHERE name = 'other';
});
$node->safe_psql($db, 'SELECT prebuild_reconcile()');
$node->safe_psql($db, q{
	UPDATE provisioner_jobs j SET started_at = now(), completed_at = now(), worker_id = gen_random_uuid(),
		error = 'no'
	FROM workspace_builds b JOIN workspaces w ON w.id = b.workspace_id
	JOIN templates t ON t.id = w.template_id
	WHERE j.id = b.job_id AND t.name IN ('limited', 'backing off');
	UPDATE provisioner_jobs j SET created_at = j.created_at - interval '1 day',
		started_at = j.started_at - interval '1 day', completed_at = j.completed_at - interval '1 day'
	FROM workspace_builds b JOIN workspaces w ON w.id = b.workspace_id
	JOIN templates t ON t.id = w.template_id
	WHERE j.id = b.job_id AND t.name = 'limited';
	UPDATE workspace_builds b SET created_at = b.created_at - interval '1 day'
	FROM workspaces w JOIN templates t ON t.id = w.template_id
	WHERE b.workspace_id = w.id AND t.name = 'limited';
	UPDATE template_version_presets p SET prebuild_status = 'validation_failed'
	FROM template_versions v JOIN templates t ON t.id = v.template_id
	WHERE v.id = p.template_version_id AND t.name = 'invalid';
	SELECT fixture.finish_jobs();
});
# the limit is reached by one build here
$node->append_conf('postgresql.conf', "prebuild.failure_hard_limit = 1\nprebuild.backoff_interval = '1h'");
$node->restart;
$node->safe_psql($db, q{
	WITH claim AS (
		SELECT w.id, b.id AS build, u.id AS claimant, b.template_version_id, b.template_version_preset_id
		FROM workspaces w JOIN workspace_builds b ON b.workspace_id = w.id JOIN users u ON u.username = 'ada'
		JOIN templates t ON t.id = w.template_id AND t.name = 'plain'
		JOIN template_version_presets p ON p.id = b.template_version_preset_id AND p.name = 'p'
		ORDER BY w.name LIMIT 1
	), job AS (
		INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at,
			organization_id, initiator_id, provisioner, storage_method, type, input, file_id, tags)
		SELECT gen_random_uuid(), now(), now(), now(), now(), o.id, c.claimant, 'terraform', 'file',
			'workspace_build', '{}', gen_random_uuid(), '{"scope": "organization", "owner": ""}'
		FROM claim c, organizations o LIMIT 1 RETURNING id
	), build AS (
		INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id,
			build_number, transition, initiator_id, job_id, template_version_preset_id)
		SELECT gen_random_uuid(), now(), now(), c.id, c.template_version_id, 2, 'start', c.claimant,
			j.id, c.template_version_preset_id
		FROM claim c, job j
	)
	UPDATE workspaces w SET owner_id = c.claimant FROM claim c WHERE w.id = c.id;
	SELECT prebuild_track_resource_replacement(b.workspace_id, b.id, '{"disk": ["size"]}')
	FROM workspace_builds b WHERE b.build_number = 2;
	UPDATE workspace_agents SET ready_at = now();
	SELECT prebuild_reconcile();
});

worker_is($node, $db, 'serving');
add_agents($node, $db, 1, 2);
$node->safe_psql($db, q{SELECT report(1, 'cpu', 'x'); SELECT report(1, 'mem', 'x'); SELECT report(2, 'cpu', 'x')});
$node->safe_psql($db, 'SELECT prebuild_agent_metadata_flush()');

# everything is there
my %known = map { $_ => 1 }
  split /\n/, $node->safe_psql($db, 'SELECT DISTINCT name FROM prebuild_metrics');
foreach my $name (
	map { "coderd_$_" }
	(map { "prebuilt_workspaces_$_" } qw(created_total failed_total claimed_total
		resource_replacements_total desired running eligible preset_hard_limited
		preset_validation_failed metrics_last_updated reconciliation_paused)),
	(map { "agentapi_metadata_$_" } qw(batches_total flushed_total dropped_keys_total
		publish_errors_total)),
	(map { ("${_}_bucket", "${_}_sum", "${_}_count") } qw(prebuilds_reconciliation_duration_seconds
		agentapi_metadata_batch_size agentapi_metadata_batch_utilization
		agentapi_metadata_flush_duration_seconds)))
{
	ok($known{$name}, "the view has $name");
}
ok($known{"prebuild_ext_identity_cache_$_"}, "the view has the identities' $_")
  foreach qw(hits_total misses_total invalidations_total);

# Prometheus' own checker
my $text = $node->safe_psql($db, 'SELECT prebuild_metrics_text()') . "\n";
my ($out, $err);
ok(IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<', \$text, '>', \$out, '2>', \$err),
	'promtool accepts the text') or diag("$out$err");
is($err, '', 'and has no remarks');
my $broken = $text . "coderd_prebuilt_workspaces_desired{template_name=\"a\n";
ok(!IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<', \$broken, '>', \$out, '2>', \$err),
	'as it does not any text');

# A label's value as it was, from the text form.
sub unescape
{
	my ($value) = @_;
	my %meaning = (n => "\n", '"' => '"', '\\' => '\\');

	$value =~ s/\\(.)/$meaning{$1}/g;
	return $value;
}

# The series of a text: {name}{sorted labels as JSON} = value; dies on a series that is there twice.
sub parse
{
	my ($exposition) = @_;
	my %series;

	foreach my $line (split /\n/, $exposition)
	{
		next if $line =~ /^#|^$/;
		my ($name, $labels, $value) = $line =~ /^(\w+)(?:\{(.*)\})? (\S+)$/ or die "cannot parse: $line";
		my %labels;
		$labels //= '';
		while ($labels =~ /(\w+)="((?:[^"\\]|\\.)*)"/g)
		{
			$labels{$1} = unescape($2) unless $1 eq 'server';
		}
		my $key = JSON::PP->new->canonical->encode(\%labels);
		die "twice: $line" if exists $series{$name}{$key};
		$series{$name}{$key} = $value;
	}
	return \%series;
}
my $ours = parse($text);
my $nasty_key = JSON::PP->new->canonical->encode(
	{ template_name => 'plain', preset_name => $nasty, organization_name => $nasty });
is($ours->{coderd_prebuilt_workspaces_desired}{$nasty_key}, 1, 'names survive the text form');
is(scalar keys %{ $ours->{coderd_prebuilt_workspaces_desired} }, 5,
	'two templates of one name are two series');

is($ours->{coderd_agentapi_metadata_batches_total}{'{"reason":"manual"}'}, 1, 'a batch written by hand');
is($ours->{coderd_agentapi_metadata_flushed_total}{'{}'}, 3, 'and its entries');
is($ours->{coderd_agentapi_metadata_batch_utilization_bucket}{'{"le":"1"}'}, 1, 'an agent with one key');
is($ours->{coderd_agentapi_metadata_batch_utilization_bucket}{'{"le":"+Inf"}'}, 2, 'of two agents');
is($ours->{coderd_prebuilds_reconciliation_duration_seconds_count}{'{}'}, 2, 'two passes');
my $plain = JSON::PP->new->canonical->encode({ template_name => 'plain', preset_name => 'p', organization_name => 'org' });
is($ours->{prebuild_ext_demands_warm_total}{$plain}, 1, 'a demand');
is($ours->{prebuild_ext_last_day_hit_ratio}{$plain}, 1, 'and nobody missed');
is($ours->{prebuild_ext_time_to_claim_seconds_count}{$plain}, 1, 'a prebuild that was claimed');

# the exporter, as a role that sees nothing else
$node->command_ok([ 'psql', '-XAtq', '-d', $node->connstr($db), '-f', "$monitoring/role.sql" ],
	'a role for the exporter');
is($node->safe_psql($db, 'SELECT prebuild_metrics_text() ~ \'desired\'', extra_params => [ '-U', 'prebuild_scraper' ]),
	't', 'which can read the metrics');
my ($status, $stdout, $stderr) =
  $node->psql($db, 'SELECT 1 FROM public.workspaces', extra_params => [ '-U', 'prebuild_scraper' ]);
like($stderr, qr/permission denied/, 'and not the tables');
my $port = PostgreSQL::Test::Cluster::get_free_port();
$ENV{DATA_SOURCE_NAME} = sprintf 'user=prebuild_scraper host=%s port=%d dbname=%s sslmode=disable',
  $node->host, $node->port, $db;
my $log = '';
my $exporter = IPC::Run::start(
	[
		'prometheus-postgres-exporter', '--disable-default-metrics', '--disable-settings-metrics',
		"--extend.query-path=$monitoring/postgres_exporter.yml",
		"--web.listen-address=127.0.0.1:$port"
	],
	'<', '/dev/null', '>&', \$log, IPC::Run::timeout(120));
my $theirs;
for (1 .. 600)
{
	my $response = HTTP::Tiny->new(timeout => 20)->get("http://127.0.0.1:$port/metrics");
	if ($response->{success})
	{
		$theirs = $response->{content};
		last;
	}
	sleep 0.1;
}
$exporter->kill_kill(grace => 5);
ok(defined $theirs, 'the exporter answers') or diag($log);
unlike($log, qr/level=error/, 'and says of no error') or diag($log);
my @foreign = grep { !/^(?:# (?:HELP|TYPE) )?(?:go_|process_|pg_|promhttp_|postgres_)/ } split /\n/, $theirs;
my $exported = parse(join("\n", @foreign));
foreach my $name (sort keys %$ours)
{
	# the time moves on
	if ($name =~ /last_updated|age_seconds/)
	{
		is_deeply([ sort keys %{ $exported->{$name} } ], [ sort keys %{ $ours->{$name} } ],
			"the exporter has $name");
	}
	else
	{
		is_deeply($exported->{$name}, $ours->{$name}, "the exporter has $name");
	}
}
is_deeply([ grep { !$ours->{$_} } sort keys %$exported ], [], 'and nothing else');
foreach my $line (grep { /^# TYPE/ } split /\n/, $text)
{
	like($theirs, qr/^\Q$line\E$/m, $line);
}

# the dashboard
my $dashboard = decode_json(slurp_file("$monitoring/grafana-dashboard.json"));
my @queries = map { $_->{expr} } map { @{ $_->{targets} } } @{ $dashboard->{panels} };
push @queries, map { $_->{definition} // () } @{ $dashboard->{templating}{list} };
cmp_ok(scalar @queries, '>', 15, 'the dashboard and the alerts ask');
push @queries, slurp_file("$monitoring/alerts.yml") =~ /^\s+expr: (.*)$/mg;
my %asked = map { $_ => 1 } map { /\b((?:coderd|prebuild_ext)_\w+)/g } @queries;
# 059_dashboard has a preset in mode auto
is_deeply([ grep { !$known{$_} && !/_policy_target$|_forecast_demands_per_hour$/ } sort keys %asked ], [], 'for metrics that there are');
foreach my $name (sort keys %known)
{
	(my $family = $name) =~ s/_(bucket|sum|count)$//;
	ok((grep { /^$family/ } keys %asked), "and shows $name");
}
my %ids = map { $_->{id} => 1 } @{ $dashboard->{panels} };
is(scalar keys %ids, scalar @{ $dashboard->{panels} }, 'every panel has an id of its own');

done_testing();
