/*
 * control_plane_catalog.h
 *	  What the control plane has, by the catalog.
 */
#ifndef PREBUILD_CONTROL_PLANE_CATALOG_H
#define PREBUILD_CONTROL_PLANE_CATALOG_H

#include "postgres.h"

#include "access/attnum.h"

extern bool control_plane_is_coder(void);
extern Oid control_plane_table(const char *name, bool missing_ok);
extern AttrNumber control_plane_column(Oid table, const char *name);
extern AttrNumber control_plane_column_of_type(Oid table, const char *name, Oid type,
											   Oid other_type);
extern bool control_plane_has_table(const char *table);
extern bool control_plane_has_column(const char *table, const char *column);
extern void control_plane_require(void);
extern void control_plane_require_table(const char *name);

#endif /* PREBUILD_CONTROL_PLANE_CATALOG_H */
