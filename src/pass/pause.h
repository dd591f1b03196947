/*
 * pause.h
 *	  The pause switch of reconciliation.
 */
#ifndef PREBUILD_PAUSE_H
#define PREBUILD_PAUSE_H

extern bool pause_is_on(void);

#endif /* PREBUILD_PAUSE_H */
