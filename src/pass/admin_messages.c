/*
 * admin_messages.c
 *	  Queue notifications for template admins in the control plane's own queue
 *	  (notification_messages), where it has one. The control plane's dispatcher sends them.
 *
 *	  No notification is worth the transaction. Each message is written in its own subtransaction,
 *	  and an error becomes a WARNING; only a cancel or a shutdown is raised again. If the queue is
 *	  locked, the first message waits as long as the caller's patience lasts, and the rest are not
 *	  tried.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/datum.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "catalog/control_plane_catalog.h"
#include "pass/admin_messages.h"
#include "base/patience.h"
#include "base/plans.h"
#include "base/rows.h"
#include "catalog/constraints.h"
#include "base/subtransaction.h"

/* Rows of notification_templates. Every control plane that has them uses these ids. */
#define TEMPLATE_RESOURCE_REPLACED "89d9745a-816e-4695-a17f-3d0a229e2b8d"
#define TEMPLATE_HARD_LIMITED "414d9331-c1fc-4761-b40c-d1f4702279eb"

/* created_by of a message: the name that the control plane's own reconciler uses. */
#define CREATED_BY "prebuilds_reconciler"

/*
 * The query for the messages about some subjects, given as rows of (labels, data, targets). It
 * gives each template admin who has not turned the template off one message by the template's own
 * method, if it has one, and one for the inbox. It leaves out the template's links (actions),
 * because they need the address of the control plane's site and the database does not have it.
 */
#define MESSAGES(template_id, subjects)                                                            \
	"SELECT nt.id::pg_catalog.uuid, u.id::pg_catalog.uuid, m.method::pg_catalog.text,"             \
	" pg_catalog.jsonb_build_object('_version', '1.2', 'notification_name', nt.name,"              \
	"  'notification_template_id', nt.id, 'user_id', u.id, 'user_email', u.email,"                 \
	"  'user_name', COALESCE(NULLIF(u.name, ''), u.username), 'user_username', u.username,"        \
	"  'actions', '[]'::pg_catalog.jsonb, 'labels', s.labels, 'data', s.data,"                     \
	"  'targets', pg_catalog.to_jsonb(s.targets)), s.targets"                                      \
	" FROM (" subjects ") s (labels, data, targets)"                                               \
	" JOIN {cp}notification_templates nt ON nt.id {=} '" template_id "'::pg_catalog.uuid"          \
	" JOIN {cp}users u ON u.rbac_roles {@>} '{template-admin}'::pg_catalog.text[]"                 \
	"  AND NOT u.deleted AND NOT u.is_system"                                                      \
	" LEFT JOIN {cp}notification_preferences np"                                                   \
	"  ON np.user_id {=} u.id AND np.notification_template_id {=} nt.id"                           \
	" CROSS JOIN LATERAL (SELECT nt.method::pg_catalog.text WHERE nt.method IS NOT NULL"           \
	"  UNION SELECT 'inbox') m (method)"                                                           \
	" WHERE COALESCE(NOT np.disabled, nt.enabled_by_default)"                                      \
	" ORDER BY u.id, m.method"

/* A message to queue. */
typedef struct Message
{
	Datum values[5]; /* template, user, method, payload, targets */
} Message;

/* A step that runs in a subtransaction: read a list of messages, or write the first of one. */
typedef struct Work
{
	void (*run)(struct Work *work);
	KeptPlan *plan;
	const char *statement;
	int nargs;
	const Oid *argtypes;
	Datum *values;
	TimestampTz at;
	MemoryContext context; /* the messages and errors live here */
	Message *messages;
	int nmessages;
} Work;

static bool
run_work(void *argument)
{
	Work *work = argument;

	work->run(work);
	return true;
}

/*
 * Run a step in a subtransaction. If an error undoes it, report a WARNING and return false. Raise
 * errors of class "operator intervention" again, because somebody wants the transaction to end.
 * rest: the number of notifications after this one.
 */
static bool
in_subtransaction(Work *work, int rest)
{
	MemoryContext old_context = MemoryContextSwitchTo(work->context);
	ErrorData *error = subtransaction_run(run_work, work);
	const char *waited_for = NULL;

	MemoryContextSwitchTo(old_context);
	if (error == NULL)
		return true;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	if (patience_lose(error) && patience_report() != NULL)
	{
		patience_arm();
		waited_for = patience_report();
	}
	ereport(WARNING,
			(errcode(error->sqlerrcode), errmsg("could not queue notification: %s", error->message),
			 waited_for == NULL ? 0
			 : rest > 0 && patience_is_over()
				 ? errdetail("%s This also skips the %d notifications after it.", waited_for, rest)
				 : errdetail("%s", waited_for)));
	return false;
}

