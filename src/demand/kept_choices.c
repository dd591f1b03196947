/*
 * kept_choices.c
 *	  Read the choices, and keep their rows in the backend.
 *
 *	  Each pass asks the policy of each preset in mode auto. What a policy has learnt are some 700
 *	  numbers, which change once a day. To fetch, check and sum them takes longer than the rest of the
 *	  answer. So a pass asks the table only which row versions its snapshot sees, and takes what it has
 *	  kept of these. It fetches the other versions, and keeps them.
 *
 *	  Why the answer is that of the table. A row version never changes: PostgreSQL writes a new one, in
 *	  another place or by another transaction. A version is known by the file that has it, its place
 *	  in the file (ctid) and the transaction that wrote it (xmin). Something else under the same three
 *	  would have to come
 *	  - from the same transaction. It is at work, then: a transaction that has ended writes nothing.
 *		So a version by the current transaction is not kept (it may truncate the table and fill it
 *		anew, or roll back to a savepoint), and others' versions are visible once they have ended.
 *		This covers a restore and whatever changes the table by hand;
 *	  - from a transaction with the same 32 bits as id, 2^32 transactions later. Each kept version has
 *		the transaction at which these bits come again (holds_until), and does not hold from there
 *		on. Versions may be frozen, and older than their bits tell. So the last transaction with
 *		these bits before the reading may be a later one than the row's; if the snapshot does not
 *		know it as ended, the version is not kept;
 *	  - from a rewrite of the table (VACUUM FULL), which moves versions: then the file is another one.
 *		So is that of a table that somebody has dropped and created again, with the extension or
 *		without. The file is looked up after the statement that reads the table, which holds a lock
 *		on it until the transaction ends. (The number of a file comes again when 2^32 others have
 *		been given away, all while one backend keeps its versions.)
 *	  What is kept does not depend on the reader's transaction: if that fails, what it has read from
 *	  others is still so. An older snapshot sees older versions, and gets these. On a standby, versions
 *	  come by replay, with the ids of the primary.
 *
 *	  Memory: what the last reading of all templates saw is kept, up to KEPT_MOST; 11 kB for each preset
 *	  with a forecast. Readings of one template use that, and keep nothing. A session that works for two
 *	  control planes in turn keeps those of the last one.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/plans.h"
#include "demand/kept_choices.h"
#include "settings.h"

/* Memory for versions, at most. Those beyond it are fetched each time. */
#define KEPT_MOST (16 * 1024 * 1024)

/* A row version: the key of the hash table, without padding. */
typedef struct RowVersion
{
	Oid file;
	TransactionId xmin;
	BlockNumber block;
	uint32 item;
} RowVersion;

/* A kept version. What its choice points to is one chunk. */
typedef struct KeptChoice
{
	RowVersion version;
	uint64 holds_until; /* as holds_until() says */
	uint64 reading;		/* the last one that saw it */
	Size size;
	void *chunk;
	PolicyChoice choice;
} KeptChoice;

static HTAB *kept;
static MemoryContext kept_context;
static Size kept_size;
static uint64 readings;

/* Versions that a snapshot sees, and which of them have to be fetched. */
typedef struct Reading
{
	MemoryContext context;
	int n;
	int room;
	RowVersion *versions;
} Reading;

/* The columns of the statement that fetches. */
enum
{
	FETCH_CTID = 1,
	FETCH_XMIN,
	FETCH_TEMPLATE,
	FETCH_PRESET,
	FETCH_KIND,
	FETCH_PARAMETER,
	FETCH_OUTCOME,
	FETCH_NOTE,
	FETCH_CHOSEN_AT,
	FETCH_DUE_AT,
	FETCH_SUSPENDED,
	FETCH_LEARNT_AT,
	FETCH_LEARNT
};

static RowVersion
version_of(Datum ctid, Datum xmin)
{
	ItemPointer place = (ItemPointer) DatumGetPointer(ctid);

	return (RowVersion){ .xmin = DatumGetTransactionId(xmin),
						 .block = ItemPointerGetBlockNumberNoCheck(place),
						 .item = ItemPointerGetOffsetNumberNoCheck(place) };
}

/* Note a row that the snapshot sees. */
static void
note_version(TupleTableSlot *row, void *context)
{
	Reading *reading = context;

	slot_getallattrs(row);
	if (reading->n == reading->room)
	{
		MemoryContext before = MemoryContextSwitchTo(reading->context);

		reading->room *= 2;
		reading->versions = repalloc_huge(reading->versions, sizeof(RowVersion) * reading->room);
		MemoryContextSwitchTo(before);
	}
	reading->versions[reading->n++] = version_of(row->tts_values[0], row->tts_values[1]);
}

