/*
 * attach.h
 *	  The SQL functions prebuild_attach() and prebuild_detach().
 */
#ifndef PREBUILD_ATTACH_H
#define PREBUILD_ATTACH_H

extern void attach_init(void);

#endif /* PREBUILD_ATTACH_H */
