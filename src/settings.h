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
extern char *setting_max_building;	/* an amount of the live daemons, 0 = no cap */
extern int setting_lock_linger;		/* milliseconds, 0 = off */
extern int setting_event_retention; /* minutes */
extern bool setting_notify_hard_limit;

/* demand */
extern int setting_demand_retention;  /* minutes */
extern int setting_default_lead_time; /* seconds */
extern int setting_scale_in_delay;	  /* seconds */

/* healthy pools; prebuild_policy has values of single presets */
extern int setting_unready_grace;	   /* seconds, 0 = off */
extern int setting_disconnected_grace; /* seconds, 0 = off */
extern int setting_failed_retention;   /* seconds, 0 = for ever */
extern int setting_failed_keep;
extern int setting_delete_retries;
extern int setting_hard_limit_retry; /* seconds, 0 = never */
extern bool setting_require_provisioner;
extern char *setting_max_unavailable; /* an amount of the desired instances */
extern char *setting_max_surge;		  /* the same */

/* agent metadata and the worker */
typedef enum InsertMissing
{
	INSERT_MISSING_OFF,
	INSERT_MISSING_ON,
	INSERT_MISSING_AUTO
} InsertMissing;

typedef enum MetadataNotify
{
	METADATA_NOTIFY_BATCH = 1,
	METADATA_NOTIFY_AGENT = 2,
	METADATA_NOTIFY_BOTH = 3 /* the sum: test it bit by bit */
} MetadataNotify;

extern int setting_metadata_flush_interval; /* milliseconds */
extern int setting_metadata_batch_size;		/* distinct (agent, key) entries */
extern int setting_metadata_buffer_size;	/* kilobytes; only while preloaded */
extern int setting_metadata_insert_missing; /* InsertMissing */
extern int setting_metadata_notify;			/* MetadataNotify */
extern char *setting_databases;				/* only while preloaded, otherwise NULL */
extern char *setting_worker_role;			/* empty: the owner of the control plane's workspaces */
extern int setting_reconcile_interval;		/* seconds, 0 = off */
extern int setting_fold_interval;			/* seconds */
extern int setting_attach_timeout;			/* milliseconds */

/* identities of agents */
extern int setting_identity_cache_ttl;	/* milliseconds, 0 = off */
extern int setting_identity_cache_size; /* entries of a backend, 0 = off */

extern void settings_init(void);

#endif /* PREBUILD_SETTINGS_H */
