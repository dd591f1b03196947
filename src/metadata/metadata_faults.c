/*
 * metadata_faults.c
 *	  Did a row of a batch of agent metadata cause the batch's error?
 *
 * The SQLSTATE alone does not always tell. insufficient_privilege can mean that the worker's role
 * lacks a right, or that a trigger of the operator refuses one agent. internal_error can mean a
 * bug, a corrupt page under one row, or a RAISE with XX000. Such errors are in doubt.
 * metadata_flush.c decides by writing other rows.
 */
#include "compat.h"

#include "metadata/metadata_faults.h"

/* Classify an error by its SQLSTATE. */
MetadataFault
metadata_fault_of(int sqlstate)
{
	switch (sqlstate)
	{
		/* another session's locks, and each retry would wait again */
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		/* rows that fit into an existing page go in and others do not, so no row is the cause */
		case ERRCODE_DISK_FULL:
			return FAULT_OF_NO_ROW;
	}
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		/* a cancel or a shutdown */
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

/* Does the error's code say that a row is the cause? */
bool
metadata_fault_is_a_rows(const ErrorData *error)
{
	return metadata_fault_of(error->sqlerrcode) == FAULT_OF_A_ROW;
}

/* Can a row be the cause of the error? True also for an error in doubt. */
bool
metadata_fault_may_be_a_rows(const ErrorData *error)
{
	return metadata_fault_of(error->sqlerrcode) != FAULT_OF_NO_ROW;
}
