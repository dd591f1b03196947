/*
 * metadata_faults.c
 *	  Whose fault is the error that a batch of agent metadata ended with?
 *
 * An error's code does not say for certain. insufficient_privilege is a right that the worker's
 * role lacks, and what a trigger of the operator's raises for the one agent that it does not like;
 * internal_error is a bug, a corrupt page under one row, and what XX000 in a RAISE makes. Such
 * errors are in doubt: metadata_flush.c finds out by what becomes of other rows.
 */
#include "compat.h"

#include "metadata/metadata_faults.h"

/* Judge an error by its SQLSTATE. */
MetadataFault
metadata_fault_of(int sqlstate)
{
	switch (sqlstate)
	{
		/* each try would wait again */
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		/* rows that fit into a page that is there go in, others do not: no row is to blame */
		case ERRCODE_DISK_FULL:
			return FAULT_OF_NO_ROW;
	}
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		/* a cancel, a shutdown */
		case ERRCODE_OPERATOR_INTERVENTION:
			return FAULT_OF_NO_ROW;
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_INVALID_CATALOG_NAME:
		case ERRCODE_INVALID_SCHEMA_NAME:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_CONFIG_FILE_ERROR:
		case ERRCODE_FDW_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return FAULT_IN_DOUBT;
		default:
			return FAULT_OF_A_ROW;
	}
}

/* True for an error whose code says that it is a row's fault. */
bool
metadata_fault_is_a_rows(const ErrorData *error)
{
	return metadata_fault_of(error->sqlerrcode) == FAULT_OF_A_ROW;
}

/* True for an error that may be a row's fault, whatever its code says. */
bool
metadata_fault_may_be_a_rows(const ErrorData *error)
{
	return metadata_fault_of(error->sqlerrcode) != FAULT_OF_NO_ROW;
}
