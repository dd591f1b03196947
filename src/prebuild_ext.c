/*
 * prebuild_ext.c
 *	  Module magic and _PG_init, which only calls each module's *_init().
 */
#include "compat.h"

#include "settings.h"

PREBUILD_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	settings_init();
}
