/*
 * auto_sizing.h
 *	  Put what the policies of presets in mode auto want in the place of what is configured.
 */
#ifndef PREBUILD_AUTO_SIZING_H
#define PREBUILD_AUTO_SIZING_H

#include "decision/control_plane.h"
#include "demand/auto_target.h"

/* The presets in mode auto whose pools a pass keeps. */
typedef struct AutoSizing
{
	int n;
	AutoPreset *presets;
	Preset **of_pool;	   /* the same presets in the pool */
	PolicyChoices choices; /* all of the control plane */
	/* another reconciler is at work: one of its builds; or NULL */
	const PoolMember *others_build;
} AutoSizing;

extern void auto_sizing_apply(PoolSnapshot *pool, TimestampTz at, AutoSizing *sizing);
extern const char *auto_sizing_source(const Preset *preset);

#endif /* PREBUILD_AUTO_SIZING_H */
