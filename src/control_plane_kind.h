/*
 * control_plane_kind.h
 *	  Whose database this is, and where its tables are, by the catalog alone.
 */
#ifndef PREBUILD_CONTROL_PLANE_KIND_H
#define PREBUILD_CONTROL_PLANE_KIND_H

#include "postgres.h"

#include "access/attnum.h"

extern bool control_plane_is_coder(void);
extern Oid control_plane_table(const char *name, bool missing_ok);
extern AttrNumber control_plane_column(Oid table, const char *name);

#endif /* PREBUILD_CONTROL_PLANE_KIND_H */
