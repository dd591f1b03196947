/*
 * metadata_channel.c
 *	  Publish which agents' metadata changed: on the batch channel, and on the channels of single
 *	  agents, to which control planes before v2.30 listen. Also the SQL functions for the ids' text
 *	  form.
 *
 * The current transaction queues the messages and sends them with its commit, so that a listener
 * finds the data. Ids are sorted and unique, so that messages are few and predictable.
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "commands/async.h"
#include "mb/pg_wchar.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "metadata/agent_ids.h"
#include "metadata/metadata_channel.h"
#include "base/notify.h"
#include "settings.h"
#include "base/sql_arrays.h"

#define BATCH_CHANNEL "workspace_agent_metadata_batch"
#define AGENT_CHANNEL_PREFIX "workspace_agent_metadata:"

/* As many ids as the server accepts in one message. */
#define IDS_PER_MESSAGE AGENT_IDS_IN(NOTIFY_LONGEST_PAYLOAD)
#define MESSAGE_CHARS (IDS_PER_MESSAGE * AGENT_ID_CHARS)

/* True while the extension writes metadata and publishes the changes itself. */
static bool suppressed = false;

/* Set whether the trigger publishes nothing. Returns the setting before. */
bool
fanout_suppress(bool suppress)
{
	bool before = suppressed;

	suppressed = suppress;
	return before;
}

/* Must the trigger publish nothing? */
bool
fanout_is_suppressed(void)
{
	return suppressed;
}

/* Order ids by their bytes, as SQL orders type uuid. */
static int
compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

/* Sort the ids and remove duplicates, in place. Returns how many remain. */
static int
unique_ids(pg_uuid_t *ids, int n)
{
	int kept = 0;

	qsort(ids, n, sizeof(pg_uuid_t), compare_ids);
	for (int i = 0; i < n; i++)
		if (kept == 0 || compare_ids(&ids[kept - 1], &ids[i]) != 0)
			ids[kept++] = ids[i];
	return kept;
}

/*
 * Queue the messages of the batch channel for these ids, and sort them in place. Returns the number
 * of messages.
 */
static int
publish_ids(pg_uuid_t *ids, int n)
{
	char payload[MESSAGE_CHARS + 1];
	int messages = 0;

	n = unique_ids(ids, n);
	for (int first = 0; first < n; first += IDS_PER_MESSAGE)
	{
		int count = Min(IDS_PER_MESSAGE, n - first);

		CHECK_FOR_INTERRUPTS();
		agent_ids_encode(ids[first].data, count, payload);
		payload[count * AGENT_ID_CHARS] = '\0';
		Async_Notify(BATCH_CHANNEL, payload);
		messages++;
	}
	return messages;
}

/* Order changes by agent, then by key. */
static int
compare_changes(const void *a, const void *b)
{
	const FanoutChange *left = a;
	const FanoutChange *right = b;
	int order = compare_ids(&left->agent, &right->agent);

	if (order == 0)
		order = memcmp(left->key, right->key, Min(left->key_length, right->key_length));
	if (order == 0)
		order = left->key_length - right->key_length;
	return order;
}

/*
 * Return a time as coderd writes it into JSON: RFC 3339, in UTC, with microseconds. A time that
 * this format cannot express (infinite, or a year outside of 1 to 9999) becomes Go's zero time.
 */
static char *
json_time(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t fsec;

	if (TIMESTAMP_NOT_FINITE(at) || timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0 ||
		tm.tm_year < 1 || tm.tm_year > 9999)
		return pstrdup("0001-01-01T00:00:00Z");
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
}

/* Return the newest time of some changes except infinity, or DT_NOBEGIN. */
static TimestampTz
newest_time(const FanoutChange *changes, int n)
{
	TimestampTz newest = DT_NOBEGIN;

	for (int i = 0; i < n; i++)
		if (!TIMESTAMP_IS_NOEND(changes[i].collected_at))
			newest = Max(newest, changes[i].collected_at);
	return newest;
}

/*
 * Queue the messages for the changes of one agent, as many as its keys need. notify_send() leaves
 * out a message with a key that fits into none, with a WARNING. Returns the number of messages.
 */
static int
publish_agent(FanoutChange *changes, int n)
{
	char *channel;
	StringInfoData payload;
	StringInfoData key;
	int start;
	int messages = 0;

	channel =
		psprintf(AGENT_CHANNEL_PREFIX "%s",
				 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&changes[0].agent))));
	initStringInfo(&key);
	initStringInfo(&payload);
	appendStringInfo(&payload, "{\"collected_at\": \"%s\", \"keys\": [",
					 json_time(newest_time(changes, n)));
	start = payload.len;

	for (int i = 0; i < n; i++)
	{
		char *name = pnstrdup(changes[i].key, changes[i].key_length);

		resetStringInfo(&key);
		escape_json(&key, name);
		pfree(name);
		if (payload.len > start && payload.len + key.len + 4 > NOTIFY_LONGEST_PAYLOAD)
		{
			appendStringInfoString(&payload, "]}");
			messages += notify_send(channel, payload.data);
			payload.len = start;
		}
		if (payload.len > start)
			appendStringInfoString(&payload, ", ");
		appendBinaryStringInfo(&payload, key.data, key.len);
	}
	appendStringInfoString(&payload, "]}");
	messages += notify_send(channel, payload.data);
	pfree(key.data);
	pfree(payload.data);
	pfree(channel);
	return messages;
}

