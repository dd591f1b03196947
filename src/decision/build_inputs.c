/*
 * build_inputs.c
 *	  Reads the parameter values and the job's tags of new prebuilds, and judges whether the
 *	  database can know them and whether they are valid.
 *
 *	  At most four statements read all presets of a call together. Each row carries its preset's
 *	  position in the call (ord), so that one pass over the rows files each of them.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/arguments.h"
#include "decision/build_inputs.h"
#include "decision/control_plane.h"
#include "catalog/control_plane_catalog.h"
#include "decision/parameter_value.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "settings.h"

/* A preset while it is judged. Strings and lists live in the batch's work context. */
typedef struct Candidate
{
	BuildInputs *result;
	bool dynamic;		 /* Terraform decides what parameters there are */
	bool workspace_tags; /* the template's workspace tags apply */
	int capacity;		 /* of result->parameters */
	Jsonb *job_tags;
	List *expressions; /* of NameValue */
	List *variables;   /* of TemplateVariable */
} Candidate;

typedef struct Batch
{
	int count;
	Candidate *candidates;
	Datum ids;			   /* uuid[] */
	MemoryContext context; /* of the result */
	MemoryContext work;	   /* until the results are complete */
	MemoryContext scratch; /* reset for each row and each preset */
	HeapTuple row;		   /* the one being filed */
	bool tags_by_table;	   /* the control plane knows workspace tags only from their table */
} Batch;

/*
 * Workspace tags that their table does not show as they are. It has those under count or for_each
 * without the condition, and lacks those in modules. The plan of the import has both.
 */
#define HIDDEN_TAGS                                                                                \
	"$.configuration.root_module ? (exists (@.resources[*] ? (@.type == \"coder_workspace_tags\""  \
	" && (exists (@.count_expression) || exists (@.for_each_expression))))"                        \
	" || exists (@.module_calls.** ? (@.type == \"coder_workspace_tags\")))"

/* Read the row's column. Returns false for NULL. Columns count from 1. */
static bool
column_datum(Batch *batch, int column, Datum *value)
{
	bool isnull;

	*value = SPI_getbinval(batch->row, SPI_tuptable->tupdesc, column, &isnull);
	return !isnull;
}

/* Return the row's text column in the current context, or NULL. */
static char *
column_text(Batch *batch, int column)
{
	Datum value;

	return column_datum(batch, column, &value) ? TextDatumGetCString(value) : NULL;
}

/* Like column_text(), but "" for NULL, which a control plane's own tables do not hold. */
static char *
column_string(Batch *batch, int column)
{
	char *text = column_text(batch, column);

	return text != NULL ? text : pstrdup("");
}

/* Return the row's boolean column; false for NULL. */
static bool
column_bool(Batch *batch, int column)
{
	Datum value;

	return column_datum(batch, column, &value) && DatumGetBool(value);
}

/* Read the row's integer column. Returns false for NULL. */
static bool
column_int(Batch *batch, int column, int32 *number)
{
	Datum value;

	if (!column_datum(batch, column, &value))
		return false;
	*number = DatumGetInt32(value);
	return true;
}

/* Rule a candidate out. Copies the reason to the result's context. */
static void
rule_out(Batch *batch, Candidate *candidate, BuildCheck check, const char *reason)
{
	BuildInputs *result = candidate->result;

	result->check = check;
	result->reason = MemoryContextStrdup(batch->context, reason);
	result->nparameters = 0;
	result->parameters = NULL;
}

/*
 * Is this provisioner version (major.minor) at least 1.6? From then on, a provisioner gives the
 * control plane what Terraform needs to decide on parameters.
 */
static bool
supports_dynamic(const char *version)
{
	char *major_text = pstrdup(version);
	char *dot = strchr(major_text, '.');
	int64 major;
	int64 minor;

	if (dot == NULL)
		return false;
	*dot = '\0';
	if (!parameter_parse_integer(major_text, &major) || !parameter_parse_integer(dot + 1, &minor))
		return false;
	return major > 1 || (major == 1 && minor >= 6);
}

/*
 * Run one statement for all presets, and file each row of a candidate that is not ruled out.
 * file_row runs in the scratch context, which each row resets.
 */
