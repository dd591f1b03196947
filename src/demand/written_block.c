/*
 * written_block.c
 *	  The block "prebuilds" of a preset, as the author of a template writes it: instances, and
 *	  schedules that do not overlap. It is a SizedPreset with other instances and schedules, so that
 *	  what reads a preset reads it, too.
 *
 *	  Everything is palloc'd in the current context.
 */
#include "compat.h"

#include "lib/stringinfo.h"

#include "cron/timezone.h"
#include "demand/written_block.h"

/* Schedules of one block, at most. */
#define SCHEDULES_MOST 12

/* The preset with a number at all hours. */
SizedPreset
block_of_level(const SizedPreset *preset, int level)
{
	SizedPreset block = *preset;

	block.base = level;
	block.nschedules = 0;
	block.schedules = NULL;
	return block;
}

/* Bring a level into the bounds that the preset's policy sets. */
static int
bounded_level(const SizedPreset *preset, int level)
{
	return Min(Max(level, preset->rules.min_instances), preset->rules.max_instances);
}

/* Return the level of most hours of the week. */
static int
usual_level(const SizedPreset *preset, const WeekPiece *pieces, int npieces)
{
	int usual = 0;
	int most = -1;

	for (int i = 0; i < npieces; i++)
	{
		int level = bounded_level(preset, pieces[i].level);
		int hours = 0;

		for (int j = 0; j < npieces; j++)
			if (bounded_level(preset, pieces[j].level) == level)
				hours += (pieces[j].end - pieces[j].first) * (pieces[j].weekend ? 2 : 5);
		if (hours > most)
		{
			most = hours;
			usual = level;
		}
	}
	return usual;
}

/* Write the hours of a piece as a cron expression. */
static char *
piece_cron(const WeekPiece *piece)
{
	const char *days = piece->weekend ? "0,6" : "1-5";

	if (piece->first == 0 && piece->end == 24)
		return psprintf("* * * * %s", days);
	if (piece->end - piece->first == 1)
		return psprintf("* %d * * %s", piece->first, days);
	return psprintf("* %d-%d * * %s", piece->first, piece->end - 1, days);
}

/*
 * Make the preset with a weekly schedule: the level of most hours is that of the preset, the others
 * have schedules. Returns false if the schedule has too many pieces for that. Schedules take the
 * preset's time zone, or UTC.
 */
bool
block_of_week(const SizedPreset *preset, const WeekSchedule *week, SizedPreset *block)
{
	WeekPiece pieces[WEEK_PIECES_ALL];
	int npieces = week_schedule_pieces(week, pieces);

	if (npieces == 0)
		return false;
	*block = block_of_level(preset, usual_level(preset, pieces, npieces));
	block->schedules = palloc0_array(PresetSchedule, WEEK_PIECES_ALL);
	for (int i = 0; i < npieces; i++)
	{
		int level = bounded_level(preset, pieces[i].level);

		if (level == block->base)
			continue;
		block->schedules[block->nschedules++] = (PresetSchedule){ piece_cron(&pieces[i]), level };
	}
	if (preset->timezone[0] == '\0' || timezone_find(preset->timezone) == NULL)
		block->timezone = pstrdup("UTC");
	return block->nschedules <= SCHEDULES_MOST &&
		   schedule_check(block->nschedules, block->schedules) == NULL;
}

/* The preset with what is configured, but for schedules that have a fault. */
SizedPreset
block_as_configured(const SizedPreset *preset)
{
	int deciding;
	char *fault;

	schedule_desired(preset->timezone, preset->nschedules, preset->schedules, preset->base, 0,
					 &deciding, &fault);
	return fault == NULL ? *preset : block_of_level(preset, preset->base);
}

/* Say in a few words how many instances a block has. */
char *
block_summary(const SizedPreset *block)
{
	int least = block->base;
	int most = block->base;

	for (int i = 0; i < block->nschedules; i++)
	{
		least = Min(least, block->schedules[i].desired_instances);
		most = Max(most, block->schedules[i].desired_instances);
	}
	if (block->nschedules == 0)
		return psprintf("%d", block->base);
	return psprintf("%d to %d by %d schedule%s", least, most, block->nschedules,
					block->nschedules == 1 ? "" : "s");
}

/* Append a string in Terraform's quotes. */
static void
append_quoted(StringInfo text, const char *string)
{
	appendStringInfoChar(text, '"');
	for (; *string != '\0'; string++)
	{
		if (*string == '\n')
			appendStringInfoString(text, "\\n");
		else if (*string == '\r')
			appendStringInfoString(text, "\\r");
		else
		{
			if (*string == '"' || *string == '\\')
				appendStringInfoChar(text, '\\');
			/* a template would begin here */
			if ((*string == '$' || *string == '%') && string[1] == '{')
				appendStringInfoChar(text, *string);
			appendStringInfoChar(text, *string);
		}
	}
	appendStringInfoChar(text, '"');
}

/* Write a block in Terraform's language. */
char *
block_terraform(const SizedPreset *block)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "prebuilds {\n  instances = %d\n", block->base);
	if (block->invalidate_after_secs > 0)
		appendStringInfo(&text, "  expiration_policy {\n    ttl = %d\n  }\n",
						 block->invalidate_after_secs);
	if (block->nschedules > 0)
	{
		appendStringInfoString(&text, "  scheduling {\n    timezone = ");
		append_quoted(&text, block->timezone);
		appendStringInfoChar(&text, '\n');
		for (int i = 0; i < block->nschedules; i++)
		{
			appendStringInfoString(&text, "    schedule {\n      cron      = ");
			append_quoted(&text, block->schedules[i].cron_expression);
			appendStringInfo(&text, "\n      instances = %d\n    }\n",
							 block->schedules[i].desired_instances);
		}
		appendStringInfoString(&text, "  }\n");
	}
	appendStringInfoString(&text, "}");
	return text.data;
}