/*
 * Return the file of the table, on which the transaction has a lock. InvalidOid, so that nothing is
 * kept, if it has no file of its own.
 */
static Oid
file_of_choices(void)
{
	Oid table = get_relname_relid("prebuild_policy_choice", plans_extension_schema());
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid file = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	if (((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_RELATION)
		file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
	ReleaseSysCache(tuple);
	return file;
}

/* Read which versions of rows the active snapshot sees: of a template, or (NULL) of all. */
static Reading
read_versions(const Id *template_id)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TEXTOID, UUIDOID };
	Datum values[] = { CStringGetTextDatum(setting_control_plane_schema),
					   template_id == NULL ? (Datum) 0 : id_datum(template_id) };
	const char nulls[] = { ' ', template_id == NULL ? 'n' : ' ' };
	Reading reading = { .context = CurrentMemoryContext, .room = 64 };
	Oid file;

	reading.versions = palloc_array(RowVersion, reading.room);
	plan_each(&plan,
			  "SELECT c.ctid, c.xmin FROM {ext}prebuild_policy_choice c"
			  " WHERE c.control_plane {=} $1 AND ($2 IS NULL OR c.template_id {=} $2)",
			  PLAN_READ_OWN, lengthof(argtypes), argtypes, values, nulls, note_version, &reading);
	file = file_of_choices();
	for (int i = 0; i < reading.n; i++)
		reading.versions[i].file = file;
	return reading;
}

/*
 * Return the 64 bits of the transaction from which on a version, which the active snapshot sees, may
 * be another one: the next one with the same 32 bits. Returns 0 if the version must not be kept.
 */
static uint64
holds_until(const RowVersion *version)
{
	uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());

	if (!OidIsValid(version->file) || !TransactionIdIsNormal(version->xmin) ||
		TransactionIdIsCurrentTransactionId(version->xmin) ||
		XidInMVCCSnapshot(version->xmin, GetActiveSnapshot()))
		return 0;
	return next - (uint32) ((uint32) next - version->xmin) + (UINT64CONST(1) << 32);
}

/* Forget a version. */
static void
forget(KeptChoice *entry)
{
	kept_size -= entry->size;
	pfree(entry->chunk);
	(void) hash_search(kept, &entry->version, HASH_REMOVE, NULL);
}

/* Find a version among the kept ones. Returns NULL if it is not there, or does not hold any more. */
static KeptChoice *
find_kept(const RowVersion *version, uint64 next)
{
	KeptChoice *entry;

	if (kept == NULL)
		return NULL;
	entry = hash_search(kept, version, HASH_FIND, NULL);
	if (entry != NULL && next > entry->holds_until)
	{
		forget(entry);
		return NULL;
	}
	return entry;
}

