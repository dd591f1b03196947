/*
 * attached_triggers.h
 *	  The extension's triggers on the control plane's tables.
 */
#ifndef PREBUILD_ATTACHED_TRIGGERS_H
#define PREBUILD_ATTACHED_TRIGGERS_H

#include "postgres.h"

/* What the caller of prebuild_attach() asked for; all off: detached. */
typedef struct AttachOptions
{
	bool metadata_fanout;
	bool guard_claims;
	bool mend; /* nothing of that, but what is there put right */
} AttachOptions;

extern bool attached_triggers_apply(const AttachOptions *options);
extern bool attached_triggers_mend(void);

#endif /* PREBUILD_ATTACHED_TRIGGERS_H */
