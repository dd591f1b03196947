/*
 * claim_queue.h
 *	  Where claims wait that found no prebuild that is free.
 */
#ifndef PREBUILD_CLAIM_QUEUE_H
#define PREBUILD_CLAIM_QUEUE_H

#include "postgres.h"

#include "base/id.h"

extern bool claim_queue_enter(const Id *preset_id);
extern void claim_queue_leave(const Id *preset_id);

#endif /* PREBUILD_CLAIM_QUEUE_H */
