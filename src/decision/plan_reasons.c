/*
 * plan_reasons.c
 *	  Why a plan is what it is, in sentences for a person. Everything is palloc'd in the current
 *	  context.
 */
#include "compat.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "decision/control_plane.h"
#include "decision/plan_reasons.h"
#include "demand/backtest.h"

/* An amount as one sets it. */
static char *
amount_text(Amount amount)
{
	return psprintf("%d%s", amount.value, amount.percent ? "%" : "");
}

/* A span in the largest unit of settings that divides it. */
static char *
span_text(int64 usecs)
{
	static const struct
	{
		int64 usecs;
		const char *name;
	} units[] = { { USECS_PER_DAY, "d" },
				  { USECS_PER_HOUR, "h" },
				  { USECS_PER_MINUTE, "min" },
				  { USECS_PER_SEC, "s" },
				  { 1000, "ms" } };

	for (size_t i = 0; i < lengthof(units); i++)
		if (usecs % units[i].usecs == 0)
			return psprintf(INT64_FORMAT "%s", usecs / units[i].usecs, units[i].name);
	return psprintf(INT64_FORMAT "us", usecs);
}

/*
 * Say which of too many members go first, unless that is just the oldest. members: those of one
 * preset that go, in order.
 */
static char *
reason_for_choice(PoolMember *const *members, int count)
{
	int sick = 0;
	int not_ready = 0;

	for (int i = 0; i < count; i++)
	{
		sick += members[i]->unwell;
		not_ready += !members[i]->unwell && !members[i]->ready;
	}
	if (sick > 0 && not_ready > 0)
		return psprintf("; %d sick and %d not ready go first", sick, not_ready);
	if (sick > 0)
		return psprintf("; %d sick go first", sick);
	if (not_ready > 0)
		return psprintf("; %d not ready go first", not_ready);
	return pstrdup("");
}

/* Say which of the expired members stay, if any. */
static char *
reason_to_stay(const Preset *preset)
{
	if (preset->serving == 0)
		return pstrdup("");
	return psprintf("; %d stay until their replacements are ready (max_unavailable %s)",
					preset->serving, amount_text(preset->policy.max_unavailable));
}

/* Of how many members a reason says what is wrong with each. */
#define MOST_COMPLAINTS 3

/* Say what is wrong with the sick members that go. */
static char *
reason_sick(const Preset *preset, PoolMember *const *members, int count)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%d of %d running are sick", preset->sick, preset->actual);
	for (int i = 0; i < Min(count, MOST_COMPLAINTS); i++)
		appendStringInfo(&text, "%s%s", i == 0 ? ": " : "; ", members[i]->complaint);
	if (count > MOST_COMPLAINTS)
		appendStringInfo(&text, "; and %d more", count - MOST_COMPLAINTS);
	return text.data;
}

/* Say how many of the members that failures left stay. */
static char *
reason_to_keep(int32 keep)
{
	if (keep == 0)
		return pstrdup("");
	return keep == 1 ? pstrdup("; the newest one stays") : psprintf("; the newest %d stay", keep);
}

/* Say which try to delete these members is next. */
static char *
reason_again(const Preset *preset, PoolMember *const *members, int count)
{
	int32 first = members[0]->delete_attempts;
	int32 last = first;

	for (int i = 1; i < count; i++)
	{
		first = Min(first, members[i]->delete_attempts);
		last = Max(last, members[i]->delete_attempts);
	}
	/* the number of tries until now is that of the next one when the first does not count */
	if (first == last)
		return psprintf("%d could not be deleted; retry %d of %d", count, first,
						preset->policy.delete_retries);
	return psprintf("%d could not be deleted; retries %d to %d of %d", count, first, last,
					preset->policy.delete_retries);
}

/* Say why a preset in mode auto wants so many, as the end of a reason. palloc'd. */
static char *
reason_to_want(const Preset *preset)
{
	const AutoPreset *sized = preset->details->sized;

	if (sized == NULL)
		return pstrdup("");
	if (sized->source != AUTO_POLICY)
		return psprintf("; mode auto: %s", auto_reason(sized));
	return psprintf("; mode auto, policy \"%s\" wants %d: %s",
					backtest_policy_name(&sized->choice->policy), sized->target,
					auto_reason(sized));
}