/*
 * Queue the messages that prebuild.metadata_notify selects, and sort changes in place. Returns the
 * number of messages. Allocates in the current context.
 */
int
fanout_publish(FanoutChange *changes, int n)
{
	int messages = 0;

	if (n == 0)
		return 0;
	qsort(changes, n, sizeof(FanoutChange), compare_changes);
	if (setting_metadata_notify & METADATA_NOTIFY_BATCH)
	{
		pg_uuid_t *ids = palloc_array(pg_uuid_t, n);

		for (int i = 0; i < n; i++)
			ids[i] = changes[i].agent;
		messages += publish_ids(ids, n);
		pfree(ids);
	}
	if (setting_metadata_notify & METADATA_NOTIFY_AGENT)
	{
		for (int first = 0, last; first < n; first = last)
		{
			CHECK_FOR_INTERRUPTS();
			for (last = first + 1; last < n; last++)
				if (compare_ids(&changes[first].agent, &changes[last].agent) != 0)
					break;
			messages += publish_agent(changes + first, last - first);
		}
	}
	return messages;
}

PG_FUNCTION_INFO_V1(prebuild_agent_ids_encode);

/* SQL: prebuild_agent_ids_encode(agent_ids uuid[]) → setof text, up to IDS_PER_MESSAGE ids each. */
Datum
prebuild_agent_ids_encode(PG_FUNCTION_ARGS)
{
	int n;
	const pg_uuid_t *ids = sql_array_uuids(PG_GETARG_DATUM(0), "agent_ids", &n);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	text *chunk = palloc(VARHDRSZ + MESSAGE_CHARS);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int first = 0; first < n; first += IDS_PER_MESSAGE)
	{
		int count = Min(IDS_PER_MESSAGE, n - first);
		Datum value = PointerGetDatum(chunk);
		bool null = false;

		CHECK_FOR_INTERRUPTS();
		agent_ids_encode(ids[first].data, count, VARDATA(chunk));
		SET_VARSIZE(chunk, VARHDRSZ + count * AGENT_ID_CHARS);
		tuplestore_putvalues(result->setResult, result->setDesc, &value, &null);
	}
	return (Datum) 0;
}

/* Raise the error for a text that is not a concatenation of encoded ids. */
static void
raise_bad_ids(AgentIdsFault fault, const char *data, size_t length, size_t position)
{
	int width;

	if (fault == AGENT_IDS_BAD_LENGTH)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid length of encoded agent ids: %zu", length),
			 errdetail("The id that begins at character %zu is incomplete.", position + 1),
			 errhint("Each id takes %d characters of base64 without padding.", AGENT_ID_CHARS)));
	width = Min(pg_mblen(data + position), (int) (length - position));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid character \"%.*s\" at position %zu of encoded agent ids", width,
					data + position, position + 1),
			 errhint("Each id takes %d characters of base64 without padding.", AGENT_ID_CHARS)));
}

PG_FUNCTION_INFO_V1(prebuild_agent_ids_decode);

/*
 * SQL: prebuild_agent_ids_decode(encoded text) → setof uuid. Raises invalid_parameter_value for a
 * text that is not encoded ids.
 */
Datum
prebuild_agent_ids_decode(PG_FUNCTION_ARGS)
{
	text *encoded = PG_GETARG_TEXT_PP(0);
	char *data = VARDATA_ANY(encoded);
	size_t length = VARSIZE_ANY_EXHDR(encoded);
	int n = (int) (length / AGENT_ID_CHARS);
	pg_uuid_t *ids = palloc_array(pg_uuid_t, n + 1);
	size_t position;
	AgentIdsFault fault = agent_ids_decode(data, length, ids->data, &position);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	if (fault != AGENT_IDS_FINE)
		raise_bad_ids(fault, data, length, position);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; i < n; i++)
	{
		Datum value = UUIDPGetDatum(&ids[i]);
		bool null = false;

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(result->setResult, result->setDesc, &value, &null);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(prebuild_agent_ids_notify);

/* SQL: prebuild_agent_ids_notify(agent_ids uuid[]) → int, the number of queued messages. */
Datum
prebuild_agent_ids_notify(PG_FUNCTION_ARGS)
{
	int n;
	const pg_uuid_t *given = sql_array_uuids(PG_GETARG_DATUM(0), "agent_ids", &n);
	pg_uuid_t *ids = palloc_array(pg_uuid_t, n + 1);

	PreventCommandDuringRecovery("prebuild_agent_ids_notify()");
	memcpy(ids, given, sizeof(pg_uuid_t) * n);
	PG_RETURN_INT32(publish_ids(ids, n));
}
