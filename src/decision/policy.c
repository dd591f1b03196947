/*
 * policy.c
 *	  Read how presets' pools are kept and sized. The value is that of the preset's row in
 *	  prebuild_policy, or where that is NULL, of its template's row, or where that is NULL, of the
 *	  session's setting.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/ids.h"
#include "base/plans.h"
#include "base/rows.h"
#include "decision/amount.h"
#include "decision/control_plane.h"
#include "decision/policy.h"
#include "settings.h"

/* The columns of a row, from number 3 on in the order of overlay(). */
#define POLICY_ROWS                                                                                \
	"SELECT y.template_id, y.preset_name, y.unready_grace, y.disconnected_grace,"                  \
	" y.failed_retention, y.failed_keep, y.delete_retries, y.hard_limit_retry,"                    \
	" y.require_provisioner, y.max_unavailable, y.max_surge, y.mode, y.min_instances,"             \
	" y.max_instances, y.service_level"                                                            \
	" FROM {ext}prebuild_policy y WHERE y.control_plane {=} $1"

/* The first of the columns of sizing_rules_overlay(). */
#define SIZING_COLUMN 12

/* Where the policy of a template's presets stands in SPI_tuptable. */
typedef struct PolicyRow
{
	Id template_id;
	const char *preset_name; /* NULL: of the whole template */
	uint64 row;
} PolicyRow;

/* Does the extension have the table? Not with the install script of 0.1. */
static bool
has_policies(void)
{
	return OidIsValid(get_relname_relid("prebuild_policy", plans_extension_schema()));
}

/* The amount that a text says, or the given one. Only texts that were checked come here. */
static Amount
amount_or(const char *text, Amount amount)
{
	(void) amount_parse(text, &amount);
	return amount;
}

/* The policy of a preset of which prebuild_policy says nothing. */
static HealthPolicy
policy_of_settings(void)
{
	HealthPolicy policy = HEALTH_POLICY_OFF;

	policy.unready_grace = setting_unready_grace * DECISION_USECS_PER_SEC;
	policy.disconnected_grace = setting_disconnected_grace * DECISION_USECS_PER_SEC;
	policy.failed_retention = setting_failed_retention * DECISION_USECS_PER_SEC;
	policy.failed_keep = setting_failed_keep;
	policy.delete_retries = setting_delete_retries;
	policy.hard_limit_retry = setting_hard_limit_retry * DECISION_USECS_PER_SEC;
	policy.require_provisioner = setting_require_provisioner;
	policy.max_unavailable = amount_or(setting_max_unavailable, policy.max_unavailable);
	policy.max_surge = amount_or(setting_max_surge, policy.max_surge);
	return policy;
}

/* The number of microseconds of an interval whose days and months are in the table's bounds. */
static int64
interval_usecs(const Interval *interval)
{
	return interval->time +
		   (interval->month * (int64) DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
}

/* Put what a row of prebuild_policy says, and what it leaves NULL not, over a policy. */
static void
overlay(HealthPolicy *policy, uint64 row)
{
	int64_t *const spans[] = { &policy->unready_grace, &policy->disconnected_grace,
							   &policy->failed_retention, &policy->hard_limit_retry };
	static const int span_columns[] = { 3, 4, 5, 8 };
	Amount *const amounts[] = { &policy->max_unavailable, &policy->max_surge };
	static const int amount_columns[] = { 10, 11 };
	bool isnull;
	Datum value;

	for (size_t i = 0; i < lengthof(spans); i++)
	{
		value = row_value(row, span_columns[i], &isnull);
		if (!isnull)
			*spans[i] = interval_usecs(DatumGetIntervalP(value));
	}
	for (size_t i = 0; i < lengthof(amounts); i++)
	{
		value = row_value(row, amount_columns[i], &isnull);
		if (!isnull)
			*amounts[i] = amount_or(TextDatumGetCString(value), *amounts[i]);
	}
	value = row_value(row, 6, &isnull);
	if (!isnull)
		policy->failed_keep = DatumGetInt32(value);
	value = row_value(row, 7, &isnull);
	if (!isnull)
		policy->delete_retries = DatumGetInt32(value);
	value = row_value(row, 9, &isnull);
	if (!isnull)
		policy->require_provisioner = DatumGetBool(value);
}

/* Order by template, then the template's own row first, then by name. */
static int
compare_rows(const void *left, const void *right)
{
	const PolicyRow *a = left;
	const PolicyRow *b = right;
	int order = id_compare(&a->template_id, &b->template_id);

	if (order != 0)
		return order;
	if (a->preset_name == NULL || b->preset_name == NULL)
		return (a->preset_name != NULL) - (b->preset_name != NULL);
	return strcmp(a->preset_name, b->preset_name);
}

/* The places of the n rows in SPI_tuptable, in the order of compare_rows(). palloc'd. */
static PolicyRow *
sort_rows(uint64 n)
{
	PolicyRow *rows = palloc_array(PolicyRow, n + 1);

	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		Datum name = row_value(i, 2, &isnull);

		rows[i] = (PolicyRow){ row_id(i, 1), isnull ? NULL : TextDatumGetCString(name), i };
	}
	qsort(rows, n, sizeof(PolicyRow), compare_rows);
	return rows;
}

