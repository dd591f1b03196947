/*
 * policy_choice.c
 *	  The table prebuild_policy_choice: a row for each preset name in mode auto for which a pass has
 *	  chosen, with what is needed to have the same policy again.
 *
 *	  Passes write it, under lock 7. prebuild_set_policy() has a pass choose anew, and deletes rows that
 *	  no policy in mode auto covers any more. All statements run with the rights of the extension's
 *	  owner.
 *
 *	  Locks: a pass that writes choices holds ShareLock on the table prebuild_policy from before it
 *	  reads the rules by which it chooses until its transaction ends. Writers of that table take
 *	  RowExclusiveLock first. So a change of a policy comes before the choice, which then goes by it, or
 *	  it waits for the choice to be visible, and takes it away or has it made anew. A pass does not wait
 *	  for a policy that is not committed: it leaves its choices to the next one.
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/ids.h"
#include "base/plans.h"
#include "demand/choice.h"
#include "demand/policy_choice.h"
#include "settings.h"

/* By PolicyKind; NULL: one that nobody chooses. */
static const char *const kind_names[] = { "configured", "fixed", NULL, "schedule", "forecast" };
/* By ChoiceOutcome. */
static const char *const outcome_names[] = { "better", "kept",		 "best_effort",
											 "worse",  "too_little", "failed" };

/* Does the extension have the table? Not with the install script of 0.1. */
bool
policy_choices_exist(void)
{
	return OidIsValid(get_relname_relid("prebuild_policy_choice", plans_extension_schema()));
}

/*
 * Keep others from changing policies until the end of the transaction, so that choices can be written.
 * Returns false if somebody is changing one: nothing is locked then. Call it before a snapshot that
 * reads the policies is taken.
 */
bool
policy_choices_hold(void)
{
	Oid table = get_relname_relid("prebuild_policy", plans_extension_schema());

	return OidIsValid(table) && ConditionalLockRelationOid(table, ShareLock);
}

/* Return what the table calls an outcome. */
const char *
policy_outcome_name(ChoiceOutcome outcome)
{
	return outcome_names[outcome];
}

/* The parameter of a policy, of which each kind has one. */
static double
parameter_of(const Policy *policy)
{
	switch (policy->kind)
	{
		case POLICY_FIXED:
			return policy->level;
		case POLICY_SCHEDULE:
			return policy->aim;
		case POLICY_FORECAST:
			return policy->price;
		case POLICY_CONFIGURED:
		case POLICY_WEEK:
			break;
	}
	return 0;
}

/* Return the policy of a kind. What nobody has chosen, somebody has written: it is the configuration. */
Policy
policy_of_row(const char *kind, double parameter)
{
	Policy policy = { .kind = POLICY_CONFIGURED };

	for (size_t i = 0; i < lengthof(kind_names); i++)
		if (kind_names[i] != NULL && strcmp(kind, kind_names[i]) == 0)
			policy.kind = (PolicyKind) i;
	if (policy.kind == POLICY_FIXED)
		policy.level = parameter >= 0 && parameter <= WEEK_LEVELS ? (int) parameter : 0;
	policy.aim = policy.kind == POLICY_SCHEDULE ? parameter : 0;
	policy.price = policy.kind == POLICY_FORECAST ? parameter : 0;
	return policy;
}

/* Return the outcome that the table calls so. What is no name of one is a failed one. */
ChoiceOutcome
policy_outcome_of_row(const char *name)
{
	for (size_t i = 0; i < lengthof(outcome_names); i++)
		if (strcmp(name, outcome_names[i]) == 0)
			return (ChoiceOutcome) i;
	return OUTCOME_FAILED;
}

/* Order by template and name. */
int
policy_choices_compare(const void *left, const void *right)
{
	const PolicyChoice *a = left;
	const PolicyChoice *b = right;
	int order = id_compare(&a->template_id, &b->template_id);

	return order != 0 ? order : strcmp(a->preset_name, b->preset_name);
}

/* Find the choice for a template's presets of a name. Returns NULL if there is none. */
const PolicyChoice *
policy_choice_find(const PolicyChoices *choices, const Id *template_id, const char *preset_name)
{
	const PolicyChoice key = { .template_id = *template_id,
							   .preset_name = unconstify(char *, preset_name) };

	return choices->n == 0 ? NULL
						   : bsearch(&key, choices->choices, choices->n, sizeof(PolicyChoice),
									 policy_choices_compare);
}

