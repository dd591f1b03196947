/*
 * attach.h
 *	  Putting the extension's triggers on the control plane's tables, and taking them off.
 */
#ifndef PREBUILD_ATTACH_H
#define PREBUILD_ATTACH_H

extern void attach_init(void);

#endif /* PREBUILD_ATTACH_H */