/*
 * Put what n sorted rows say of a preset over what the settings say: over its policy and, unless that
 * is NULL, over its sizing.
 */
static void
overlay_rows(HealthPolicy *policy, SizingRules *sizing, const PolicyRow *rows, uint64 n,
			 const Id *template_id, const char *preset_name)
{
	const PolicyRow keys[] = { { *template_id, NULL, 0 }, { *template_id, preset_name, 0 } };

	for (size_t i = 0; i < lengthof(keys); i++)
	{
		const PolicyRow *found = bsearch(&keys[i], rows, n, sizeof(PolicyRow), compare_rows);

		if (found == NULL)
			continue;
		overlay(policy, found->row);
		if (sizing != NULL)
			sizing_rules_overlay(sizing, found->row, SIZING_COLUMN);
	}
	if (sizing != NULL)
		sizing_rules_settle(sizing);
}

/*
 * Fill the policy and the sizing of each preset, by one statement, in the active snapshot. Template
 * and name of the presets must be known. SPI must be connected.
 */
void
policies_read(PoolSnapshot *pool)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema) };
	HealthPolicy settings = policy_of_settings();
	PolicyRow *rows;
	uint64 n;

	for (int i = 0; i < pool->npresets; i++)
	{
		pool->presets[i].policy = settings;
		pool->presets[i].details->sizing = sizing_rules_default();
	}
	if (!has_policies())
		return;
	n = plan_execute(&plan, POLICY_ROWS, PLAN_READ_OWN, 1, argtypes, values, NULL);
	rows = sort_rows(n);
	for (int i = 0; n > 0 && i < pool->npresets; i++)
	{
		Preset *preset = &pool->presets[i];

		overlay_rows(&preset->policy, &preset->details->sizing, rows, n, &preset->template_id,
					 preset->details->name);
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * The policy of the presets of a template with a name, in the active snapshot. SPI must be
 * connected.
 */
HealthPolicy
policy_of(const Id *template_id, const char *preset_name)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { TEXTOID, UUIDOID, TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema), id_datum(template_id),
					   CStringGetTextDatum(preset_name) };
	HealthPolicy policy = policy_of_settings();
	uint64 n;

	if (!has_policies())
		return policy;
	/* two statements in one, because each of the table's indexes has a part of the rows */
	n = plan_execute(&plan,
					 POLICY_ROWS " AND y.template_id {=} $2 AND y.preset_name IS NULL"
								 " UNION ALL " POLICY_ROWS
								 " AND y.template_id {=} $2 AND y.preset_name {=} $3",
					 PLAN_READ_OWN, 3, argtypes, values, NULL);
	overlay_rows(&policy, NULL, sort_rows(n), n, template_id, preset_name);
	SPI_freetuptable(SPI_tuptable);
	return policy;
}

/*
 * Is one of a template's presets with these names (a text[]) in mode auto, in a new snapshot? SPI must
 * be connected.
 */
bool
policy_sizes_any(const Id *template_id, Datum preset_names)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, UUIDOID, TEXTARRAYOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema), id_datum(template_id),
					   preset_names };

	if (!has_policies())
		return false;
	return plan_execute(&plan,
						"SELECT FROM pg_catalog.unnest($3) AS k (name) WHERE COALESCE("
						"(SELECT y.mode FROM {ext}prebuild_policy y WHERE y.control_plane {=} $1"
						"  AND y.template_id {=} $2 AND y.preset_name {=} k.name),"
						" (SELECT y.mode FROM {ext}prebuild_policy y WHERE y.control_plane {=} $1"
						"  AND y.template_id {=} $2 AND y.preset_name IS NULL)) {=} 'auto' LIMIT 1",
						PLAN_FRESH_OWN, 3, argtypes, values, NULL) > 0;
}
