/*
 * pool_state.h
 *	  The pool as it is kept for attached control planes. See README.md.
 */
#ifndef PREBUILD_POOL_STATE_H
#define PREBUILD_POOL_STATE_H

#include "postgres.h"

/* Values of the parameters of STORED_MEMBERS, valid for one snapshot. */
typedef struct PoolView
{
	Oid argtypes[3];
	Datum values[3];
} PoolView;

/*
 * The members of a view as rows of prebuild_pool_member, "m": stored rows, except for members that
 * were touched since the fold, which come as they are now. So it is like TABLE_MEMBERS of
 * pool_sql.h, with the kept columns. For PLAN_READ_OWN.
 */
#define STORED_MEMBERS                                                                             \
	" (SELECT s.* FROM {ext}prebuild_pool_state s"                                                 \
	"  LEFT JOIN pg_catalog.unnest($2) AS touched (id) ON touched.id {=} s.id"                     \
	"  WHERE s.control_plane {=} $1 AND touched.id IS NULL"                                        \
	"  UNION ALL SELECT now.* FROM pg_catalog.unnest($3) AS now) m"

extern bool (*pool_state_mend_triggers)(void);

extern bool pool_state_view(PoolView *view);
extern const char *pool_state_distrust_reason(char **hint);
extern int64 pool_state_fold(bool mends);
extern void pool_state_mend(void);
extern void pool_state_forget(void);

#endif /* PREBUILD_POOL_STATE_H */
