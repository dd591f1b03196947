/*
 * found_builds.c
 *	  The first builds of workspaces that a step of a pass finds: those in some blocks of the table,
 *	  and those of jobs that are under way or complete since shortly before the last pass.
 *
 *	  The first round of passes finds most of the log, a few hundred builds in each step. So what a
 *	  row costs counts: the blocks are read once, a filter on few columns comes first, a person's
 *	  build needs no other table than that of its preset, and each preset is looked up once.
 *
 *	  All is read with the caller's rights, in the active snapshot.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/ids.h"
#include "base/plans.h"
#include "base/rows.h"
#include "catalog/control_plane_catalog.h"
#include "demand/demand_sql.h"
#include "demand/found_builds.h"

static Datum
first_tuple_of(BlockNumber block)
{
	ItemPointer tid = palloc(sizeof(ItemPointerData));

	ItemPointerSet(tid, block, 0);
	return PointerGetDatum(tid);
}

/*
 * The first builds of the workspaces of builds "c" in the blocks from $1 to before $2: first ones of
 * age $3, later ones of age $4. A first one is what it is looked for; only a later one makes it be
 * looked up. The inner filter needs two columns at the beginning of a row, and leaves few rows.
 */
#define BUILDS_OF_BLOCKS                                                                           \
	"SELECT rb.workspace_id, rb.build_number, rb.template_version_preset_id, rb.created_at,"       \
	" rb.transition, rb.job_id, rb.initiator_id FROM {cp}workspace_builds rb"                      \
	" WHERE rb.ctid {>=} $1 AND rb.ctid {<} $2"                                                    \
	" AND ((rb.build_number {=} 1 AND pg_catalog.age(rb.xmin) {<=} $3)"                            \
	"  OR (rb.build_number {>} 1 AND pg_catalog.age(rb.xmin) {<=} $4)) OFFSET 0"
#define EITHER(its, firsts, name)                                                                  \
	"CASE WHEN c.build_number {=} 1 THEN " its " ELSE " firsts " END AS " name
#define EITHER_BUILDS(name) EITHER("c." name, "fb." name, name)
#define BLOCKS_COLUMNS                                                                             \
	EITHER_BUILDS("template_version_preset_id")                                                    \
	", " EITHER_BUILDS("created_at") ", " EITHER_BUILDS("transition") ", " EITHER_BUILDS("job_id")
#define BLOCKS_BY_SYSTEM EITHER(IS_BY_SYSTEM("c"), "fb.by_system", "by_system")
#define FIRST_BUILD_OF_LATER FIRST_BUILD(" AND c.build_number {>} 1")
#define OF_BLOCKS                                                                                  \
	"SELECT c.workspace_id, " BLOCKS_COLUMNS ", " BLOCKS_BY_SYSTEM " FROM (" BUILDS_OF_BLOCKS      \
	") c LEFT JOIN " FIRST_BUILD_OF_LATER " ON true WHERE " IS_FIRST " OR " IS_LATER

/* The jobs that live daemons have completed since $5. */
#define JOBS_OF_DAEMONS                                                                            \
	" UNION ALL SELECT cj.id FROM {cp}provisioner_daemons pd, LATERAL ("                           \
	"  SELECT dj.id FROM {cp}provisioner_jobs dj WHERE dj.worker_id {=} pd.id"                     \
	"  AND dj.organization_id {=} pd.organization_id AND dj.completed_at {>=} $5 OFFSET 0) cj"

/* The workspaces of builds of jobs that are not complete, or among those that "more" adds. */
#define OF_JOBS(more)                                                                              \
	"SELECT DISTINCT c.workspace_id FROM ("                                                        \
	" SELECT aj.id FROM {cp}provisioner_jobs aj"                                                   \
	" WHERE aj.job_status {=} ANY ('{pending,running,canceling}')" more                            \
	") j, LATERAL (SELECT jb.workspace_id, jb.build_number, jb.initiator_id,"                      \
	"  jb.template_version_preset_id FROM {cp}workspace_builds jb WHERE jb.job_id {=} j.id"        \
	"  OFFSET 0) c WHERE " IS_FIRST " OR " IS_LATER

