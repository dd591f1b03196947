/*
 * build_tags.c
 *	  The provisioner tags of a new prebuild's job: the import job's tags, then the template's
 *	  workspace tags with the values of this build.
 */
#include "compat.h"

#include "common/string.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "decision/build_tags.h"
#include "decision/control_plane.h"
#include "decision/parameter_value.h"
#include "settings.h"
#include "decision/tag_expression.h"

/* The tag of this name, or NULL. */
static NameValue *
find_tag(List *tags, const char *name)
{
	ListCell *cell;

	foreach (cell, tags)
	{
		NameValue *tag = (NameValue *) lfirst(cell);

		if (strcmp(tag->name, name) == 0)
			return tag;
	}
	return NULL;
}

/* Set a tag's value; replaces an earlier one. */
static List *
set_tag(List *tags, const char *name, const char *value)
{
	NameValue *tag = find_tag(tags, name);

	if (tag == NULL)
	{
		tag = (NameValue *) palloc(sizeof(NameValue));
		tag->name = pstrdup(name);
		tags = lappend(tags, tag);
	}
	tag->value = pstrdup(value);
	return tags;
}

/*
 * Read the import job's tags, except empty ones. Returns false if they are not an object of
 * strings. Like the control plane, takes null as nothing.
 */
static bool
read_job_tags(Jsonb *json, List **tags)
{
	JsonbIterator *iterator;
	JsonbValue item;
	char *name = NULL;

	*tags = NIL;
	if (json == NULL)
		return true;
	iterator = JsonbIteratorInit(&json->root);
	if (JB_ROOT_IS_SCALAR(json))
	{
		(void) JsonbIteratorNext(&iterator, &item, false);
		(void) JsonbIteratorNext(&iterator, &item, false);
		return item.type == jbvNull;
	}
	if (!JB_ROOT_IS_OBJECT(json))
		return false;
	for (;;)
	{
		JsonbIteratorToken token = JsonbIteratorNext(&iterator, &item, true);

		if (token == WJB_DONE)
			return true;
		if (token == WJB_KEY)
			name = pnstrdup(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE)
		{
			/* its key came before */
			Assert(name != NULL);
			if (item.type != jbvString && item.type != jbvNull)
				return false;
			if (item.type == jbvString && item.val.string.len > 0)
				*tags = set_tag(*tags, name, pnstrdup(item.val.string.val, item.val.string.len));
		}
	}
}

/* Make scope one of the two valid ones, and owner agree with it. */
static List *
normalize_scope(List *tags)
{
	NameValue *scope = find_tag(tags, "scope");

	if (scope != NULL && strcmp(scope->value, "user") == 0)
		return set_tag(tags, "owner", SYSTEM_USER);
	tags = set_tag(tags, "scope", "organization");
	return set_tag(tags, "owner", "");
}

/* Put a text into Unicode's normal form C, which HCL gives to every string. */
static char *
normalize_text(const char *value)
{
	const char *p = value;

	while (*p != '\0' && !IS_HIGHBIT_SET(*p))
		p++;
	if (*p == '\0' || GetDatabaseEncoding() != PG_UTF8)
		return pstrdup(value);
	return TextDatumGetCString(DirectFunctionCall2(
		unicode_normalize_func, CStringGetTextDatum(value), CStringGetTextDatum("NFC")));
}

/* The value of a parameter in this build, or NULL. */
static const char *
parameter_value(const TagInputs *inputs, const char *name)
{
	for (int i = 0; i < inputs->nparameters; i++)
	{
		if (strcmp(inputs->parameters[i].name, name) == 0)
			return inputs->parameters[i].value;
	}
	return NULL;
}

/* The variable of this name, or NULL. */
static const TemplateVariable *
find_variable(const TagInputs *inputs, const char *name)
{
	ListCell *cell;

	foreach (cell, inputs->variables)
	{
		const TemplateVariable *variable = (const TemplateVariable *) lfirst(cell);

		if (strcmp(variable->name, name) == 0)
			return variable;
	}
	return NULL;
}

/*
 * Resolve a variable. If Terraform evaluates the tag, the variable has its own type, and its value
 * is unknown if nobody gave one. The classic flow knows only strings.
 */
static BuildCheck
resolve_variable(const TagInputs *inputs, const NameValue *tag, const char *name,
				 const char **value, char **reason)
{
	const TemplateVariable *variable = find_variable(inputs, name);

	if (variable == NULL)
	{
		*reason = psprintf("workspace tag \"%s\" refers to variable \"%s\", which the template "
						   "version does not have",
						   tag->name, parameter_value_excerpt(name));
		return inputs->dynamic ? BUILD_UNSUPPORTED : BUILD_INVALID;
	}
	*value = *variable->value != '\0' ? variable->value : variable->default_value;
	if (!inputs->dynamic)
		return BUILD_POSSIBLE;
	if (*variable->type != '\0' && strcmp(variable->type, "string") != 0)
	{
		*reason = psprintf("workspace tag \"%s\" refers to variable \"%s\" of type %s, which only "
						   "Terraform can convert to a tag",
						   tag->name, name, parameter_value_excerpt(variable->type));
		return BUILD_UNSUPPORTED;
	}
	if (**value == '\0' && variable->required)
	{
		*reason = psprintf("workspace tag \"%s\" refers to variable \"%s\", which has no value",
						   tag->name, name);
		return BUILD_UNSUPPORTED;
	}
	return BUILD_POSSIBLE;
}

