/*
 * backtest.h
 *	  Backtest the policies on what the database knows of a preset.
 */
#ifndef PREBUILD_BACKTEST_H
#define PREBUILD_BACKTEST_H

#include "postgres.h"

#include "demand/choice.h"
#include "demand/preset_past.h"
#include "demand/sized_preset.h"

/* How much of the past a choice is made on, where nobody says. */
#define BACKTEST_DAYS 90
/* Longest range, in days. It bounds the memory and the time of a backtest. */
#define BACKTEST_DAYS_MOST 1830

/* A backtest under way: one preset, one range. */
typedef struct Backtest
{
	const SizedPreset *preset;
	DemandHistory past;
	ChoiceSettings settings;
	ChoiceRoom room;
	ChoiceResult result;
} Backtest;

extern Backtest *backtest_make(const SizedPreset *preset, const PresetHistory *history,
							   TimestampTz from, TimestampTz to, double service_level);
extern void backtest_simulate(Backtest *backtest, const DemandHistory *past, const Policy *policy,
							  SimulatorResult *result);
extern char *backtest_policy_name(const Policy *policy);
extern char *backtest_share(const SimulatorFigures *figures);
extern void backtest_check_range(TimestampTz from, TimestampTz to);
extern char *backtest_choice_note(const Backtest *backtest);
extern TimestampTz backtest_time(FunctionCallInfo fcinfo, int number, const char *name);
extern double backtest_service_level(FunctionCallInfo fcinfo, int number,
									 const SizedPreset *preset);

#endif /* PREBUILD_BACKTEST_H */