#define FOUND(first_builds)                                                                        \
	"SELECT f.workspace_id::pg_catalog.uuid, f.template_version_preset_id::pg_catalog.uuid,"       \
	" f.job_id::pg_catalog.uuid, f.by_system::pg_catalog.bool, w.deleted::pg_catalog.bool,"        \
	" " ASKED_AT                                                                                   \
	COUNTED_BUILDS(first_builds) " WHERE f.template_version_preset_id IS NOT NULL"                 \
								 " AND " IS_COUNTED

/* The columns of FOUND, from 0 on. */
enum
{
	FOUND_WORKSPACE,
	FOUND_PRESET,
	FOUND_JOB,
	FOUND_BY_SYSTEM,
	FOUND_DELETED,
	FOUND_ASKED_AT
};

/* A preset that builds carry. */
typedef struct FoundPreset
{
	Id id;		   /* the key */
	bool is_known; /* the rest is */
	Id template_id;
	Datum name;
} FoundPreset;

/* What takes the rows. */
typedef struct Finder
{
	HTAB *presets;
	int room;
	FoundBuilds found;
	FoundPreset **of; /* the preset of each build, or NULL: it is one too many */
} Finder;

/*
 * May the current user read the daemons? A pass runs without that right, too. Their jobs only make
 * the log fresh sooner.
 */
