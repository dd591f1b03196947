/*
 * compat.h
 *	  Every PostgreSQL version switch of the extension, and nothing else.
 */
#ifndef PREBUILD_COMPAT_H
#define PREBUILD_COMPAT_H

#include "postgres.h"

/*
 * Check before all other headers, because those of an unknown release may be missing or
 * different.
 */
#if PG_VERSION_NUM < 140000
#error "prebuild_ext needs PostgreSQL 14 or newer"
#elif PG_VERSION_NUM >= 190000
#error "this release of prebuild_ext knows PostgreSQL 14 to 18: use a newer one"
#endif

#include "common/jsonapi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/shmem.h" /* mul_size, which later minor releases declare in utils/palloc.h */
#include "utils/guc.h"
#include "utils/tuplestore.h"

/* The module's name and version show in pg_get_loaded_modules() from 18 on. */
#if PG_VERSION_NUM >= 180000
#define PREBUILD_MODULE_MAGIC                                                                      \
	PG_MODULE_MAGIC_EXT(.name = "prebuild_ext", .version = PREBUILD_VERSION)
#else
#define PREBUILD_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* A misspelt setting with our prefix is an error from 15 on, a warning on 14. */
#if PG_VERSION_NUM >= 150000
#define compat_reserve_guc_prefix(prefix) MarkGUCPrefixReserved(prefix)
#else
#define compat_reserve_guc_prefix(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* Typed allocation came with 16 and with later minor releases of 14 and 15. */
#ifndef palloc_object
#define palloc_object(type) ((type *) palloc(sizeof(type)))
#define palloc0_object(type) ((type *) palloc0(sizeof(type)))
#define palloc_array(type, count) ((type *) palloc(sizeof(type) * (count)))
#define palloc0_array(type, count) ((type *) palloc0(sizeof(type) * (count)))
#endif

/*
 * From 15 on, a module requests shared memory in a hook; before, in _PG_init. A module chains its
 * function into the hook. The function must first call compat_request_shmem_before().
 */
#if PG_VERSION_NUM >= 150000
#define compat_chain_shmem_request(function, before)                                               \
	((before) = shmem_request_hook, shmem_request_hook = (function))
#define compat_request_shmem_before(before) ((before) ? (before) () : (void) 0)
#else
typedef void (*shmem_request_hook_type)(void);
#define compat_chain_shmem_request(function, before) ((before) = NULL, (function) ())
#define compat_request_shmem_before(before) ((void) (before))
#endif

/* Declare functions that do not return with this in front, 18's own spelling. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn __attribute__((noreturn))
#endif

/* From 15 on, a worker's commit sends its notifications; before, the worker makes this call. */
#if PG_VERSION_NUM >= 150000
#define compat_notify_committed() ((void) 0)
#else
#include "commands/async.h"
#define compat_notify_committed() ProcessCompletedNotifies()
#endif

/* A limit for whole transactions, which would end a worker and not only its statement, is 17's. */
#if PG_VERSION_NUM >= 170000
#define compat_unset_transaction_timeout()                                                         \
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE)
#else
#define compat_unset_transaction_timeout() ((void) 0)
#endif

/* From 16 on, one function checks the ownership of any object, given its catalog. */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_class_d.h"
#include "catalog/pg_namespace_d.h"
#define compat_owns_table(table, role) object_ownercheck(RelationRelationId, (table), (role))
#else
#define compat_owns_table(table, role) pg_class_ownercheck((table), (role))
#endif

/* From 16 on, one function checks rights on any object, given its catalog; here, on a schema. */
#if PG_VERSION_NUM >= 160000
#define compat_may_use_schema(schema, role)                                                        \
	(object_aclcheck(NamespaceRelationId, (schema), (role), ACL_USAGE) == ACLCHECK_OK)
#else
#define compat_may_use_schema(schema, role)                                                        \
	(pg_namespace_aclcheck((schema), (role), ACL_USAGE) == ACLCHECK_OK)
#endif

/* Does this process hold a lock in exactly this mode? 17 can count stronger modes, too. */
#if PG_VERSION_NUM >= 170000
#define compat_lock_held_by_me(tag, mode) LockHeldByMe((tag), (mode), false)
#else
#define compat_lock_held_by_me(tag, mode) LockHeldByMe((tag), (mode))
#endif

/* Does a role have the right to call a function? */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_proc_d.h"
#define compat_may_execute(function, role)                                                         \
	(object_aclcheck(ProcedureRelationId, (function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#else
#define compat_may_execute(function, role)                                                         \
	(pg_proc_aclcheck((function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#endif

/* Begin to scan an index of a table. 18 can count what the scan does. */
#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(table, index, snapshot, nkeys)                                      \
	index_beginscan((table), (index), (snapshot), NULL, (nkeys), 0)
#else
#define compat_index_beginscan(table, index, snapshot, nkeys)                                      \
	index_beginscan((table), (index), (snapshot), (nkeys), 0)
#endif

/* Raise an error if old_snapshot_threshold, which 17 no longer has, made a page too new for a snapshot. */
#if PG_VERSION_NUM >= 170000
#define compat_test_for_old_snapshot(snapshot, table, page) ((void) (page))
#else
#define compat_test_for_old_snapshot(snapshot, table, page)                                        \
	TestForOldSnapshot((snapshot), (table), (page))
#endif

/* Set-returning functions that fill a tuplestore: the server's own helper came with 15. */
#if PG_VERSION_NUM < 150000
#define MAT_SRF_USE_EXPECTED_DESC 0x01

static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, bits32 flags)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old_context;
	TupleDesc tupdesc;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) || !(rsinfo->allowedModes & SFRM_Materialize))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("set-valued function called in context that cannot accept a set")));
	old_context = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (flags & MAT_SRF_USE_EXPECTED_DESC)
		tupdesc = CreateTupleDescCopy(rsinfo->expectedDesc);
	else if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = tuplestore_begin_heap(true, false, work_mem);
	rsinfo->setDesc = tupdesc;
	MemoryContextSwitchTo(old_context);
}
#endif

/* Semantic actions of the JSON parser return a result from 16 on. */
#if PG_VERSION_NUM >= 160000
typedef JsonParseErrorType CompatJsonResult;
#define COMPAT_JSON_CONTINUE return JSON_SUCCESS
#else
typedef void CompatJsonResult;
#define COMPAT_JSON_CONTINUE return
#endif

/*
 * Make a lexer over JSON text in the database's encoding, palloc'd. With need_escapes it decodes
 * string tokens. 17 lets the caller bring the memory, and takes constant text.
 */
static inline JsonLexContext *
compat_json_lexer(const char *json, bool need_escapes)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, json, strlen(json), GetDatabaseEncoding(),
										need_escapes);
#else
	return makeJsonLexContextCstringLen(unconstify(char *, json), (int) strlen(json),
										GetDatabaseEncoding(), need_escapes);
#endif
}

#endif /* PREBUILD_COMPAT_H */
