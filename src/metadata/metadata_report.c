/*
 * metadata_report.c
 *	  Take an agent's report: apply the limits, then put it into the buffer or, if no worker would
 *	  flush that, write it into the table.
 *
 * The buffered path runs millions of times a day. So it runs no SQL, and looks up only what the
 * caches hold.
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "metadata/agent_metadata.h"
#include "base/arguments.h"
#include "metadata/database_text.h"
#include "metadata/metadata_batcher.h"
#include "base/plans.h"
#include "base/result_row.h"
#include "settings.h"
#include "base/sql_arrays.h"
#include "metadata/flush_request.h"
#include "slots/worker_slots.h"

/* The shortest time between two warnings about a full buffer, in microseconds. */
#define WARNING_INTERVAL (10 * USECS_PER_SEC)

typedef struct Report
{
	pg_uuid_t agent;
	TimestampTz collected_at;
	ReportEntry *all;	   /* as given, n of them */
	ReportEntry **entries; /* those to store, with distinct keys and limits applied */
	int n;
	int nentries;
	int merged;		   /* given, but a later one has the same key */
	int rejected;	   /* given, but not within the limits */
	size_t keys_bytes; /* sum of the keys that exceeded the limit, or 0 */
} Report;

/*
 * Return the text of an argument's element. type: text, or bytea in UTF-8. If the bytes are not
 * text in the database's encoding, returns the bytes, and *fault receives the reason.
 */
static ReportText
report_text(Datum value, Oid type, ReportFault *fault)
{
	struct varlena *element = (struct varlena *) DatumGetPointer(value);
	ReportText string = { VARDATA_ANY(element), VARSIZE_ANY_EXHDR(element) };

	if (type == BYTEAOID)
		(void) database_text_from_utf8(string, &string, fault);
	return string;
}

/*
 * Read the arguments, arrays of text or of bytea, into report->all. Raises an error for a null
 * argument or element, and for arrays of different lengths.
 */
static void
read_arguments(FunctionCallInfo fcinfo, Oid type, Report *report)
{
	int length;
	Datum *keys;
	Datum *values;
	Datum *errors = NULL;

	argument_require(fcinfo, 0, "agent_id");
	argument_require(fcinfo, 1, "keys");
	argument_require(fcinfo, 2, "metadata_values");
	report->agent = *PG_GETARG_UUID_P(0);
	keys = sql_array_elements(PG_GETARG_DATUM(1), type, "keys", &report->n);
	values = sql_array_elements(PG_GETARG_DATUM(2), type, "metadata_values", &length);
	sql_array_same_length(length, report->n, "metadata_values", "keys");
	if (!PG_ARGISNULL(3))
	{
		errors = sql_array_elements(PG_GETARG_DATUM(3), type, "metadata_errors", &length);
		sql_array_same_length(length, report->n, "metadata_errors", "keys");
	}

	report->all = palloc_array(ReportEntry, report->n + 1);
	for (int i = 0; i < report->n; i++)
	{
		ReportEntry *entry = &report->all[i];

		entry->key_fault = entry->value_fault = entry->error_fault = (ReportFault){ 0 };
		entry->key = report_text(keys[i], type, &entry->key_fault);
		entry->value = report_text(values[i], type, &entry->value_fault);
		entry->error =
			errors ? report_text(errors[i], type, &entry->error_fault) : (ReportText){ "", 0 };
	}
}

/* Return a bit that equal keys share, and different keys mostly do not. */
static uint64
key_bit(ReportText key)
{
	size_t last = key.length > 0 ? (unsigned char) key.data[key.length - 1] : 0;
	size_t middle = key.length > 0 ? (unsigned char) key.data[key.length / 2] : 0;

	return UINT64CONST(1) << ((key.length * 11 + middle * 5 + last) % 64);
}

/* Does one of the n entries have the same key? If so, put the newer entry into its place. */
static bool
replace_same_key(ReportEntry **entries, int n, ReportEntry *newer)
{
	for (int i = 0; i < n; i++)
	{
		if (entries[i]->key.length == newer->key.length &&
			memcmp(entries[i]->key.data, newer->key.data, newer->key.length) == 0)
		{
			entries[i] = newer;
			return true;
		}
	}
	return false;
}

/* Apply the limits of a report, and fill report->entries. */
static void
apply_limits(Report *report)
{
	ReportEncoding encoding = { GetDatabaseEncoding() == PG_UTF8, database_text_clip };
	int within = (int) report_keys_within_limit(report->all, report->n, &report->keys_bytes);
	uint64 bits = 0;

	report->entries = palloc_array(ReportEntry *, report->n + 1);
	report->rejected = report->n - within;
	for (int i = 0; i < within; i++)
	{
		ReportEntry *entry = &report->all[i];
		uint64 bit = key_bit(entry->key);

		if (entry->key_fault.encoding != NULL ||
			(entry->key.length > REPORT_KEY_CHARS &&
			 pg_mbstrlen_with_len(entry->key.data, (int) entry->key.length) > REPORT_KEY_CHARS))
			report->rejected++;
		else if ((bits & bit) != 0 && replace_same_key(report->entries, report->nentries, entry))
			report->merged++;
		else
			report->entries[report->nentries++] = entry;
		bits |= bit;
	}
	for (int i = 0; i < report->nentries; i++)
		report_apply_limits(report->entries[i], &encoding);
}

