/*
 * pool_view.h
 *	  The kept pool as its readers see it.
 */
#ifndef PREBUILD_POOL_VIEW_H
#define PREBUILD_POOL_VIEW_H

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

extern bool pool_view_open(PoolView *view);
extern PoolView pool_view_of_fold(Oid control_plane);
extern void pool_view_keep(const PoolView *view);
extern void pool_view_forget(void);
extern const char *pool_view_distrust_reason(char **hint);

#endif /* PREBUILD_POOL_VIEW_H */
