/*
 * sized_preset.c
 *	  Read presets whose pools may be sized, in the active snapshot, by a constant number of
 *	  statements. prebuild_policy is read with the rights of the extension's owner, the control plane
 *	  with the caller's.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "base/arguments.h"
#include "base/ids.h"
#include "base/plans.h"
#include "base/rows.h"
#include "demand/sized_preset.h"
#include "settings.h"

/* Where nothing says otherwise. */
#define DEFAULT_MOST 100
#define DEFAULT_SERVICE_LEVEL 0.99

/* $1: template, $2: name of the preset, $3: id of the preset; NULL unless the condition needs it. */
#define PARAMETERS 3
#define PRESETS_WITH_TEMPLATE                                                                      \
	" FROM {cp}template_version_presets p"                                                         \
	" JOIN {cp}template_versions v ON v.id {=} p.template_version_id"                              \
	" JOIN {cp}templates t ON t.id {=} v.template_id WHERE "
#define OF_ACTIVE "NOT t.deleted AND v.id {=} t.active_version_id"
#define OF_NAME "t.id {=} $1 AND p.name::pg_catalog.text {=} $2"
#define BY_ID "p.id {=} $3"

static const Oid parameter_types[PARAMETERS] = { UUIDOID, TEXTOID, UUIDOID };

/* Which presets to read. */
typedef struct PresetChoice
{
	const char *condition;
	const Id *template_id;
	const char *name;
	const Id *id;
} PresetChoice;

/* Run a statement on the chosen presets. The condition stands between "before" and "after". */
static uint64
run(KeptPlan *plan, const PresetChoice *choice, const char *before, const char *after)
{
	/* every statement uses all parameters, so that all have a type */
	char *statement = psprintf("%s%s AND ($1 IS NULL OR $1 IS NOT NULL)"
							   " AND ($2 IS NULL OR $2 IS NOT NULL)"
							   " AND ($3 IS NULL OR $3 IS NOT NULL)%s",
							   before, choice->condition, after);
	Datum values[PARAMETERS] = {
		choice->template_id == NULL ? (Datum) 0 : id_datum(choice->template_id),
		choice->name == NULL ? (Datum) 0 : CStringGetTextDatum(choice->name),
		choice->id == NULL ? (Datum) 0 : id_datum(choice->id)
	};
	const char nulls[PARAMETERS] = { choice->template_id == NULL ? 'n' : ' ',
									 choice->name == NULL ? 'n' : ' ',
									 choice->id == NULL ? 'n' : ' ' };

	return plan_execute(plan, statement, PLAN_READ, PARAMETERS, parameter_types, values, nulls);
}

/* Bring what is configured into the bounds of what anything here thinks of. */
static int
bounded(int instances)
{
	return instances < 0 ? 0 : Min(instances, SIZED_MOST);
}

static int
compare_preset_ids(const void *left, const void *right)
{
	const SizedPreset *const *a = left;
	const SizedPreset *const *b = right;

	return id_compare(&(*a)->id, &(*b)->id);
}

