/*
 * other_reconciler.c
 *	  Is another reconciler at work on the control plane? The builds of prebuilds tell: their ids are
 *	  of version 5 if this extension made them (see ids.c), and of version 4 if coderd did.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/plans.h"
#include "base/rows.h"
#include "catalog/other_reconciler.h"

/* Has somebody else made the first build of a prebuild? */
bool
other_reconciler_made(const Id *build_id)
{
	return build_id->bytes[6] >> 4 != 5;
}

/*
 * Raise object_in_use, with a hint, if another reconciler has built a prebuild in the last hour. Reads
 * the whole table of builds, with the caller's rights. SPI must be connected.
 */
void
other_reconciler_refuse(const char *hint)
{
	static KeptPlan plan;
	static const Oid argtypes[] = { TIMESTAMPTZOID };
	Datum values[] = { TimestampTzGetDatum(GetCurrentTimestamp() - OTHER_RECONCILER_LOOKBACK) };

	if (plan_execute(&plan,
					 "SELECT b.id::pg_catalog.uuid, b.created_at::pg_catalog.timestamptz"
					 " FROM {cp}workspace_builds b"
					 " WHERE b.initiator_id {=} '" SYSTEM_USER "'::pg_catalog.uuid"
					 " AND b.build_number {=} 1 AND b.created_at {>} $1"
					 " AND pg_catalog.substr(b.id::pg_catalog.text, 15, 1) {<>} '5'"
					 " ORDER BY b.created_at DESC LIMIT 1",
					 PLAN_FRESH, 1, argtypes, values, NULL) > 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("another reconciler works on this control plane"),
						errdetail("Prebuild build %s, of %s, is not by prebuild_ext.",
								  DatumGetCString(DirectFunctionCall1(uuid_out, row_get(0, 1))),
								  timestamptz_to_str(DatumGetTimestampTz(row_get(0, 2)))),
						errhint("%s", hint)));
	SPI_freetuptable(SPI_tuptable);
}