/* Read the messages to queue, into work->messages in the current memory context. */
static void
read_messages(Work *work)
{
	/* uuid, uuid, text, jsonb, uuid[] */
	static const int lengths[] = { UUID_LEN, UUID_LEN, -1, -1, -1 };
	uint64 n = plan_execute(work->plan, work->statement, PLAN_READ, work->nargs, work->argtypes,
							work->values, NULL);

	work->messages = palloc_array(Message, n + 1);
	for (uint64 i = 0; i < n; i++)
		for (size_t c = 0; c < lengthof(lengths); c++)
			work->messages[i].values[c] = datumCopy(row_get(i, (int) c + 1), false, lengths[c]);
	work->nmessages = (int) n;
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Queue the first message of the list. The queue's unique hash skips one that was queued earlier on
 * the same day.
 */
static void
write_message(Work *work)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID,  UUIDOID,		TEXTOID,
									JSONBOID, UUIDARRAYOID, TIMESTAMPTZOID };
	static const char *const written[] = { "notification_messages" };
	Datum values[6];
	int level = plans_control_plane_path();

	memcpy(values, work->messages->values, sizeof(work->messages->values));
	values[5] = TimestampTzGetDatum(work->at);
	plan_execute(&plan,
				 "INSERT INTO {cp}notification_messages (id, notification_template_id, user_id,"
				 "  method, payload, targets, created_by, created_at)"
				 " VALUES (pg_catalog.gen_random_uuid(), $1, $2, $3::{cp}notification_method, $4,"
				 "  $5, '" CREATED_BY "', $6)"
				 " ON CONFLICT DO NOTHING",
				 PLAN_FRESH, 6, argtypes, values, NULL);
	/* check deferred constraints now, so that they cannot fail at commit */
	constraints_check(written, lengthof(written));
	AtEOXact_GUC(true, level);
}

/*
 * Queue the messages that a statement made by MESSAGES() returns. Do nothing if the control plane
 * has no queue.
 */
static void
queue(KeptPlan *plan, const char *statement, int nargs, const Oid *argtypes, Datum *values,
	  TimestampTz at)
{
	Work read = {
		.run = read_messages,
		.plan = plan,
		.statement = statement,
		.nargs = nargs,
		.argtypes = argtypes,
		.values = values,
		.at = at,
		.context = CurrentMemoryContext,
	};
	Work write = read;

	if (!control_plane_has(FEATURE_NOTIFICATIONS))
		return;
	if (!in_subtransaction(&read, 0))
		return;
	write.run = write_message;
	for (int i = 0; i < read.nmessages; i++)
	{
		CHECK_FOR_INTERRUPTS();
		write.messages = &read.messages[i];
		if (!in_subtransaction(&write, read.nmessages - i - 1) && patience_is_over())
			break;
	}
}

/*
 * Tell template admins that presets have reached the hard limit. preset_ids: uuids; at: the time of
 * the messages. The caller has connected SPI and pushed an active snapshot. Turns errors into
 * WARNINGs, except a cancel or a shutdown.
 */
void
notifications_hard_limited(const ArrayParameter *preset_ids, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDARRAYOID };
	Datum values[] = { array_datum(preset_ids) };

	queue(&plan,
		  MESSAGES(TEMPLATE_HARD_LIMITED,
				   "SELECT pg_catalog.jsonb_build_object('org', o.name, 'template', t.name,"
				   "  'template_version', v.name, 'preset', p.name),"
				   " '{}'::pg_catalog.jsonb, ARRAY[t.id, v.id, p.id, o.id]::pg_catalog.uuid[]"
				   " FROM {cp}template_version_presets p"
				   " JOIN {cp}template_versions v ON v.id {=} p.template_version_id"
				   " JOIN {cp}templates t ON t.id {=} v.template_id"
				   " JOIN {cp}organizations o ON o.id {=} t.organization_id"
				   " WHERE p.id {=} ANY ($1)"),
		  1, argtypes, values, at);
}

/*
 * Tell template admins that the claim of a workspace replaced resources. build_id: the claim's
 * build; preset_id: the prebuild's preset, or NULL; paths: a jsonb object that maps each resource
 * to a string of its changed paths; at: the time of the messages. The caller has connected SPI and
 * pushed an active snapshot. Turns errors into WARNINGs, except a cancel or a shutdown.
 */
void
notifications_resource_replaced(const Id *workspace_id, const Id *build_id, const Id *preset_id,
								Datum paths, TimestampTz at)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { UUIDOID, UUIDOID, UUIDARRAYOID, JSONBOID };
	ArrayParameter *presets = array_new(UUIDOID);
	Datum values[4];

	/* at most one element; no element means no preset */
	if (preset_id != NULL)
		array_add_id(presets, preset_id);
	values[0] = id_datum(workspace_id);
	values[1] = id_datum(build_id);
	values[2] = array_datum(presets);
	values[3] = paths;
	queue(&plan,
		  MESSAGES(TEMPLATE_RESOURCE_REPLACED,
				   "SELECT pg_catalog.jsonb_build_object('org', o.name, 'workspace', w.name,"
				   "  'template', t.name, 'template_version', v.name,"
				   "  'preset', COALESCE(p.name, ''),"
				   "  'workspace_build_num', b.build_number::pg_catalog.text,"
				   "  'claimant', owner.username),"
				   " pg_catalog.jsonb_build_object('replacements', $4::pg_catalog.jsonb),"
				   " pg_catalog.array_remove(ARRAY[w.id, w.owner_id, t.id, v.id, p.id,"
				   "  w.organization_id]::pg_catalog.uuid[], NULL)"
				   " FROM {cp}workspaces w"
				   " JOIN {cp}workspace_builds b ON b.id {=} $2"
				   " JOIN {cp}template_versions v ON v.id {=} b.template_version_id"
				   " JOIN {cp}templates t ON t.id {=} w.template_id"
				   " JOIN {cp}organizations o ON o.id {=} w.organization_id"
				   " JOIN {cp}users owner ON owner.id {=} w.owner_id"
				   " LEFT JOIN {cp}template_version_presets p ON p.id {=} ANY ($3)"
				   " WHERE w.id {=} $1"),
		  4, argtypes, values, at);
}