static void
read_rows(Batch *batch, KeptPlan *kept, const char *sql,
		  void (*file_row)(Batch *batch, Candidate *candidate))
{
	static const Oid argtypes[] = { UUIDARRAYOID };
	Datum values[] = { batch->ids };
	uint64 nrows = plan_execute(kept, sql, PLAN_READ, lengthof(argtypes), argtypes, values, NULL);

	for (uint64 i = 0; i < nrows; i++)
	{
		Candidate *candidate;
		MemoryContext old_context;
		int64 ord;
		Datum value;

		CHECK_FOR_INTERRUPTS();
		batch->row = SPI_tuptable->vals[i];
		(void) column_datum(batch, 1, &value);
		ord = DatumGetInt64(value);
		if (ord < 1 || ord > batch->count)
			elog(ERROR, "row of preset number " INT64_FORMAT " of %d", ord, batch->count);
		candidate = &batch->candidates[ord - 1];
		if (candidate->result->check != BUILD_POSSIBLE)
			continue;
		old_context = MemoryContextSwitchTo(batch->scratch);
		file_row(batch, candidate);
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(batch->scratch);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Judge the template version's import job by its status. Returns true if it succeeded. */
static bool
judge_import_job(Batch *batch, Candidate *candidate, const char *status)
{
	if (status != NULL && strcmp(status, "succeeded") == 0)
		return true;
	if (status == NULL)
		rule_out(batch, candidate, BUILD_NOT_YET, "the template version has no import job");
	else if (strcmp(status, "failed") == 0 || strcmp(status, "canceled") == 0)
		rule_out(batch, candidate, BUILD_INVALID,
				 psprintf("the import job of the template version is %s", status));
	else
		rule_out(batch, candidate, BUILD_NOT_YET,
				 psprintf("the import job of the template version is still %s", status));
	return false;
}

/* File what the statement found of a preset's version. */
static void
file_version(Batch *batch, Candidate *candidate)
{
	BuildInputs *result = candidate->result;
	char *provisioner_version = column_text(batch, 5);
	bool classic_chosen = column_bool(batch, 4);
	bool can_be_dynamic = provisioner_version != NULL && supports_dynamic(provisioner_version);
	Datum value;

	result->found = column_bool(batch, 2);
	if (!result->found)
	{
		rule_out(batch, candidate, BUILD_NOT_YET, "the preset does not exist any more");
		return;
	}
	if (!column_bool(batch, 3))
	{
		rule_out(batch, candidate, BUILD_INVALID,
				 "the preset's template version does not belong to a template");
		return;
	}
	if (!judge_import_job(batch, candidate, column_text(batch, 6)))
		return;
	if (column_bool(batch, 10))
	{
		rule_out(batch, candidate, BUILD_INVALID,
				 "the template version uses legacy parameters, which are no longer supported");
		return;
	}
	candidate->dynamic = !classic_chosen && can_be_dynamic;
	candidate->workspace_tags = classic_chosen || can_be_dynamic || batch->tags_by_table;
	if (candidate->dynamic && column_bool(batch, 12))
	{
		rule_out(
			batch, candidate, BUILD_UNSUPPORTED,
			"the template sets workspace tags under count or for_each, or in a module, and only "
			"Terraform can tell which of them apply");
		return;
	}

	MemoryContextSwitchTo(batch->context);
	if (column_datum(batch, 7, &value))
		result->file_id = *DatumGetUUIDP(value);
	result->storage_method = column_string(batch, 8);
	result->provisioner = column_string(batch, 11);
	MemoryContextSwitchTo(batch->work);
	if (column_datum(batch, 9, &value))
		candidate->job_tags = DatumGetJsonbPCopy(value);
}

/* Read the version, its import job and the flow of every preset. */
static void
read_versions(Batch *batch)
{
	static KeptPlan kept;
	bool has_flow = control_plane_has(FEATURE_CLASSIC_CHOICE);
	bool has_values = control_plane_has(FEATURE_TERRAFORM_VALUES);
	bool has_plan = control_plane_has(FEATURE_TERRAFORM_PLAN);
	bool has_legacy = control_plane_has(FEATURE_LEGACY_PARAMETERS);
	char *sql;

	batch->tags_by_table = !control_plane_has(FEATURE_TAGS_BY_FLOW);
	sql = psprintf(
		"SELECT u.ord, r.id IS NOT NULL, t.id IS NOT NULL, %s, %s, j.job_status::pg_catalog.text,"
		"		j.file_id::pg_catalog.uuid, j.storage_method::pg_catalog.text,"
		"		j.tags::pg_catalog.jsonb, %s,"
		"		t.provisioner::pg_catalog.text, %s"
		"  FROM pg_catalog.unnest($1) WITH ORDINALITY AS u(id, ord)"
		"  LEFT JOIN {cp}template_version_presets r ON r.id {=} u.id"
		"  LEFT JOIN {cp}template_versions v ON v.id {=} r.template_version_id"
		"  LEFT JOIN {cp}templates t ON t.id {=} v.template_id"
		"  LEFT JOIN {cp}provisioner_jobs j ON j.id {=} v.job_id"
		"  %s",
		has_flow && has_values ? "t.use_classic_parameter_flow::pg_catalog.bool" : "true",
		has_values ? "f.provisionerd_version::pg_catalog.text" : "NULL::pg_catalog.text",
		has_legacy ? "EXISTS (SELECT FROM {cp}parameter_schemas s WHERE s.job_id {=} j.id)"
				   : "false",
		has_flow && has_values && has_plan && !batch->tags_by_table
			? "CASE WHEN NOT t.use_classic_parameter_flow"
			  " THEN pg_catalog.jsonb_path_exists(f.cached_plan, '" HIDDEN_TAGS "') END"
			: "false",
		has_values ? "LEFT JOIN {cp}template_version_terraform_values f"
					 "	ON f.template_version_id {=} v.id"
				   : "");

	read_rows(batch, &kept, sql, file_version);
	pfree(sql);
}

/* Add a parameter to those stored with the build. Copies both strings. */
static void
add_parameter(Batch *batch, Candidate *candidate, const char *name, const char *value)
{
	BuildInputs *result = candidate->result;
	MemoryContext old_context = MemoryContextSwitchTo(batch->context);

	if (result->nparameters == candidate->capacity)
	{
		candidate->capacity = Max(8, candidate->capacity * 2);
		result->parameters =
			result->parameters == NULL
				? palloc(sizeof(NameValue) * candidate->capacity)
				: repalloc(result->parameters, sizeof(NameValue) * candidate->capacity);
	}
	result->parameters[result->nparameters].name = pstrdup(name);
	result->parameters[result->nparameters].value = pstrdup(value);
	result->nparameters++;
	MemoryContextSwitchTo(old_context);
}

/* Judge a parameter that the version knows. given: the preset's value, or NULL. */
static void
judge_parameter(Batch *batch, Candidate *candidate, const ParameterRule *rule, const char *given)
{
	char *fault;

	if (candidate->dynamic)
	{
		/* only Terraform knows the rules and the default that apply with these values */
		if (rule->required && (given == NULL || *given == '\0'))
			rule_out(batch, candidate, BUILD_UNSUPPORTED,
					 psprintf("parameter \"%s\" is required, the preset gives it no value, and "
							  "only Terraform can tell what it would become",
							  rule->name));
		else if (given != NULL)
			add_parameter(batch, candidate, rule->name, given);
		return;
	}
	fault = parameter_value_fault(rule, given);
	if (fault != NULL)
		rule_out(batch, candidate, BUILD_INVALID, fault);
	else
		add_parameter(batch, candidate, rule->name, given != NULL ? given : rule->default_value);
}

/* File a parameter of the version, a value of the preset, or both. */
static void
file_parameter(Batch *batch, Candidate *candidate)
{
	ParameterRule rule = { 0 };
	char *given = column_text(batch, 4);
	Datum value;

	rule.name = column_string(batch, 2);
	if (!column_bool(batch, 3))
	{
		/* the classic flow never reads it; Terraform may create the parameter */
		if (candidate->dynamic)
			rule_out(batch, candidate, BUILD_UNSUPPORTED,
					 psprintf("the preset gives a value to parameter \"%s\", which the template "
							  "version does not list, and only Terraform can tell whether it "
							  "exists",
							  parameter_value_excerpt(rule.name)));
		return;
	}
	rule.type = column_string(batch, 5);
	rule.form_type = column_string(batch, 6);
	rule.default_value = column_string(batch, 7);
	rule.required = column_bool(batch, 8);
	rule.options = column_datum(batch, 9, &value) ? DatumGetJsonbP(value) : NULL;
	rule.has_min = column_int(batch, 10, &rule.min);
	rule.has_max = column_int(batch, 11, &rule.max);
	rule.monotonic = column_bool(batch, 12);
	judge_parameter(batch, candidate, &rule, given);
}

/*
 * Read and judge the parameters of every preset. If a preset has a name twice, which the control
 * plane's tables do not forbid, the first by id counts.
 */
static void
read_parameters(Batch *batch)
{
	static KeptPlan kept;

	read_rows(
		batch, &kept,
		"WITH asked AS ("
		"	SELECT u.ord, r.id, r.template_version_id"
		"	  FROM pg_catalog.unnest($1) WITH ORDINALITY AS u(id, ord)"
		"	  JOIN {cp}template_version_presets r ON r.id {=} u.id),"
		"known AS ("
		"	SELECT a.ord, p.*"
		"	  FROM asked a"
		"	  JOIN {cp}template_version_parameters p"
		"		ON p.template_version_id {=} a.template_version_id),"
		"given AS ("
		"	SELECT DISTINCT ON (a.ord, g.name) a.ord, g.name, g.value"
		"	  FROM asked a"
		"	  JOIN {cp}template_version_preset_parameters g"
		"		ON g.template_version_preset_id {=} a.id"
		"	 ORDER BY a.ord, g.name, g.id)"
		"SELECT coalesce(k.ord, g.ord), coalesce(k.name, g.name)::pg_catalog.text,"
		"		k.ord IS NOT NULL, g.value::pg_catalog.text, k.type::pg_catalog.text,"
		"		k.form_type::pg_catalog.text, k.default_value::pg_catalog.text,"
		"		k.required::pg_catalog.bool,"
		"		k.options::pg_catalog.jsonb, k.validation_min::pg_catalog.int4, k.validation_max::pg_catalog.int4,"
		"		k.validation_monotonic {<>} ''"
		"  FROM known k"
		"  FULL JOIN given g ON (g.ord {=} k.ord) AND (g.name {=} k.name)"
		" ORDER BY 1, coalesce(k.name, g.name)::pg_catalog.text COLLATE pg_catalog.\"C\"",
		file_parameter);
}

/* File a variable. */
static void
file_variable(Batch *batch, Candidate *candidate)
{
	TemplateVariable *variable;

	MemoryContextSwitchTo(batch->work);
	variable = (TemplateVariable *) palloc(sizeof(TemplateVariable));
	variable->name = column_string(batch, 2);
	variable->type = column_string(batch, 3);
	variable->value = column_string(batch, 4);
	variable->default_value = column_string(batch, 5);
	variable->required = column_bool(batch, 6);
	candidate->variables = lappend(candidate->variables, variable);
}

/* File a workspace tag. */
static void
file_expression(Batch *batch, Candidate *candidate)
{
	NameValue *tag;

	if (!candidate->workspace_tags)
		return;
	MemoryContextSwitchTo(batch->work);
	tag = (NameValue *) palloc(sizeof(NameValue));
	tag->name = column_string(batch, 2);
	tag->value = column_string(batch, 3);
	candidate->expressions = lappend(candidate->expressions, tag);
}

/* Read the workspace tags of every preset, and the variables of the versions that have any. */
static void
read_workspace_tags(Batch *batch)
{
	static KeptPlan kept_tags;
	static KeptPlan kept_variables;

	read_rows(batch, &kept_tags,
			  "SELECT u.ord, w.key::pg_catalog.text, w.value::pg_catalog.text"
			  "	 FROM pg_catalog.unnest($1) WITH ORDINALITY AS u(id, ord)"
			  "	 JOIN {cp}template_version_presets r ON r.id {=} u.id"
			  "	 JOIN {cp}template_version_workspace_tags w"
			  "	   ON w.template_version_id {=} r.template_version_id"
			  " ORDER BY u.ord, w.key COLLATE pg_catalog.\"C\"",
			  file_expression);
	read_rows(batch, &kept_variables,
			  "SELECT u.ord, x.name::pg_catalog.text, x.type::pg_catalog.text,"
			  "		  x.value::pg_catalog.text, x.default_value::pg_catalog.text,"
			  "		  x.required::pg_catalog.bool"
			  "	 FROM pg_catalog.unnest($1) WITH ORDINALITY AS u(id, ord)"
			  "	 JOIN {cp}template_version_presets r ON r.id {=} u.id"
			  "	 JOIN {cp}template_version_variables x"
			  "	   ON x.template_version_id {=} r.template_version_id"
			  " WHERE EXISTS (SELECT FROM {cp}template_version_workspace_tags w"
			  "				   WHERE w.template_version_id {=} r.template_version_id)",
			  file_variable);
}

/* Compute the job's tags of a candidate. */
static void
judge_tags(Batch *batch, Candidate *candidate)
{
	BuildInputs *result = candidate->result;
	MemoryContext old_context = MemoryContextSwitchTo(batch->scratch);
	TagInputs inputs;
	Jsonb *tags = NULL;
	char *reason = NULL;
	BuildCheck check;

	inputs.job_tags = candidate->job_tags;
	inputs.expressions = candidate->expressions;
	inputs.variables = candidate->variables;
	inputs.dynamic = candidate->dynamic;
	inputs.nparameters = result->nparameters;
	inputs.parameters = result->parameters;
	check = build_tags(&inputs, &tags, &reason);
	if (check == BUILD_POSSIBLE)
	{
		MemoryContextSwitchTo(batch->context);
		result->tags = DatumGetJsonbPCopy(JsonbPGetDatum(tags));
	}
	else
		rule_out(batch, candidate, check, reason);
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(batch->scratch);
}

/* Start a batch. Every preset is possible until something rules it out. */
static BuildInputs *
start_batch(Batch *batch, int npresets, const pg_uuid_t *preset_ids)
{
	BuildInputs *results = palloc0(sizeof(BuildInputs) * Max(npresets, 1));
	Datum *ids;
	MemoryContext old_context;

	batch->count = npresets;
	batch->context = CurrentMemoryContext;
	batch->work =
		AllocSetContextCreate(batch->context, "prebuild build inputs", ALLOCSET_DEFAULT_SIZES);
	batch->scratch =
		AllocSetContextCreate(batch->work, "prebuild build inputs row", ALLOCSET_DEFAULT_SIZES);

	old_context = MemoryContextSwitchTo(batch->work);
	batch->candidates = palloc0(sizeof(Candidate) * Max(npresets, 1));
	ids = palloc(sizeof(Datum) * Max(npresets, 1));
	for (int i = 0; i < npresets; i++)
	{
		batch->candidates[i].result = &results[i];
		ids[i] = UUIDPGetDatum(&preset_ids[i]);
	}
	batch->ids =
		PointerGetDatum(construct_array(ids, npresets, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	MemoryContextSwitchTo(old_context);
	return results;
}

/*
 * Read what a new prebuild of each preset is built with. Returns an array of npresets results in
 * the order of the ids, palloc'd in the current context. SPI must be connected. Reads in the active
 * snapshot, without row locks. Raises what the statements raise (a missing table or column).
 */
BuildInputs *
build_inputs_read(int npresets, const pg_uuid_t *preset_ids)
{
	Batch batch = { 0 };
	BuildInputs *results = start_batch(&batch, npresets, preset_ids);

	if (npresets > 0)
	{
		read_versions(&batch);
		read_parameters(&batch);
		read_workspace_tags(&batch);
	}
	for (int i = 0; i < npresets; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (results[i].check == BUILD_POSSIBLE)
			judge_tags(&batch, &batch.candidates[i]);
	}
	MemoryContextDelete(batch.work);
	return results;
}

/* The verdict as SQL callers see it. */
static const char *
verdict_name(BuildCheck check)
{
	switch (check)
	{
		case BUILD_POSSIBLE:
			return "possible";
		case BUILD_NOT_YET:
			return "not_yet";
		case BUILD_INVALID:
			return "invalid";
		case BUILD_UNSUPPORTED:
			return "unsupported";
		case BUILD_NO_PROVISIONER:
			break; /* depends on the moment, not on the inputs */
	}
	elog(ERROR, "unknown verdict %d", (int) check);
}

PG_FUNCTION_INFO_V1(prebuild_build_inputs);

/* prebuild_build_inputs(preset_id uuid): one preset's inputs as a row. */
Datum
prebuild_build_inputs(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	BuildInputs *inputs;
	ResultRow row;
	bool possible;

	argument_require(fcinfo, 0, "preset_id");
	plans_enter(fcinfo);
	MemoryContextSwitchTo(context);
	control_plane_require();
	inputs = build_inputs_read(1, PG_GETARG_UUID_P(0));
	plans_leave();
	if (!inputs->found)
		argument_no_such_preset(PG_GETARG_DATUM(0));

	possible = inputs->check == BUILD_POSSIBLE;
	row.n = 0;
	result_put_bool(&row, possible);
	result_put_text(&row, verdict_name(inputs->check));
	result_put_text(&row, inputs->reason);
	result_put_jsonb(&row, possible ? name_values_to_jsonb(inputs->nparameters, inputs->parameters)
									: NULL);
	result_put_jsonb(&row, possible ? inputs->tags : NULL);
	PG_RETURN_DATUM(result_row_datum(fcinfo, &row));
}
