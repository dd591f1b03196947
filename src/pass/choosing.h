/*
 * choosing.h
 *	  The part of a pass that chooses policies for presets in mode auto.
 */
#ifndef PREBUILD_CHOOSING_H
#define PREBUILD_CHOOSING_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "decision/judgement.h"

extern void choosing_run(const Judgement *judgement, TimestampTz at);

#endif /* PREBUILD_CHOOSING_H */
