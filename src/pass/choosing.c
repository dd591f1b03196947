/*
 * choosing.c
 *	  Choose policies for presets in mode auto, at the end of a pass. The next pass acts on them.
 *
 *	  A choice takes some 10 to 40 ms, and hundreds of presets want one each day. So a pass chooses for
 *	  the few whose turn it is, at most CHOICES_AT_ONCE, and begins none after CHOOSING_MS. Presets
 *	  without a choice come first, then those that have waited longest. The number of statements is
 *	  constant, apart from one for each choice.
 *
 *	  Each choice is made in a subtransaction of its own. If one fails, the configuration holds for its
 *	  preset, and the next hour tries again.
 *
 *	  Locks: policy_choices_hold(). With it a new snapshot reads the rules and the presets, because
 *	  both may have changed since the pass judged them.
 */
#include "compat.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/events.h"
#include "base/ids.h"
#include "base/patience.h"
#include "base/subtransaction.h"
#include "demand/auto_choice.h"
#include "demand/backtest.h"
#include "demand/demand_marker.h"
#include "demand/logged_past.h"
#include "pass/choosing.h"

#define CHOICES_AT_ONCE 8
#define CHOOSING_MS 100

/* A preset whose turn it is. */
typedef struct Turn
{
	const AutoPreset *preset;
	const Id *preset_id;
	const SizedPreset *sized;
	const PresetHistory *history;
} Turn;

/* A choice under way. */
typedef struct Choosing
{
	const Turn *turn;
	TimestampTz at;
	bool suspended;	   /* another reconciler is at work, and an event has said so */
	const char *error; /* choose by it that the configuration holds; or NULL */
	AutoChoice *made;
} Choosing;

/*
 * Can a choice fail so for one preset alone? It only computes and writes one row, so whatever does not
 * end the session or the transaction can.
 */
static bool
is_presets_fault(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return false;
		default:
			return true;
	}
}

/* Order presets without a choice first, then by when their next choice was due. */
static int
compare_turns(const void *left, const void *right)
{
	const PolicyChoice *a = ((const Turn *) left)->preset->choice;
	const PolicyChoice *b = ((const Turn *) right)->preset->choice;

	if (a == NULL || b == NULL)
		return (a != NULL) - (b != NULL);
	return (a->due_at > b->due_at) - (a->due_at < b->due_at);
}

/* Is there a turn for presets of the same name already? A staged version has the same presets. */
static bool
has_turn(const Turn *turns, int n, const AutoPreset *preset)
{
	for (int i = 0; i < n; i++)
		if (id_compare(&turns[i].preset->template_id, &preset->template_id) == 0 &&
			strcmp(turns[i].preset->name, preset->name) == 0)
			return true;
	return false;
}

/* Find the presets of active versions that need a choice. Returns their number. */
static int
find_turns(const AutoSizing *sizing, TimestampTz at, Turn *turns)
{
	int n = 0;

	for (int i = 0; i < sizing->n; i++)
		if (decision_is_active(sizing->of_pool[i]) &&
			auto_choice_is_due(sizing->presets[i].choice, at))
			turns[n++] =
				(Turn){ .preset = &sizing->presets[i], .preset_id = &sizing->of_pool[i]->id };
	qsort(turns, n, sizeof(Turn), compare_turns);
	return n;
}

/*
 * Take the first few turns of different names that the control plane still has, and that are still in
 * mode auto. Returns the number.
 */
static int
take_turns(Turn *turns, int n, const SizedPresets *presets)
{
	int taken = 0;

	for (int i = 0; i < n && taken < CHOICES_AT_ONCE; i++)
	{
		Turn turn = turns[i];

		for (int j = 0; j < presets->n && turn.sized == NULL; j++)
			if (id_compare(&presets->presets[j].template_id, &turn.preset->template_id) == 0 &&
				strcmp(presets->presets[j].name, turn.preset->name) == 0)
				turn.sized = &presets->presets[j];
		if (turn.sized != NULL && sizing_rules_are_auto(&turn.sized->rules) &&
			!has_turn(turns, taken, turn.preset))
			turns[taken++] = turn;
	}
	return taken;
}

