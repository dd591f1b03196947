/*
 * status.h
 *	  Write what a pass finds out about presets: stored status, marks, events.
 */
#ifndef PREBUILD_STATUS_H
#define PREBUILD_STATUS_H

#include "decision/judgement.h"

extern bool status_has_changed(const Preset *preset);
extern void status_write(const Judgement *judgement, Preset *const *presets, int npresets);
extern void status_write_failure(const Preset *preset, const ErrorData *error, TimestampTz at);
extern void status_write_summary(TimestampTz at, int created, int deleted, int canceled,
								 int failed);
extern void status_write_sick(const PoolSnapshot *pool, PoolMember *const *members, int n,
							  TimestampTz at);
extern void status_write_given_up(const Judgement *judgement);

#endif /* PREBUILD_STATUS_H */
