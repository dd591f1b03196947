/*
 * injected_fault.h
 *	  Builds with assertions can fail at any statement of the extension, for tests. Other builds
 *	  have no trace of this: see injected_fault.c.
 */
#ifndef PREBUILD_INJECTED_FAULT_H
#define PREBUILD_INJECTED_FAULT_H

#ifdef USE_ASSERT_CHECKING
extern void injected_fault_init(void);
extern void injected_fault_point(void);
#else
#define injected_fault_init() ((void) 0)
#define injected_fault_point() ((void) 0)
#endif

#endif /* PREBUILD_INJECTED_FAULT_H */