static Datum
interval_datum(int64 microseconds)
{
	Interval *interval = palloc0_object(Interval);

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

/* What policy_choice_write() writes, in order. */
enum
{
	PUT_CONTROL_PLANE,
	PUT_TEMPLATE,
	PUT_PRESET,
	PUT_POLICY,
	PUT_KIND,
	PUT_PARAMETER,
	PUT_OUTCOME,
	PUT_NOTE,
	PUT_CHOSEN_AT,
	PUT_DUE_AT,
	PUT_DEMAND,
	PUT_HIT_RATE,
	PUT_IDLE,
	PUT_CONFIGURED_HIT_RATE,
	PUT_CONFIGURED_IDLE,
	PUT_LEARNT_AT,
	PUT_LEARNT,
	PUT_SUSPENDED,
	PUTS
};

/* Put the figures of a choice, or what there is of them. */
static void
put_figures(const ChoiceFigures *figures, Datum *values, char *nulls)
{
	if (figures == NULL)
	{
		memset(nulls + PUT_DEMAND, 'n', PUT_CONFIGURED_IDLE - PUT_DEMAND + 1);
		return;
	}
	values[PUT_DEMAND] = Int32GetDatum(figures->chosen.demands);
	values[PUT_HIT_RATE] = Float8GetDatum(simulator_hit_rate(&figures->chosen));
	values[PUT_IDLE] = interval_datum(figures->chosen.idle);
	values[PUT_CONFIGURED_HIT_RATE] = Float8GetDatum(simulator_hit_rate(&figures->configured));
	values[PUT_CONFIGURED_IDLE] = interval_datum(figures->configured.idle);
	if (figures->chosen.demands == 0)
		nulls[PUT_HIT_RATE] = nulls[PUT_CONFIGURED_HIT_RATE] = 'n';
}

/*
 * Write a choice in place of an earlier one for the same preset. figures: NULL if there are none. SPI
 * must be connected.
 */
void
policy_choice_write(const PolicyChoice *choice, const char *policy_name,
					const ChoiceFigures *figures)
{
	static KeptPlan plan;
	static const Oid argtypes[PUTS] = { TEXTOID,		UUIDOID,		TEXTOID,	 TEXTOID,
										TEXTOID,		FLOAT8OID,		TEXTOID,	 TEXTOID,
										TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID,	 FLOAT8OID,
										INTERVALOID,	FLOAT8OID,		INTERVALOID, TIMESTAMPTZOID,
										FLOAT8ARRAYOID, BOOLOID };
	ArrayParameter *learnt = array_new(FLOAT8OID);
	Datum values[PUTS] = { CStringGetTextDatum(setting_control_plane_schema),
						   id_datum(&choice->template_id),
						   CStringGetTextDatum(choice->preset_name),
						   CStringGetTextDatum(policy_name),
						   CStringGetTextDatum(kind_names[choice->policy.kind]),
						   Float8GetDatum(parameter_of(&choice->policy)),
						   CStringGetTextDatum(outcome_names[choice->outcome]),
						   CStringGetTextDatum(choice->note),
						   TimestampTzGetDatum(choice->chosen_at),
						   TimestampTzGetDatum(choice->due_at) };
	char nulls[PUTS];

	memset(nulls, ' ', PUTS);
	put_figures(figures, values, nulls);
	for (int i = 0; i < choice->nlearnt; i++)
		array_add(learnt, Float8GetDatum(choice->learnt[i]));
	values[PUT_LEARNT_AT] = TimestampTzGetDatum(choice->learnt_at);
	values[PUT_LEARNT] = array_datum(learnt);
	values[PUT_SUSPENDED] = BoolGetDatum(choice->suspended);
	if (choice->nlearnt == 0)
		nulls[PUT_LEARNT_AT] = nulls[PUT_LEARNT] = 'n';
	plan_execute(
		&plan,
		"INSERT INTO {ext}prebuild_policy_choice (control_plane, template_id, preset_name, policy,"
		" kind, parameter, outcome, note, chosen_at, due_at, demand, hit_rate, idle,"
		" configured_hit_rate, configured_idle, learnt_at, learnt, suspended)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"
		" ON CONFLICT (control_plane, template_id, preset_name) DO UPDATE SET"
		" policy = excluded.policy, kind = excluded.kind, parameter = excluded.parameter,"
		" outcome = excluded.outcome, note = excluded.note, chosen_at = excluded.chosen_at,"
		" due_at = excluded.due_at, demand = excluded.demand, hit_rate = excluded.hit_rate,"
		" idle = excluded.idle, configured_hit_rate = excluded.configured_hit_rate,"
		" configured_idle = excluded.configured_idle, learnt_at = excluded.learnt_at,"
		" learnt = excluded.learnt, suspended = excluded.suspended",
		PLAN_FRESH_OWN, PUTS, argtypes, values, nulls);
}

/* Note that another reconciler is at work, or that it is not any more. SPI must be connected. */
void
policy_choices_suspend(bool suspended)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, BOOLOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema), BoolGetDatum(suspended) };

	plan_execute(&plan,
				 "UPDATE {ext}prebuild_policy_choice c SET suspended = $2"
				 " WHERE c.control_plane {=} $1 AND c.suspended {<>} $2",
				 PLAN_FRESH_OWN, 2, argtypes, values, NULL);
}