/* Give the turns their histories, by a constant number of statements. */
static void
read_histories(Turn *turns, int n, TimestampTz at)
{
	const SizedPreset *presets[CHOICES_AT_ONCE];
	PresetHistory *histories;

	for (int i = 0; i < n; i++)
		presets[i] = turns[i].sized;
	histories = logged_pasts_read(presets, n, auto_choice_reads_from(at), at);
	for (int i = 0; i < n; i++)
		turns[i].history = &histories[i];
}

/* Choose and write the choice. */
static bool
choose(void *argument)
{
	Choosing *choosing = argument;
	const Turn *turn = choosing->turn;

	choosing->made =
		choosing->error != NULL
			? auto_choice_failed(turn->sized, choosing->error, choosing->at)
			: auto_choice_make(turn->sized, turn->history, turn->preset->choice, choosing->at);
	choosing->made->choice.suspended = choosing->suspended;
	policy_choice_write(&choosing->made->choice, choosing->made->policy_name,
						choosing->made->has_figures ? &choosing->made->figures : NULL);
	return true;
}

/* Is a choice another one than the last? Then an event says so. */
static bool
has_changed(const PolicyChoice *last, const PolicyChoice *choice)
{
	return last == NULL || last->outcome != choice->outcome ||
		   last->policy.kind != choice->policy.kind || last->policy.level != choice->policy.level ||
		   last->policy.aim != choice->policy.aim || last->policy.price != choice->policy.price;
}

static void
append_field(StringInfo json, const char *key, const char *value)
{
	appendStringInfoString(json, json->len == 0 ? "{" : ", ");
	escape_json(json, key);
	appendStringInfoString(json, ": ");
	escape_json(json, value);
}

/* Say in an event what was chosen, and by what figures. palloc'd. */
static char *
describe(const PolicyChoice *last, const AutoChoice *made)
{
	StringInfoData json;

	initStringInfo(&json);
	append_field(&json, "preset_name", made->choice.preset_name);
	append_field(&json, "policy", made->policy_name);
	if (last != NULL)
		append_field(&json, "before", backtest_policy_name(&last->policy));
	append_field(&json, "outcome", policy_outcome_name(made->choice.outcome));
	append_field(&json, "note", made->choice.note);
	if (made->has_figures && made->figures.chosen.demands > 0)
		appendStringInfo(&json,
						 ", \"demand\": %d, \"hit_rate\": %.4f, \"idle_hours\": %.1f,"
						 " \"configured_hit_rate\": %.4f, \"configured_idle_hours\": %.1f",
						 made->figures.chosen.demands, simulator_hit_rate(&made->figures.chosen),
						 (double) made->figures.chosen.idle / DEMAND_HOUR,
						 simulator_hit_rate(&made->figures.configured),
						 (double) made->figures.configured.idle / DEMAND_HOUR);
	appendStringInfoChar(&json, '}');
	return json.data;
}

/*
 * Choose for one preset, or have the configuration hold if that fails. Raises errors that are not the
 * preset's fault, and locks of other sessions.
 */
static void
choose_for(const Turn *turn, TimestampTz at, bool suspended, EventBatch *events)
{
	Choosing choosing = { .turn = turn, .at = at, .suspended = suspended };
	const PolicyChoice *last = turn->preset->choice;
	ErrorData *error = subtransaction_run(choose, &choosing);

	if (error != NULL)
	{
		if (patience_lose(error) || !is_presets_fault(error))
			ReThrowError(error);
		choosing.error = error->message;
		error = subtransaction_run(choose, &choosing);
	}
	if (error != NULL)
	{
		/* not even that can be written: what was chosen before holds */
		if (patience_lose(error) || !is_presets_fault(error))
			ReThrowError(error);
		ereport(WARNING, (errcode(error->sqlerrcode),
						  errmsg("could not choose a policy for preset \"%s\" of template \"%s\": "
								 "%s",
								 turn->sized->name, turn->sized->template_name, error->message)));
	}
	else if (has_changed(last, &choosing.made->choice))
		event_add(events, "policy_chosen", &turn->sized->template_id, turn->preset_id, NULL,
				  describe(last, choosing.made));
}