/* Say why some members of a preset go. All have the same verdict. */
char *
reason_to_go(const Preset *preset, PoolMember *const *members, int count)
{
	const char *inactive = preset->template_deleted		 ? "the template is deleted"
						   : preset->template_deprecated ? "the template is deprecated"
														 : "the template version is not active";

	switch (members[0]->verdict)
	{
		case VERDICT_LEAVE:
			break;
		case VERDICT_CANCEL:
			return psprintf("%d pending, none wanted: %s", count, inactive);
		case VERDICT_DELETE_INACTIVE:
			return psprintf("%d running, none wanted: %s", preset->actual, inactive);
		case VERDICT_DELETE_EXPIRED:
			return psprintf("%d of %d running are expired%s", preset->expired, preset->actual,
							reason_to_stay(preset));
		case VERDICT_DELETE_SICK:
			return reason_sick(preset, members, count);
		case VERDICT_DELETE_EXTRANEOUS:
			return psprintf("%d valid ones are running, %d are desired%s%s", preset->valid,
							preset->desired, reason_for_choice(members, count),
							reason_to_want(preset));
		case VERDICT_DELETE_LEFT:
			return psprintf("%d left by failed, canceled or stopped builds for more than %s%s",
							count, span_text(preset->policy.failed_retention),
							reason_to_keep(preset->policy.failed_keep));
		case VERDICT_DELETE_AGAIN:
			return reason_again(preset, members, count);
	}
	elog(ERROR, "a member that stays has no reason to go");
}

/* Say how many instances a preset misses, and what holds some of them back. */
static char *
reason_missing(const Preset *preset)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%d of %d desired are missing (%d valid ones running, %d starting)",
					 preset->shortfall, preset->desired, preset->valid, preset->starting);
	if (preset->serving > 0)
		appendStringInfo(&text, "; %d expired ones serve until then", preset->serving);
	if (preset->waiting > 0)
		appendStringInfo(&text, "; %d wait until some of these have gone (max_surge %s)",
						 preset->waiting, amount_text(preset->policy.max_surge));
	if (preset->capped > 0)
		appendStringInfo(&text, "; %d withheld by %s", preset->capped, preset->capped_by);
	appendStringInfoString(&text, reason_to_want(preset));
	return text.data;
}

/* Say when a hard-limited preset is tried again, if ever. */
static char *
reason_for_probe(const Preset *preset)
{
	if (preset->policy.hard_limit_retry == 0)
		return pstrdup("");
	if (preset->starting > 0)
		return pstrdup("; a probe is being built");
	return psprintf("; the next probe is at %s", timestamptz_to_str(preset->next_probe));
}

/* Say why a preset gets the instances that a pass creates, or none of those that it misses. */
char *
reason_to_create(const Preset *preset, const DecisionSettings *settings)
{
	char *missing = reason_missing(preset);

	switch (preset->withheld)
	{
		case WITHHELD_NOT:
			if (preset->hard_limited)
				return psprintf("a probe: the newest %d builds all failed; %s",
								settings->failure_hard_limit, missing);
			return missing;
		case WITHHELD_BACKOFF:
			return psprintf("%d builds failed lately: nothing is created until %s; %s",
							preset->num_failed, timestamptz_to_str(preset->backoff_until), missing);
		case WITHHELD_HARD_LIMITED:
			return psprintf("the newest %d builds all failed%s; %s", settings->failure_hard_limit,
							reason_for_probe(preset), missing);
		case WITHHELD_VALIDATION_FAILED:
			return psprintf("%s; %s",
							preset->check == BUILD_INVALID
								? preset->check_reason
								: "the control plane marked the preset as validation_failed",
							missing);
		case WITHHELD_RETRY:
			return psprintf("waiting: %s; %s", preset->check_reason, missing);
		case WITHHELD_UNSUPPORTED:
		case WITHHELD_NO_PROVISIONER:
			return psprintf("%s; %s", preset->check_reason, missing);
	}
	elog(ERROR, "unknown reason to withhold: %d", (int) preset->withheld);
}