/*
 * Resolve a parameter's value. A reference names the block. The classic flow looks that name up
 * among the parameters' names. With Terraform, the parameter may have another name than its block.
 * So only one case is certain here: the same name with a value from the preset.
 */
static BuildCheck
resolve_parameter(const TagInputs *inputs, const NameValue *tag, const char *name,
				  const char **value, char **reason)
{
	*value = parameter_value(inputs, name);
	if (*value != NULL)
		return BUILD_POSSIBLE;
	*reason = psprintf(inputs->dynamic
						   ? "workspace tag \"%s\" refers to parameter \"%s\", for which the "
							 "preset has no value"
						   : "workspace tag \"%s\" refers to parameter \"%s\", which the template "
							 "version does not have",
					   tag->name, parameter_value_excerpt(name));
	return inputs->dynamic ? BUILD_UNSUPPORTED : BUILD_INVALID;
}

/*
 * Is the tag's name plain text? The table holds it as source without its quotes. The classic flow
 * uses that as it is, but Terraform evaluates it.
 */
static bool
is_plain_name(const char *name)
{
	return *name != '(' && strchr(name, '\\') == NULL && strstr(name, "${") == NULL &&
		   strstr(name, "%{") == NULL;
}

/* Resolve one workspace tag. */
static BuildCheck
resolve_tag(const TagInputs *inputs, const NameValue *tag, const char **value, char **reason)
{
	size_t length = strlen(tag->value);
	char *parsed = (char *) palloc(length + 1);
	TagExpressionKind kind = tag_expression_parse(tag->value, length, parsed);

	if (inputs->dynamic && !is_plain_name(tag->name))
		kind = TAG_OTHER;
	/* escapes decode to UTF-8 */
	if (GetDatabaseEncoding() != PG_UTF8 && !pg_is_ascii(parsed))
		kind = TAG_OTHER;

	*value = parsed;
	switch (kind)
	{
		case TAG_LITERAL:
			return BUILD_POSSIBLE;
		case TAG_PARAMETER:
			return resolve_parameter(inputs, tag, parsed, value, reason);
		case TAG_VARIABLE:
			return resolve_variable(inputs, tag, parsed, value, reason);
		case TAG_OTHER:
			break;
	}
	*reason = psprintf("workspace tag \"%s\" is an expression that only Terraform can evaluate: %s",
					   tag->name, parameter_value_excerpt(tag->value));
	return BUILD_UNSUPPORTED;
}

/* Append a string to a jsonb value under construction. */
static void
push_string(JsonbParseState **state, JsonbIteratorToken token, char *string)
{
	JsonbValue value = { .type = jbvString };

	value.val.string.val = string;
	value.val.string.len = (int) strlen(string);
	pushJsonbValue(state, token, &value);
}

/* Return pairs as a jsonb object of strings, palloc'd in the current context, as is scratch. */
Jsonb *
name_values_to_jsonb(int count, const NameValue *pairs)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < count; i++)
	{
		push_string(&state, WJB_KEY, pairs[i].name);
		push_string(&state, WJB_VALUE, pairs[i].value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Return the tags of the list as a jsonb object. */
static Jsonb *
tags_to_jsonb(List *tags)
{
	NameValue *pairs = (NameValue *) palloc(sizeof(NameValue) * Max(list_length(tags), 1));
	int count = 0;
	ListCell *cell;

	foreach (cell, tags)
		pairs[count++] = *(NameValue *) lfirst(cell);
	return name_values_to_jsonb(count, pairs);
}

/*
 * Compute the tags of the job that builds a new prebuild.
 *
 * *tags receives a jsonb object of strings. *reason receives a sentence for a person
 * unless the result is BUILD_POSSIBLE. If one tag is proven impossible and another cannot be known,
 * reports the proven one. Allocates everything, including scratch, in the current context. Raises
 * no error for anything that a user wrote.
 */
BuildCheck
build_tags(const TagInputs *inputs, Jsonb **tags, char **reason)
{
	BuildCheck check = BUILD_POSSIBLE;
	List *list;
	ListCell *cell;

	if (!read_job_tags(inputs->job_tags, &list))
	{
		*reason = pstrdup("the tags of the template version's import job are not an object of "
						  "strings");
		return BUILD_INVALID;
	}
	list = normalize_scope(list);
	foreach (cell, inputs->expressions)
	{
		const NameValue *tag = (const NameValue *) lfirst(cell);
		const char *value = NULL;
		char *tag_reason = NULL;
		BuildCheck tag_check;

		CHECK_FOR_INTERRUPTS();
		tag_check = resolve_tag(inputs, tag, &value, &tag_reason);
		if (tag_check == BUILD_POSSIBLE)
			list = set_tag(list, tag->name, normalize_text(value));
		else if (check == BUILD_POSSIBLE ||
				 (check == BUILD_UNSUPPORTED && tag_check == BUILD_INVALID))
		{
			check = tag_check;
			*reason = tag_reason;
		}
	}
	if (check == BUILD_POSSIBLE)
		*tags = tags_to_jsonb(list);
	return check;
}