/* Warn that the buffer is full, at most once per WARNING_INTERVAL in all sessions together. */
static void
warn_of_full_buffer(int slot)
{
	BatcherDatabase *database = batcher_database(slot);
	uint64 now = (uint64) GetCurrentTimestamp();
	uint64 last = pg_atomic_read_u64(&database->warned_at);

	if (now >= last + WARNING_INTERVAL &&
		pg_atomic_compare_exchange_u64(&database->warned_at, &last, now))
		ereport(WARNING,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("dropping agent metadata because its buffer is full"),
				 errhint("Increase prebuild.metadata_buffer_size, or find out from "
						 "prebuild_metadata_stats why the worker does not write the buffered "
						 "entries.")));
}

/*
 * Put the report into the buffer. Returns false if the caller must write it directly, because there
 * is no buffer, no worker serves this database, the server is a standby, or the transaction is
 * read-only (then the direct write raises the error).
 */
static bool
buffer_report(Report *report, int *dropped)
{
	int slot;

	if (worker_slots_count() == 0 || XactReadOnly || RecoveryInProgress())
		return false;
	slot = worker_slot_here();
	if (slot == NO_SLOT || !batcher_put(slot, &report->agent, report->entries, report->nentries,
										report->collected_at, dropped))
		return false;
	if (*dropped > 0)
		warn_of_full_buffer(slot);
	return true;
}

/* Write the report into the table, in the current transaction. */
static void
write_report(FunctionCallInfo fcinfo, Report *report)
{
	MetadataRow *rows = palloc_array(MetadataRow, report->nentries + 1);
	char *name = psprintf("%s()", get_func_name(fcinfo->flinfo->fn_oid));

	PreventCommandIfReadOnly(name);
	PreventCommandDuringRecovery(name);
	for (int i = 0; i < report->nentries; i++)
	{
		const ReportEntry *entry = report->entries[i];

		rows[i].agent = report->agent;
		rows[i].key =
			PointerGetDatum(cstring_to_text_with_len(entry->key.data, (int) entry->key.length));
		rows[i].value =
			PointerGetDatum(cstring_to_text_with_len(entry->value.data, (int) entry->value.length));
		rows[i].error =
			PointerGetDatum(cstring_to_text_with_len(entry->error.data, (int) entry->error.length));
		rows[i].collected_at = report->collected_at;
	}
	plans_enter(fcinfo);
	agent_metadata_write(rows, report->nentries);
	plans_leave();
}

/* Build the result row. */
static Datum
result_row(FunctionCallInfo fcinfo, int queued, int dropped, int rejected)
{
	ResultRow row;

	row.n = 0;
	result_put_int4(&row, queued);
	result_put_int4(&row, dropped);
	result_put_int4(&row, rejected);
	return result_row_datum(fcinfo, &row);
}

/* Take a report. type: of the elements of its arrays. */
static Datum
take_report(FunctionCallInfo fcinfo, Oid type)
{
	Report report = { 0 };
	int dropped = 0;

	read_arguments(fcinfo, type, &report);
	apply_limits(&report);
	report.collected_at = GetCurrentTimestamp();
	if (!buffer_report(&report, &dropped))
		write_report(fcinfo, &report);
	if (report.keys_bytes > 0)
		ereport(WARNING, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						  errmsg("metadata keys of %zu bytes exceeded %d bytes", report.keys_bytes,
								 REPORT_KEYS_BYTES)));
	return result_row(fcinfo, report.nentries + report.merged - dropped, dropped, report.rejected);
}

PG_FUNCTION_INFO_V1(prebuild_agent_metadata_report);

/*
 * SQL: prebuild_agent_metadata_report(agent_id, keys, metadata_values, metadata_errors) →
 * (queued, dropped, rejected), which add up to the number of keys given.
 */
Datum
prebuild_agent_metadata_report(PG_FUNCTION_ARGS)
{
	return take_report(fcinfo, TEXTOID);
}

PG_FUNCTION_INFO_V1(prebuild_agent_metadata_report_bytes);

/*
 * SQL: prebuild_agent_metadata_report_bytes(), the same with arrays of bytea in UTF-8. If a value
 * or an error is not valid text, stores an error that says so instead. Rejects a key that is not.
 */
Datum
prebuild_agent_metadata_report_bytes(PG_FUNCTION_ARGS)
{
	return take_report(fcinfo, BYTEAOID);
}

PG_FUNCTION_INFO_V1(prebuild_agent_metadata_flush);

/*
 * SQL: prebuild_agent_metadata_flush() → bigint, the number of entries that the worker wrote.
 */
Datum
prebuild_agent_metadata_flush(PG_FUNCTION_ARGS)
{
	int slot = worker_slots_count() > 0 ? worker_slot_here() : NO_SLOT;

	PreventCommandDuringRecovery("prebuild_agent_metadata_flush()");
	/* without a buffer, sessions have written all reports directly */
	if (slot == NO_SLOT)
		PG_RETURN_INT64(0);
	PG_RETURN_INT64(flush_request(slot));
}
