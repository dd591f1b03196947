/*
 * pass_request.h
 *	  Ask the worker for a pass when the control plane changes.
 */
#ifndef PREBUILD_PASS_REQUEST_H
#define PREBUILD_PASS_REQUEST_H

extern void pass_request_init(void);
extern void pass_request_at_commit(void);

#endif /* PREBUILD_PASS_REQUEST_H */
