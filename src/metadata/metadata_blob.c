/*
 * metadata_blob.c
 *	  The buffered metadata of one agent in one piece of memory: a record for each of its keys. Pure
 *	  code on memory of the caller, who must hold the lock that protects it.
 */
#include "compat.h"

#include "metadata/metadata_blob.h"

/* A key of an agent, followed by its key, value and error. The whole is MAXALIGNed. */
typedef struct Record
{
	uint64 sequence; /* of its report */
	TimestampTz collected_at;
	uint16 key_length;
	uint16 value_length;
	uint16 error_length;
} Record;

/* Return the size of a record with texts of these lengths, in bytes. */
static inline Size
record_size(Size key_length, Size value_length, Size error_length)
{
	return MAXALIGN(sizeof(Record) + key_length + value_length + error_length);
}

/* Return the size of this record, in bytes. */
static inline Size
size_of(const Record *record)
{
	return record_size(record->key_length, record->value_length, record->error_length);
}

/* Return the start of the record's texts; the key comes first. */
static inline char *
texts_of(const Record *record)
{
	return (char *) record + sizeof(Record);
}

/* Write a reported entry as a record. Returns its size. */
static Size
write_record(char *place, const ReportEntry *entry, TimestampTz collected_at, uint64 sequence)
{
	Record *record = (Record *) place;
	char *text = texts_of(record);

	record->sequence = sequence;
	record->collected_at = collected_at;
	record->key_length = entry->key.length;
	record->value_length = entry->value.length;
	record->error_length = entry->error.length;
	memcpy(text, entry->key.data, entry->key.length);
	text += entry->key.length;
	memcpy(text, entry->value.data, entry->value.length);
	text += entry->value.length;
	memcpy(text, entry->error.data, entry->error.length);
	return size_of(record);
}

/* Return the number of the reported entry with the record's key, or -1. Tries expected first. */
static int
find_reported(const Record *record, ReportEntry **reported, int n, int expected)
{
	/* an agent reports its keys in the same order each time, so mostly the first try matches */
	for (int i = 0; i < n; i++)
	{
		int candidate = expected + i < n ? expected + i : expected + i - n;
		const ReportText *key = &reported[candidate]->key;

		if (key->length == record->key_length &&
			memcmp(key->data, texts_of(record), key->length) == 0)
			return candidate;
	}
	return -1;
}

/*
 * Merge reported entries, whose keys must be distinct, with an agent's blob into a new blob. Keeps
 * records that are newer than the report. add: also take keys that the blob does not have yet. The
 * new blob is palloc'd in the current context.
 */
MergedBlob
blob_merge(const char *old, Size old_size, ReportEntry **reported, int n, TimestampTz collected_at,
		   uint64 sequence, bool add)
{
	bool *seen = palloc0(n + 1);
	Size most = old_size;
	int expected = 0;
	MergedBlob merged = { 0 };

	for (int i = 0; i < n; i++)
		most += record_size(reported[i]->key.length, reported[i]->value.length,
							reported[i]->error.length);
	merged.blob = palloc(most + 1);

	for (Size position = 0; position < old_size; merged.nkeys++)
	{
		const Record *record = (const Record *) (old + position);
		int match = find_reported(record, reported, n, expected);

		if (match >= 0)
		{
			seen[match] = true;
			merged.taken++;
			expected = match + 1 < n ? match + 1 : 0;
		}
		if (match >= 0 && record->collected_at <= collected_at)
			merged.size +=
				write_record(merged.blob + merged.size, reported[match], collected_at, sequence);
		else
		{
			memcpy(merged.blob + merged.size, record, size_of(record));
			merged.size += size_of(record);
		}
		position += size_of(record);
	}
	for (int i = 0; i < n && add; i++)
	{
		if (seen[i])
			continue;
		merged.size += write_record(merged.blob + merged.size, reported[i], collected_at, sequence);
		merged.nkeys++;
		merged.taken++;
	}
	pfree(seen);
	return merged;
}

/* Read the next record. Start with *position = 0. Returns false at the end. */
bool
blob_next(const char *blob, Size size, Size *position, BlobRecord *record)
{
	const Record *stored = (const Record *) (blob + *position);
	const char *text = texts_of(stored);

	if (*position >= size)
		return false;
	record->key = (ReportText){ text, stored->key_length };
	text += stored->key_length;
	record->value = (ReportText){ text, stored->value_length };
	text += stored->value_length;
	record->error = (ReportText){ text, stored->error_length };
	record->collected_at = stored->collected_at;
	*position += size_of(stored);
	return true;
}

/*
 * Remove the records up to a sequence number, in place. Returns the new size; *nkept receives the
 * number of remaining records, and *first_sequence the lowest number among them.
 */
Size
blob_keep_newer(char *blob, Size size, uint64 sequence, int *nkept, uint64 *first_sequence)
{
	Size kept = 0;

	*nkept = 0;
	*first_sequence = PG_UINT64_MAX;
	for (Size position = 0; position < size;)
	{
		Record *record = (Record *) (blob + position);
		Size length = size_of(record);

		position += length;
		if (record->sequence <= sequence)
			continue;
		*first_sequence = Min(*first_sequence, record->sequence);
		memmove(blob + kept, record, length);
		kept += length;
		(*nkept)++;
	}
	return kept;
}