static void
make_room(void)
{
	HASHCTL control = { .keysize = sizeof(RowVersion), .entrysize = sizeof(KeptChoice) };

	if (kept_context == NULL)
		kept_context =
			AllocSetContextCreate(TopMemoryContext, "prebuild_ext choices", ALLOCSET_DEFAULT_SIZES);
	control.hcxt = kept_context;
	kept = hash_create("prebuild_ext choices", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Keep a version, if it may be kept and there is room. */
static void
keep(const RowVersion *version, const PolicyChoice *choice)
{
	Size recalled = choice->recalled == NULL ? 0 : policy_recalled_size(&choice->policy);
	Size name = strlen(choice->preset_name) + 1;
	Size note = strlen(choice->note) + 1;
	Size size = MAXALIGN(recalled) + name + note;
	uint64 until = holds_until(version);
	KeptChoice *entry;
	char *chunk;

	if (until == 0 || kept_size + size > KEPT_MOST)
		return;
	if (kept == NULL)
		make_room();
	/* what may fail comes first, so that no entry is half made */
	chunk = MemoryContextAlloc(kept_context, size);
	entry = hash_search(kept, version, HASH_ENTER, NULL);
	entry->holds_until = until;
	entry->reading = readings;
	entry->size = size;
	entry->chunk = chunk;
	entry->choice = *choice;
	entry->choice.recalled = recalled == 0 ? NULL : memcpy(chunk, choice->recalled, recalled);
	entry->choice.preset_name = memcpy(chunk + MAXALIGN(recalled), choice->preset_name, name);
	entry->choice.note = memcpy(chunk + MAXALIGN(recalled) + name, choice->note, note);
	kept_size += size;
}

/* Forget what the last reading of all has not seen. */
static void
forget_others(void)
{
	HASH_SEQ_STATUS all;
	KeptChoice *entry;

	if (kept == NULL)
		return;
	hash_seq_init(&all, kept);
	while ((entry = hash_seq_search(&all)) != NULL)
		if (entry->reading != readings)
			forget(entry);
}

/* Make what the policy has learnt of a float8[]. NULL if it cannot have learnt that. palloc'd. */
static PolicyRecalled *
recall(const Policy *policy, Datum value)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	const double *numbers = (const double *) ((const char *) array + ARR_OVERHEAD_NONULLS(1));
	PolicyRecalled *recalled;

	if (!policy_learns(policy) || ARR_NDIM(array) != 1 || ARR_HASNULL(array) ||
		ARR_ELEMTYPE(array) != FLOAT8OID)
		return NULL;
	recalled = palloc0(policy_recalled_size(policy));
	return policy_recall(policy, numbers, ARR_DIMS(array)[0], recalled) ? recalled : NULL;
}

/* Take a choice from row number i of fetch(). */
static void
take_row(PolicyChoice *choice, uint64 i)
{
	bool isnull;
	Datum value;

	*choice = (PolicyChoice){ .template_id = row_id(i, FETCH_TEMPLATE),
							  .preset_name = row_text(i, FETCH_PRESET),
							  .outcome = policy_outcome_of_row(row_text(i, FETCH_OUTCOME)),
							  .note = row_text(i, FETCH_NOTE),
							  .chosen_at = DatumGetTimestampTz(row_get(i, FETCH_CHOSEN_AT)),
							  .due_at = DatumGetTimestampTz(row_get(i, FETCH_DUE_AT)),
							  .suspended = DatumGetBool(row_get(i, FETCH_SUSPENDED)),
							  .learnt_at = DT_NOBEGIN };
	choice->policy =
		policy_of_row(row_text(i, FETCH_KIND), DatumGetFloat8(row_get(i, FETCH_PARAMETER)));
	value = row_value(i, FETCH_LEARNT_AT, &isnull);
	if (!isnull)
		choice->learnt_at = DatumGetTimestampTz(value);
	value = row_value(i, FETCH_LEARNT, &isnull);
	if (!isnull)
		choice->recalled = recall(&choice->policy, value);
}

/*
 * Fetch versions by their places, in the same snapshot, to the end of the choices. all: whether to
 * keep them.
 */
static void
fetch(const ArrayParameter *places, Oid file, bool all, PolicyChoices *choices)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TIDARRAYOID };
	Datum values[] = { array_datum(places) };
	uint64 n = plan_execute(&plan,
							"SELECT c.ctid, c.xmin, c.template_id, c.preset_name, c.kind,"
							" c.parameter, c.outcome, c.note, c.chosen_at, c.due_at, c.suspended,"
							" c.learnt_at, c.learnt"
							" FROM {ext}prebuild_policy_choice c WHERE c.ctid {=} ANY ($1)",
							PLAN_READ_OWN, lengthof(argtypes), argtypes, values, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		PolicyChoice *choice = &choices->choices[choices->n++];
		RowVersion version = version_of(row_get(i, FETCH_CTID), row_get(i, FETCH_XMIN));

		version.file = file;
		take_row(choice, i);
		if (all)
			keep(&version, choice);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Take a kept choice. Only what it has learnt stays where it is, which only the caller itself asks. */
static PolicyChoice
take_kept(const KeptChoice *entry)
{
	PolicyChoice choice = entry->choice;

	choice.preset_name = pstrdup(choice.preset_name);
	choice.note = pstrdup(choice.note);
	return choice;
}

/*
 * Read the choices of a template or (NULL) of all, in the active snapshot, by two statements at most.
 * SPI must be connected. The result is palloc'd in the current context, but for what policies have
 * learnt, which is gone with the next reading. There are none where the script has no such table.
 */
PolicyChoices
policy_choices_read(const Id *template_id)
{
	PolicyChoices result = { 0 };
	ArrayParameter *places = array_new(TIDOID);
	uint64 next;
	Reading reading;

	if (!policy_choices_exist())
		return result;
	readings++;
	reading = read_versions(template_id);
	next = U64FromFullTransactionId(ReadNextFullTransactionId());
	result.choices = palloc_array(PolicyChoice, reading.n + 1);
	for (int i = 0; i < reading.n; i++)
	{
		const RowVersion *version = &reading.versions[i];
		KeptChoice *entry = find_kept(version, next);

		if (entry == NULL)
		{
			ItemPointer place = palloc(sizeof(ItemPointerData));

			ItemPointerSet(place, version->block, (OffsetNumber) version->item);
			array_add(places, PointerGetDatum(place));
			continue;
		}
		entry->reading = readings;
		result.choices[result.n++] = take_kept(entry);
	}
	if (template_id == NULL && (kept != NULL && hash_get_num_entries(kept) > result.n))
		forget_others();
	if (places->n > 0)
		fetch(places, reading.versions[0].file, template_id == NULL, &result);
	qsort(result.choices, result.n, sizeof(PolicyChoice), policy_choices_compare);
	return result;
}
