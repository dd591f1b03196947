/*
 * parameter_value.c
 *	  Whether a template version's parameter accepts a value: required, options, type and range.
 *	  Regular expressions are RE2, so the provisioner checks them.
 *
 *	  The value comes from the preset's author, so nothing in this file raises an error for it.
 */
#include "compat.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"

#include "decision/parameter_value.h"

/* Longest part of a value that a sentence for a person repeats, in bytes. */
#define EXCERPT_BYTES 100

/* What the JSON parser reports of a list of strings. */
typedef struct StringList
{
	bool started; /* inside the array */
	bool broken;  /* found something other than a string or null */
	List *strings;
} StringList;

/*
 * Return the value as a sentence quotes it. Cuts a long one at a character's boundary. palloc'd in
 * the current context.
 */
char *
parameter_value_excerpt(const char *value)
{
	int length = (int) strlen(value);

	if (length <= EXCERPT_BYTES)
		return pstrdup(value);
	return psprintf("%.*s...", pg_mbcliplen(value, length, EXCERPT_BYTES), value);
}

/*
 * Parse a whole number as the control plane does: an optional sign and decimal digits, nothing
 * around them, in 64 bits. Returns false for anything else.
 */
bool
parameter_parse_integer(const char *text, int64 *number)
{
	const char *digits = text + (*text == '-' || *text == '+');
	char *end;

	if (!isdigit((unsigned char) *digits))
		return false;
	errno = 0;
	*number = (int64) strtoll(text, &end, 10);
	return *end == '\0' && errno == 0;
}

/*
 * Is this certainly not a number? The provisioner reads a floating-point number. Its hexadecimal
 * forms differ in details, so never reject those.
 */
static bool
is_no_number(const char *text)
{
	const char *digits = text + (*text == '-' || *text == '+');
	char *end;

	if (isspace((unsigned char) *text))
		return true;
	if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X'))
		return false;
	(void) strtod(text, &end);
	return end == text || *end != '\0';
}

/*
 * Does the JSON text nest at most one array, and no object? Check it before parsing, because the
 * server's parser recurses and raises an error if it runs out of stack.
 */
static bool
is_flat(const char *json)
{
	bool in_string = false;
	int brackets = 0;

	for (const char *p = json; *p != '\0'; p++)
	{
		if (*p == '"')
			in_string = !in_string;
		else if (in_string && *p == '\\' && p[1] != '\0')
			p++;
		else if (!in_string && (*p == '{' || (*p == '[' && ++brackets > 1)))
			return false;
	}
	return true;
}

static CompatJsonResult
list_start(void *state)
{
	((StringList *) state)->started = true;
	COMPAT_JSON_CONTINUE;
}

static CompatJsonResult
list_scalar(void *state, char *token, JsonTokenType type)
{
	StringList *list = (StringList *) state;

	if (type == JSON_TOKEN_STRING && list->started)
		list->strings = lappend(list->strings, token);
	else if (type == JSON_TOKEN_NULL)
		list->strings = list->started ? lappend(list->strings, pstrdup("")) : NIL;
	else
		list->broken = true;
	COMPAT_JSON_CONTINUE;
}

/*
 * Read a JSON array of strings. Like the control plane, takes null as an empty list or an empty
 * string. decoded: decode the strings' escapes; that fails for some valid strings. Returns false
 * for anything else.
 */
static bool
read_string_list(const char *json, bool decoded, List **strings)
{
	StringList list = { 0 };
	JsonSemAction actions = { 0 };

	if (!is_flat(json))
		return false;
	actions.semstate = &list;
	actions.array_start = list_start;
	actions.scalar = list_scalar;
	if (pg_parse_json(compat_json_lexer(json, decoded), &actions) != JSON_SUCCESS)
		return false;
	*strings = list.strings;
	return !list.broken;
}

