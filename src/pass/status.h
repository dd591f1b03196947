/*
 * status.h
 *	  Write what a pass finds out about presets: stored status, marks, events.
 */
#ifndef PREBUILD_STATUS_H
#define PREBUILD_STATUS_H

#include "decision/judgement.h"

extern bool status_has_changed(const Judgement *judgement, int preset);
extern void status_write(const Judgement *judgement, const int *presets, int npresets);
extern void status_write_failure(const Judgement *judgement, int preset, const ErrorData *error);
extern void status_write_summary(TimestampTz at, int created, int deleted, int canceled,
								 int failed);

#endif /* PREBUILD_STATUS_H */
