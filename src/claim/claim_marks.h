/*
 * claim_marks.h
 *	  Marks by which claims tell each other which prebuilds they have taken.
 */
#ifndef PREBUILD_CLAIM_MARKS_H
#define PREBUILD_CLAIM_MARKS_H

#include "postgres.h"

#include "base/id.h"

extern void claim_mark(const Id *workspace_id);
extern bool claim_is_marked(const Id *workspace_id);

#endif /* PREBUILD_CLAIM_MARKS_H */
