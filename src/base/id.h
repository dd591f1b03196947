/*
 * id.h
 *	  Ids of rows of the control plane. Pure: no server.
 */
#ifndef PREBUILD_ID_H
#define PREBUILD_ID_H

#include <stdint.h>

/* The system user that owns prebuilt workspaces. */
#define SYSTEM_USER "c42fdf75-3097-471c-8c33-fb52454d81c0"

/* The bytes of a uuid. */
typedef struct Id
{
	uint8_t bytes[16];
} Id;

#endif /* PREBUILD_ID_H */
