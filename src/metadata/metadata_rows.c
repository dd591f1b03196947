/*
 * metadata_rows.c
 *	  The rows of a batch of agent metadata: their order, and the relation that statements read.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "metadata/metadata_rows.h"

/* The name by which the statements of an SPI connection read the rows from a tuplestore. */
static char batch_name[] = "batch";

/* Order rows by agent id and key, which is the order of writing. */
static int
compare_places(const MetadataRow *left, const MetadataRow *right)
{
	text *left_key = (text *) DatumGetPointer(left->key);
	text *right_key = (text *) DatumGetPointer(right->key);
	int left_length = VARSIZE_ANY_EXHDR(left_key);
	int right_length = VARSIZE_ANY_EXHDR(right_key);
	int order = memcmp(&left->agent, &right->agent, UUID_LEN);

	if (order == 0)
		order =
			memcmp(VARDATA_ANY(left_key), VARDATA_ANY(right_key), Min(left_length, right_length));
	return order != 0 ? order : left_length - right_length;
}

/* Order rows by agent id and key; among equals, the row that wins comes first. */
static int
compare_rows(const void *a, const void *b)
{
	const MetadataRow *left = *(MetadataRow *const *) a;
	const MetadataRow *right = *(MetadataRow *const *) b;
	int order = compare_places(left, right);

	if (order == 0)
		order =
			(left->collected_at < right->collected_at) - (left->collected_at > right->collected_at);
	/* the rows are elements of one array, so the later element has the higher address */
	return order != 0 ? order : (left < right) - (left > right);
}

/*
 * Sort rows into the order of writing, and keep only the row that wins of each (agent, key).
 * Returns how many of the n remain.
 */
int
metadata_rows_sort(MetadataRow **rows, int n)
{
	int kept = 0;

	qsort(rows, n, sizeof(MetadataRow *), compare_rows);
	for (int i = 0; i < n; i++)
		if (kept == 0 || compare_places(rows[kept - 1], rows[i]) != 0)
			rows[kept++] = rows[i];
	return kept;
}

/* Mark the row with this agent and key as written. The rows must be sorted and unique. */
void
metadata_rows_mark(MetadataRow **rows, int n, pg_uuid_t *agent, Datum key)
{
	MetadataRow wanted = { .agent = *agent, .key = key };
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (compare_places(rows[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < n && compare_places(rows[low], &wanted) == 0)
		rows[low]->written = true;
}

/*
 * Register the rows as a relation named "batch", which the statements of this SPI connection can
 * read. A tuplestore costs a third of unnest() over five arrays. Allocates in the current context.
 */
EphemeralNamedRelation
metadata_rows_register(MetadataRow **rows, int n)
{
	EphemeralNamedRelation batch = palloc0(sizeof(EphemeralNamedRelationData));
	TupleDesc columns = CreateTemplateTupleDesc(6);
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	bool nulls[6] = { false };

	TupleDescInitEntry(columns, 1, "agent_id", UUIDOID, -1, 0);
	TupleDescInitEntry(columns, 2, "key", TEXTOID, -1, 0);
	TupleDescInitEntry(columns, 3, "value", TEXTOID, -1, 0);
	TupleDescInitEntry(columns, 4, "error", TEXTOID, -1, 0);
	TupleDescInitEntry(columns, 5, "collected_at", TIMESTAMPTZOID, -1, 0);
	TupleDescInitEntry(columns, 6, "number", INT4OID, -1, 0);
	for (int i = 0; i < n; i++)
	{
		Datum values[6] = { UUIDPGetDatum(&rows[i]->agent),
							rows[i]->key,
							rows[i]->value,
							rows[i]->error,
							TimestampTzGetDatum(rows[i]->collected_at),
							Int32GetDatum(i) };

		tuplestore_putvalues(store, columns, values, nulls);
	}
	batch->md.name = batch_name;
	batch->md.reliddesc = InvalidOid;
	batch->md.tupdesc = columns;
	batch->md.enrtype = ENR_NAMED_TUPLESTORE;
	batch->md.enrtuples = n;
	batch->reldata = store;
	if (SPI_register_relation(batch) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register relation \"%s\"", batch_name);
	return batch;
}

/* Undo metadata_rows_register(). */
void
metadata_rows_unregister(EphemeralNamedRelation batch)
{
	if (SPI_unregister_relation(batch_name) != SPI_OK_REL_UNREGISTER)
		elog(ERROR, "could not unregister relation \"%s\"", batch_name);
	tuplestore_end(batch->reldata);
}
