/*
 * ids.h
 *	  Make new ids and names.
 */
#ifndef PREBUILD_IDS_H
#define PREBUILD_IDS_H

#include "postgres.h"

#include "utils/uuid.h"

#include "base/id.h"

extern Id *id_new(void);
extern int id_compare(const void *left, const void *right);
extern bool id_is_system_user(const pg_uuid_t *id);

#endif /* PREBUILD_IDS_H */