/* The mode of the presets of "c". */
#define MODE_OF_CHOICE                                                                             \
	"COALESCE((SELECT y.mode FROM {ext}prebuild_policy y"                                          \
	"  WHERE y.control_plane {=} c.control_plane AND y.template_id {=} c.template_id"              \
	"  AND y.preset_name {=} c.preset_name),"                                                      \
	" (SELECT y.mode FROM {ext}prebuild_policy y"                                                  \
	"  WHERE y.control_plane {=} c.control_plane AND y.template_id {=} c.template_id"              \
	"  AND y.preset_name IS NULL), 'off')"

/*
 * The policy of a template's presets, or of those with a name, has changed: have the next passes
 * choose anew, and forget the choices for presets that are not in mode auto any more. The caller has
 * written prebuild_policy in this transaction. It does so for choices, too, that came after the
 * transaction's snapshot. SPI must be connected. Does nothing where the script has no such table.
 */
void
policy_choices_renew(const Id *template_id, const char *preset_name)
{
	static KeptPlan delete_plan, update_plan;
	static const Oid argtypes[] = { TEXTOID, UUIDOID, TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema), id_datum(template_id),
					   preset_name == NULL ? (Datum) 0 : CStringGetTextDatum(preset_name) };
	const char nulls[] = { ' ', ' ', preset_name == NULL ? 'n' : ' ' };

#define CHOICES_OF                                                                                 \
	" WHERE c.control_plane {=} $1 AND c.template_id {=} $2"                                       \
	" AND ($3 IS NULL OR c.preset_name {=} $3)"
	if (!policy_choices_exist())
		return;
	plan_execute(&delete_plan,
				 "DELETE FROM {ext}prebuild_policy_choice c" CHOICES_OF " AND " MODE_OF_CHOICE
				 " {<>} 'auto'",
				 PLAN_LATEST_OWN, 3, argtypes, values, nulls);
	plan_execute(&update_plan,
				 "UPDATE {ext}prebuild_policy_choice c SET due_at = '-infinity'" CHOICES_OF,
				 PLAN_LATEST_OWN, 3, argtypes, values, nulls);
#undef CHOICES_OF
}

/*
 * Delete the choices for all presets but these, and those of control planes that are gone. The presets
 * are pairs of a template's id and a preset's name. SPI must be connected.
 */
void
policy_choices_prune(const ArrayParameter *templates, const ArrayParameter *names)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTOID };
	Datum values[] = { array_datum(templates), array_datum(names),
					   CStringGetTextDatum(setting_control_plane_schema) };

	plan_execute(&plan,
				 "DELETE FROM {ext}prebuild_policy_choice c WHERE (c.control_plane {=} $3"
				 " AND NOT EXISTS (SELECT FROM {unnest 2} k (template_id, preset_name)"
				 "  WHERE k.template_id {=} c.template_id AND k.preset_name {=} c.preset_name))"
				 " OR NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n"
				 "  WHERE n.nspname {=} c.control_plane::pg_catalog.name)",
				 PLAN_FRESH_OWN, 3, argtypes, values, NULL);
}
