/*
 * policy.h
 *	  How presets' pools are kept: prebuild_policy, and the settings where that says nothing.
 */
#ifndef PREBUILD_POLICY_H
#define PREBUILD_POLICY_H

#include "decision/decision.h"

/* The longest time that a policy may set: what the settings may, in whole days. */
#define POLICY_LONGEST_DAYS 12427

extern void policies_read(PoolSnapshot *pool);
extern HealthPolicy policy_of(const Id *template_id, const char *preset_name);
extern bool policy_sizes_any(const Id *template_id, Datum preset_names);

#endif /* PREBUILD_POLICY_H */
