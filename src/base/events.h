/*
 * events.h
 *	  The extension's own tables: prebuild_event, what happened, and prebuild_mark, what the
 *	  extension last reported about a preset (so that it reports it once).
 */
#ifndef PREBUILD_EVENTS_H
#define PREBUILD_EVENTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "base/id.h"
#include "base/rows.h"

typedef enum MarkKind
{
	MARK_VALIDATION_FAILED, /* the extension stored the status validation_failed */
	MARK_UNSUPPORTED,		/* reported as unsupported */
	MARK_PRESET_FAILED		/* reported as failed */
} MarkKind;

typedef struct Mark
{
	Id preset_id;
	MarkKind kind;
	char *detail; /* what was reported */
} Mark;

typedef struct Event
{
	const char *kind;
	const Id *template_id; /* each of the ids may be NULL */
	const Id *preset_id;
	const Id *workspace_id;
	char *detail; /* text of a jsonb object */
} Event;

/* What a pass gathers and then writes together. */
typedef struct EventBatch
{
	List *events;  /* of Event */
	List *marks;   /* of Mark, to set */
	List *unmarks; /* of Mark, to remove */
} EventBatch;

extern void event_add(EventBatch *batch, const char *kind, const Id *template_id,
					  const Id *preset_id, const Id *workspace_id, char *detail);
extern void mark_set(EventBatch *batch, const Id *preset_id, MarkKind kind, const char *detail);
extern void mark_unset(EventBatch *batch, const Id *preset_id, MarkKind kind);
extern List *marks_read(ArrayParameter *presets);
extern bool marks_have_control_plane(void);
extern void events_write(const EventBatch *batch, TimestampTz at);
extern char *event_detail(const char *key, const char *value);

#endif /* PREBUILD_EVENTS_H */