static bool
may_read_daemons(void)
{
	Oid table = control_plane_table("provisioner_daemons", true);

	return OidIsValid(table) && pg_class_aclcheck(table, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		   check_enable_rls(table, GetUserId(), true) != RLS_ENABLED;
}

/* Find the preset of an id, or enter it. */
static FoundPreset *
enter_preset(Finder *finder, const Id *id)
{
	FoundPreset *preset;
	bool existed;

	preset = hash_search(finder->presets, id, HASH_ENTER, &existed);
	if (!existed)
		preset->is_known = false;
	return preset;
}

/* Take a row of FOUND, as plan_each() gives it. */
static void
take_build(TupleTableSlot *row, void *argument)
{
	Finder *finder = argument;
	FoundBuilds *found = &finder->found;
	FoundBuild *build;

	slot_getallattrs(row);
	if (found->n == finder->room)
	{
		finder->room *= 2;
		found->builds = repalloc_huge(found->builds, sizeof(FoundBuild) * finder->room);
		finder->of = repalloc_huge(finder->of, sizeof(FoundPreset *) * finder->room);
	}
	finder->of[found->n] =
		enter_preset(finder, (const Id *) DatumGetPointer(row->tts_values[FOUND_PRESET]));
	build = &found->builds[found->n++];
	build->workspace_id = *(const Id *) DatumGetPointer(row->tts_values[FOUND_WORKSPACE]);
	build->job_id = *(const Id *) DatumGetPointer(row->tts_values[FOUND_JOB]);
	build->by_system = DatumGetBool(row->tts_values[FOUND_BY_SYSTEM]);
	build->is_gone =
		!row->tts_isnull[FOUND_DELETED] && DatumGetBool(row->tts_values[FOUND_DELETED]);
	build->asked_at = row->tts_isnull[FOUND_ASKED_AT]
						  ? DT_NOEND
						  : DatumGetTimestampTz(row->tts_values[FOUND_ASKED_AT]);
}

/*
 * Read the rows of a step. A workspace may come more than once: in some blocks and by its job. To plan
 * the statement anew for each range would take longer than to run it.
 */
static void
read_builds(Finder *finder, const DemandMarker *marker, BlockNumber until, TimestampTz since)
{
	static KeptPlan plan, blind_plan, jobs_plan, blind_jobs_plan;
	static const Oid argtypes[] = { TIDOID, TIDOID, INT4OID, INT4OID, TIMESTAMPTZOID };
	Datum values[] = { first_tuple_of(marker->next_block), first_tuple_of(until),
					   Int32GetDatum(marker->done ? demand_age(marker->done_from) : PG_INT32_MAX),
					   Int32GetDatum(
						   demand_age(marker->done ? marker->done_from : marker->round_from)),
					   TimestampTzGetDatum(since) };
	int guc_level = NewGUCNestLevel();

	set_config_option("plan_cache_mode", "force_generic_plan", PGC_USERSET, PGC_S_SESSION,
					  GUC_ACTION_SAVE, true, 0, false);
#define EITHER_WAY(more) FOUND(OF_BLOCKS " UNION ALL " FIRST_BUILDS_OF(OF_JOBS(more)))
#define BY_JOBS(more) FOUND(FIRST_BUILDS_OF(OF_JOBS(more)))
#define READ(plan, statement, nargs)                                                               \
	plan_each(&(plan), statement, PLAN_READ, nargs, argtypes, values, NULL, take_build, finder)
	if (marker->readable_by_block && may_read_daemons())
		READ(plan, EITHER_WAY(JOBS_OF_DAEMONS), 5);
	else if (marker->readable_by_block)
		READ(blind_plan, EITHER_WAY(""), 4);
	else if (may_read_daemons())
		READ(jobs_plan, BY_JOBS(JOBS_OF_DAEMONS), 5);
	else
		READ(blind_jobs_plan, BY_JOBS(""), 0);
	AtEOXact_GUC(true, guc_level);
}

/* Read the presets that were entered. */
static void
read_presets(HTAB *presets)
{
	static KeptPlan plan = { .generic = true };
	static const Oid argtypes[] = { UUIDARRAYOID };
	ArrayParameter *ids = array_new(UUIDOID);
	Datum values[1];
	HASH_SEQ_STATUS all;
	FoundPreset *preset;
	uint64 n;

	hash_seq_init(&all, presets);
	while ((preset = hash_seq_search(&all)) != NULL)
		array_add(ids, id_datum(&preset->id));
	values[0] = array_datum(ids);
	n = plan_execute(&plan,
					 "SELECT d.id, v.template_id::pg_catalog.uuid, p.name::pg_catalog.text"
					 " FROM pg_catalog.unnest($1) d (id), " PRESET_OF("d.id"),
					 PLAN_READ, lengthof(argtypes), argtypes, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		Id id = row_id(i, 1);

		preset = hash_search(presets, &id, HASH_FIND, NULL);
		preset->is_known = true;
		preset->template_id = row_id(i, 2);
		preset->name = datumCopy(row_get(i, 3), false, -1);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Order pointers to builds by workspace, and those of one workspace as they lie. */
static int
compare_workspaces(const void *left, const void *right)
{
	const FoundBuild *a = *(FoundBuild *const *) left;
	const FoundBuild *b = *(FoundBuild *const *) right;
	int order = id_compare(&a->workspace_id, &b->workspace_id);

	return order != 0 ? order : (a > b) - (a < b);
}

/* Take the preset from every build but the first one of its workspace. */
static void
mark_repeated(Finder *finder)
{
	const FoundBuilds *found = &finder->found;
	FoundBuild **sorted = palloc_extended(sizeof(FoundBuild *) * (found->n + 1), MCXT_ALLOC_HUGE);

	for (int i = 0; i < found->n; i++)
		sorted[i] = &found->builds[i];
	qsort(sorted, found->n, sizeof(FoundBuild *), compare_workspaces);
	for (int i = 1; i < found->n; i++)
		if (id_compare(&sorted[i - 1]->workspace_id, &sorted[i]->workspace_id) == 0)
			finder->of[sorted[i] - found->builds] = NULL;
	pfree(sorted);
}

/*
 * Read the builds of a step, in the blocks from the marker's next one to before "until" and by jobs
 * that daemons have completed since a time, without those whose preset is gone. Each workspace comes
 * once, in the order of the table. Takes two statements, or one if it finds nothing. SPI must be
 * connected. The result is palloc'd in the current context.
 */
FoundBuilds
found_builds_read(const DemandMarker *marker, BlockNumber until, TimestampTz since)
{
	HASHCTL control = { .keysize = sizeof(Id),
						.entrysize = sizeof(FoundPreset),
						.hcxt = CurrentMemoryContext };
	Finder finder = { .room = 64 };
	FoundBuilds *found = &finder.found;
	int kept = 0;

	finder.presets =
		hash_create("presets of builds", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	found->builds = palloc_array(FoundBuild, finder.room);
	finder.of = palloc_array(FoundPreset *, finder.room);
	read_builds(&finder, marker, until, since);
	if (found->n > 0)
		read_presets(finder.presets);
	mark_repeated(&finder);
	for (int i = 0; i < found->n; i++)
	{
		const FoundPreset *preset = finder.of[i];

		if (preset == NULL || !preset->is_known)
			continue;
		found->builds[kept] = found->builds[i];
		found->builds[kept].template_id = preset->template_id;
		found->builds[kept++].preset_name = preset->name;
	}
	found->n = kept;
	return *found;
}
