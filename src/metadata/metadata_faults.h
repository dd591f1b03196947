/*
 * metadata_faults.h
 *	  Did a row of a batch of agent metadata cause the batch's error?
 */
#ifndef PREBUILD_METADATA_FAULTS_H
#define PREBUILD_METADATA_FAULTS_H

#include "postgres.h"

typedef enum MetadataFault
{
	FAULT_OF_A_ROW,	 /* a bad value, a constraint, or an error that a trigger raises on purpose */
	FAULT_IN_DOUBT,	 /* mostly the state of the database, but a trigger may raise it for a row */
	FAULT_OF_NO_ROW, /* another session or the server is the cause, for a while */
} MetadataFault;

extern MetadataFault metadata_fault_of(int sqlstate);
extern bool metadata_fault_is_a_rows(const ErrorData *error);
extern bool metadata_fault_may_be_a_rows(const ErrorData *error);

#endif /* PREBUILD_METADATA_FAULTS_H */
