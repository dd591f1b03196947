/*
 * plan_reasons.h
 *	  Why a plan is what it is, in sentences for a person.
 */
#ifndef PREBUILD_PLAN_REASONS_H
#define PREBUILD_PLAN_REASONS_H

#include "postgres.h"

#include "decision/decision.h"

extern char *reason_to_go(const Preset *preset, PoolMember *const *members, int count);
extern char *reason_to_create(const Preset *preset, const DecisionSettings *settings);

#endif /* PREBUILD_PLAN_REASONS_H */