/* Return the values of the options. Ignores elements of another shape. */
static List *
option_values(Jsonb *options)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue element;
	List *values = NIL;

	if (options == NULL || !JB_ROOT_IS_ARRAY(options) || JB_ROOT_IS_SCALAR(options))
		return NIL;
	iterator = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&iterator, &element, false);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) == WJB_ELEM)
	{
		JsonbValue *value;

		if (element.type != jbvBinary || !JsonContainerIsObject(element.val.binary.data))
			continue;
		value = getKeyJsonValueFromContainer(element.val.binary.data, "value", 5, NULL);
		if (value == NULL)
			values = lappend(values, pstrdup(""));
		else if (value->type == jbvString)
			values = lappend(values, pnstrdup(value->val.string.val, value->val.string.len));
	}
	return values;
}

/* Is the string in the list? */
static bool
contains(const List *strings, const char *wanted)
{
	ListCell *cell;

	foreach (cell, strings)
	{
		if (strcmp((const char *) lfirst(cell), wanted) == 0)
			return true;
	}
	return false;
}

/* Return what is wrong with a value if the parameter has options, or NULL. */
static char *
option_fault(const ParameterRule *rule, const char *value)
{
	List *options = option_values(rule->options);
	List *chosen = NIL;
	ListCell *cell;

	if (options == NIL)
		return NULL;
	if (strcmp(rule->type, "list(string)") != 0 || strcmp(rule->form_type, "multi-select") != 0)
		chosen = list_make1(unconstify(char *, value));
	else if (!read_string_list(value, true, &chosen))
		return psprintf("value \"%s\" of parameter \"%s\" is not a JSON array of options",
						parameter_value_excerpt(value), rule->name);
	foreach (cell, chosen)
	{
		if (!contains(options, (const char *) lfirst(cell)))
			return psprintf("value \"%s\" of parameter \"%s\" is not one of its options",
							parameter_value_excerpt((const char *) lfirst(cell)), rule->name);
	}
	return NULL;
}

/*
 * Return what is wrong with a number, or NULL. With a range, or an order among builds, the value
 * must be an integer. Otherwise the provisioner accepts any number, and an empty value.
 */
static char *
number_fault(const ParameterRule *rule, const char *value)
{
	int64 number;

	if (!rule->has_min && !rule->has_max && !rule->monotonic)
	{
		if (*value == '\0' || !is_no_number(value))
			return NULL;
		return psprintf("value \"%s\" of parameter \"%s\" is not a number",
						parameter_value_excerpt(value), rule->name);
	}
	if (!parameter_parse_integer(value, &number))
		return psprintf("value \"%s\" of parameter \"%s\" is not an integer",
						parameter_value_excerpt(value), rule->name);
	if (rule->has_min && number < rule->min)
		return psprintf("value " INT64_FORMAT " of parameter \"%s\" is below its minimum %d",
						number, rule->name, rule->min);
	if (rule->has_max && number > rule->max)
		return psprintf("value " INT64_FORMAT " of parameter \"%s\" is above its maximum %d",
						number, rule->name, rule->max);
	return NULL;
}

/* Return what is wrong with a value's type or range, or NULL. */
static char *
type_fault(const ParameterRule *rule, const char *value)
{
	List *strings;

	if (strcmp(rule->type, "number") == 0)
		return number_fault(rule, value);
	if (strcmp(rule->type, "bool") == 0 && strcmp(value, "true") != 0 &&
		strcmp(value, "false") != 0)
		return psprintf("value \"%s\" of parameter \"%s\" is neither true nor false",
						parameter_value_excerpt(value), rule->name);
	if (strcmp(rule->type, "list(string)") == 0 && !read_string_list(value, false, &strings))
		return psprintf("value \"%s\" of parameter \"%s\" is not a JSON array of strings",
						parameter_value_excerpt(value), rule->name);
	return NULL;
}

/*
 * Return what is wrong with a preset's value for a parameter, as a sentence for a person, or NULL
 * if nothing is. given: NULL if the preset has no value. Raises no error. Leaves scratch in the
 * current context.
 */
char *
parameter_value_fault(const ParameterRule *rule, const char *given)
{
	bool empty = given == NULL || *given == '\0';
	const char *value = empty ? rule->default_value : given;
	char *fault;

	if (rule->required && empty)
		return psprintf("parameter \"%s\" is required and the preset gives it no value",
						rule->name);
	fault = option_fault(rule, value);
	return fault != NULL ? fault : type_fault(rule, value);
}
