/*
 * metadata_faults.h
 *	  Whose fault is the error that a batch of agent metadata ended with?
 */
#ifndef PREBUILD_METADATA_FAULTS_H
#define PREBUILD_METADATA_FAULTS_H

#include "postgres.h"

typedef enum MetadataFault
{
	FAULT_OF_A_ROW,	 /* a bad value, a constraint, what a trigger raises on purpose */
	FAULT_IN_DOUBT,	 /* mostly the state of the database, but a trigger may raise it for a row */
	FAULT_OF_NO_ROW, /* somebody else's, and it passes */
} MetadataFault;

extern MetadataFault metadata_fault_of(int sqlstate);
extern bool metadata_fault_is_a_rows(const ErrorData *error);
extern bool metadata_fault_may_be_a_rows(const ErrorData *error);

#endif /* PREBUILD_METADATA_FAULTS_H */