/* Give the presets their schedules. */
static void
read_schedules(const PresetChoice *choice, SizedPresets *presets)
{
	static KeptPlan plan;
	SizedPreset **by_id = palloc_array(SizedPreset *, presets->n + 1);
	SizedPreset key;
	SizedPreset *of_key = &key;
	uint64 n = run(&plan, choice,
				   "SELECT p.id::pg_catalog.uuid, COALESCE(s.cron_expression::pg_catalog.text, ''),"
				   " s.desired_instances::pg_catalog.int4"
				   " FROM {cp}template_version_preset_prebuild_schedules s"
				   " JOIN {cp}template_version_presets p ON p.id {=} s.preset_id"
				   " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
				   " JOIN {cp}templates t ON t.id {=} v.template_id WHERE ",
				   " ORDER BY p.id, s.id");
	PresetSchedule *schedules = palloc_array(PresetSchedule, n + 1);

	for (int i = 0; i < presets->n; i++)
		by_id[i] = &presets->presets[i];
	qsort(by_id, presets->n, sizeof(SizedPreset *), compare_preset_ids);
	for (uint64 i = 0; i < n; i++)
	{
		SizedPreset **found;

		key.id = row_id(i, 1);
		schedules[i].cron_expression = row_text(i, 2);
		schedules[i].desired_instances = bounded(DatumGetInt32(row_get(i, 3)));
		found = presets->n == 0 ? NULL
								: bsearch(&of_key, by_id, presets->n, sizeof(SizedPreset *),
										  compare_preset_ids);
		if (found == NULL)
			continue;
		if ((*found)->nschedules++ == 0)
			(*found)->schedules = &schedules[i];
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Return the rules where prebuild_policy says nothing. */
SizingRules
sizing_rules_default(void)
{
	return (SizingRules){ "off", 0, DEFAULT_MOST, DEFAULT_SERVICE_LEVEL };
}

/*
 * Put what row number "row" of prebuild_policy says, and what it leaves NULL not, over rules. Its mode
 * is in a column of SPI_tuptable, its bounds and level in the next ones. The template's row comes
 * before the preset's, and then sizing_rules_settle().
 */
void
sizing_rules_overlay(SizingRules *rules, uint64 row, int column)
{
	bool isnull;
	Datum value;

	rules->mode = row_text(row, column);
	value = row_value(row, column + 1, &isnull);
	if (!isnull)
		rules->min_instances = bounded(DatumGetInt32(value));
	value = row_value(row, column + 2, &isnull);
	if (!isnull)
		rules->max_instances = bounded(DatumGetInt32(value));
	value = row_value(row, column + 3, &isnull);
	if (!isnull)
		rules->service_level = DatumGetFloat8(value);
}

/* Make rules consistent that may come from two rows. */
void
sizing_rules_settle(SizingRules *rules)
{
	rules->max_instances = Max(rules->max_instances, rules->min_instances);
}

/* Do passes size the pools? */
bool
sizing_rules_are_auto(const SizingRules *rules)
{
	return strcmp(rules->mode, "auto") == 0;
}

static int
compare_template_and_name(const void *left, const void *right)
{
	const SizedPreset *const *a = left;
	const SizedPreset *const *b = right;
	int order = id_compare(&(*a)->template_id, &(*b)->template_id);

	if (order != 0 || (*a)->name == NULL || (*b)->name == NULL)
		return order;
	return strcmp((*a)->name, (*b)->name);
}

/* The rows of prebuild_policy for read_rules(). */
#define RULES                                                                                      \
	"SELECT y.template_id, y.preset_name, y.mode, y.min_instances, y.max_instances,"               \
	" y.service_level FROM {ext}prebuild_policy y WHERE y.control_plane {=} $1"

/*
 * Run the statement for the rules, those of a template first. One preset reads its own alone: each of
 * the table's indexes has a part of the rows. Returns the number of rows in SPI_tuptable.
 */
static uint64
run_rules(const SizedPresets *presets)
{
	static KeptPlan plan_of_one, plan_of_all;
	static const Oid argtypes[] = { TEXTOID, UUIDOID, TEXTOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema), 0, 0 };

	if (presets->n != 1)
		return plan_execute(&plan_of_all, RULES " ORDER BY y.preset_name NULLS FIRST",
							PLAN_READ_OWN, 1, argtypes, values, NULL);
	values[1] = id_datum(&presets->presets[0].template_id);
	values[2] = CStringGetTextDatum(presets->presets[0].name);
	return plan_execute(&plan_of_one,
						RULES " AND y.template_id {=} $2 AND y.preset_name IS NULL UNION ALL " RULES
							  " AND y.template_id {=} $2 AND y.preset_name {=} $3"
							  " ORDER BY preset_name NULLS FIRST",
						PLAN_READ_OWN, 3, argtypes, values, NULL);
}

/* Give the presets their rules. A preset's own row of prebuild_policy comes after its template's. */
static void
read_rules(SizedPresets *presets)
{
	SizedPreset **sorted = palloc_array(SizedPreset *, presets->n + 1);
	uint64 n;

	for (int i = 0; i < presets->n; i++)
	{
		presets->presets[i].rules = sizing_rules_default();
		sorted[i] = &presets->presets[i];
	}
	/* not with the install script of 0.1 */
	if (!OidIsValid(get_relname_relid("prebuild_policy", plans_extension_schema())))
		return;
	qsort(sorted, presets->n, sizeof(SizedPreset *), compare_template_and_name);
	n = run_rules(presets);
	for (uint64 row = 0; row < n; row++)
	{
		SizedPreset key = { .template_id = row_id(row, 1) };
		SizedPreset *of_key = &key;
		SizedPreset **found;
		bool isnull;
		Datum name = row_value(row, 2, &isnull);

		key.name = isnull ? NULL : TextDatumGetCString(name);
		found =
			bsearch(&of_key, sorted, presets->n, sizeof(SizedPreset *), compare_template_and_name);
		if (found == NULL)
			continue;
		while (found > sorted && compare_template_and_name(found - 1, &of_key) == 0)
			found--;
		for (; found < sorted + presets->n && compare_template_and_name(found, &of_key) == 0;
			 found++)
			sizing_rules_overlay(&(*found)->rules, row, 3);
	}
	SPI_freetuptable(SPI_tuptable);
	for (int i = 0; i < presets->n; i++)
		sizing_rules_settle(&presets->presets[i].rules);
}

/* Read the chosen presets, of one name in a version one. */
static SizedPresets
read_presets(const PresetChoice *choice)
{
	static KeptPlan plan;
	SizedPresets presets = { 0 };
	uint64 n = run(&plan, choice,
				   "SELECT p.id::pg_catalog.uuid, t.id::pg_catalog.uuid,"
				   " t.name::pg_catalog.text, COALESCE(p.name::pg_catalog.text, ''),"
				   " COALESCE(p.scheduling_timezone::pg_catalog.text, ''),"
				   " COALESCE(p.desired_instances, 0)::pg_catalog.int4,"
				   " COALESCE(p.invalidate_after_secs, 0)::pg_catalog.int4,"
				   " v.id {=} t.active_version_id" PRESETS_WITH_TEMPLATE,
				   " ORDER BY t.name, t.id, p.name, v.id {=} t.active_version_id DESC, p.id");

	presets.presets = palloc0_array(SizedPreset, n + 1);
	for (uint64 i = 0; i < n; i++)
	{
		SizedPreset preset = { .id = row_id(i, 1),
							   .template_id = row_id(i, 2),
							   .template_name = row_text(i, 3),
							   .name = row_text(i, 4),
							   .timezone = row_text(i, 5),
							   .base = bounded(DatumGetInt32(row_get(i, 6))),
							   .invalidate_after_secs = DatumGetInt32(row_get(i, 7)),
							   .configured = DatumGetBool(row_get(i, 8)) };
		const SizedPreset *last = &presets.presets[presets.n - 1];

		if (presets.n > 0 && id_compare(&last->template_id, &preset.template_id) == 0 &&
			strcmp(last->name, preset.name) == 0)
			continue;
		presets.presets[presets.n++] = preset;
	}
	SPI_freetuptable(SPI_tuptable);
	read_schedules(choice, &presets);
	read_rules(&presets);
	return presets;
}

/*
 * Read the presets of the active versions of all templates that are not deleted. SPI must be
 * connected. The result of this and of the next functions is palloc'd in the current context.
 */
SizedPresets
sized_presets_active(void)
{
	const PresetChoice choice = { .condition = OF_ACTIVE };

	return read_presets(&choice);
}

/* Read the preset with an id. Raises invalid_parameter_value if it does not exist. */
SizedPreset *
sized_preset_by_id(const Id *id)
{
	const PresetChoice choice = { .condition = BY_ID, .id = id };
	SizedPresets presets = read_presets(&choice);

	if (presets.n == 0)
		argument_no_such_preset(id_datum(id));
	presets.presets[0].configured = true;
	return presets.presets;
}

/*
 * Read the preset of a name in the active version of a template. If only other versions have one it
 * wants nothing. Raises undefined_object if none has.
 */
SizedPreset *
sized_preset_by_name(const Id *template_id, const char *name)
{
	const PresetChoice choice = { .condition = OF_NAME, .template_id = template_id, .name = name };
	SizedPresets presets = read_presets(&choice);
	SizedPreset *preset = presets.presets;

	if (presets.n == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("no version of template %s has a preset \"%s\"",
					DatumGetCString(DirectFunctionCall1(uuid_out, id_datum(template_id))), name)));
	if (!preset->configured)
	{
		preset->base = 0;
		preset->nschedules = 0;
	}
	return preset;
}