/* Choose for the presets whose turn it is. */
static void
choose_some(const AutoSizing *sizing, Turn *turns, int n, TimestampTz at, EventBatch *events)
{
	TimestampTz began = GetCurrentTimestamp();
	SizedPresets presets;

	PushActiveSnapshot(GetTransactionSnapshot());
	presets = sized_presets_active();
	PopActiveSnapshot();
	n = take_turns(turns, n, &presets);
	read_histories(turns, n, at);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0 && GetCurrentTimestamp() - began > CHOOSING_MS * INT64CONST(1000))
			break;
		choose_for(&turns[i], at, sizing->others_build != NULL && sizing->choices.n > 0, events);
	}
}

/* May the choice for a preset be of use, now or when its version is active again? */
static bool
needs_choice(const Preset *preset)
{
	return sizing_rules_are_auto(&preset->details->sizing) && !preset->template_deleted;
}

/*
 * Is there a choice that is of no use? The template was deleted, say, or has no such preset any more.
 * Most passes see at once that all choices are for presets that they size.
 */
static bool
has_lost_choices(const PoolSnapshot *pool, const AutoSizing *sizing)
{
	const PolicyChoices *choices = &sizing->choices;
	bool *found = palloc0_array(bool, choices->n + 1);
	int lost = choices->n;

	for (int i = 0; i < sizing->n; i++)
		if (sizing->presets[i].choice != NULL)
		{
			bool *its = &found[sizing->presets[i].choice - choices->choices];

			lost -= !*its;
			*its = true;
		}
	for (int i = 0; lost > 0 && i < pool->npresets; i++)
	{
		const Preset *preset = &pool->presets[i];
		const PolicyChoice *choice =
			needs_choice(preset)
				? policy_choice_find(choices, &preset->template_id, preset->details->name)
				: NULL;

		if (choice != NULL)
		{
			lost -= !found[choice - choices->choices];
			found[choice - choices->choices] = true;
		}
	}
	return lost > 0;
}

/* Forget the choices that are of no use. */
static void
prune(const PoolSnapshot *pool)
{
	ArrayParameter *templates = array_new(UUIDOID);
	ArrayParameter *names = array_new(TEXTOID);

	for (int i = 0; i < pool->npresets; i++)
		if (needs_choice(&pool->presets[i]))
		{
			array_add_id(templates, &pool->presets[i].template_id);
			array_add_text(names, pool->presets[i].details->name);
		}
	policy_choices_prune(templates, names);
}

/* Has another reconciler begun or ceased to work since the last pass? */
static bool
suspension_changes(const AutoSizing *sizing)
{
	for (int i = 0; i < sizing->choices.n; i++)
		if (sizing->choices.choices[i].suspended != (sizing->others_build != NULL))
			return true;
	return false;
}

/* Note that another reconciler has begun or ceased to work, and say so once. */
static void
note_suspension(const AutoSizing *sizing, EventBatch *events)
{
	const PoolMember *others = sizing->others_build;

	policy_choices_suspend(others != NULL);
	if (others == NULL)
		event_add(events, "auto_resumed", NULL, NULL, NULL, "{}");
	else
		event_add(events, "auto_suspended", NULL, NULL, &others->id,
				  event_detail("build_id", DatumGetCString(DirectFunctionCall1(
											   uuid_out, id_datum(&others->build_id)))));
}

/*
 * Choose policies for the presets of a judgement whose turn it is at the time of the pass, and write
 * what has changed as events. The caller holds lock 7 and runs this in a subtransaction. SPI must be
 * connected.
 */
void
choosing_run(const Judgement *judgement, TimestampTz at)
{
	const AutoSizing *sizing = &judgement->sizing;
	EventBatch events = { 0 };
	bool changes = suspension_changes(sizing);
	bool lost = has_lost_choices(judgement->pool, sizing);
	Turn *turns;
	int n;

	if (sizing->n == 0 || !policy_choices_exist())
		return;
	turns = palloc_array(Turn, sizing->n);
	n = find_turns(sizing, at, turns);
	/* until passes have read all builds once they do not know what people have asked for */
	if (n > 0 && !demand_log_is_complete())
		n = 0;
	if ((n == 0 && !changes && !lost) || !policy_choices_hold())
		return;
	if (changes)
		note_suspension(sizing, &events);
	if (n > 0)
		choose_some(sizing, turns, n, at, &events);
	if (n > 0 || lost)
		prune(judgement->pool);
	events_write(&events, at);
}
