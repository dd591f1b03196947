/*
 * settings.h
 *	  The extension's settings (GUCs); each is described in settings.c.
 */
#ifndef PREBUILD_SETTINGS_H
#define PREBUILD_SETTINGS_H

#include "postgres.h"

extern char *setting_control_plane_schema;
extern int setting_backoff_interval; /* seconds */
extern int setting_backoff_lookback; /* seconds */
extern int setting_backoff_max;		 /* seconds, 0 = no cap */
extern int setting_failure_hard_limit;
extern int setting_max_creates_per_pass;
extern int setting_max_building;
extern int setting_event_retention; /* minutes */
extern bool setting_notify_hard_limit;

extern void settings_init(void);

#endif /* PREBUILD_SETTINGS_H */
