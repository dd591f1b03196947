/*
 * database_text.h
 *	  Text in the database's encoding: cut it between characters, and convert bytes into it.
 */
#ifndef PREBUILD_DATABASE_TEXT_H
#define PREBUILD_DATABASE_TEXT_H

#include "postgres.h"

#include "metadata/report_limits.h"

extern size_t database_text_clip(const char *data, size_t length, size_t limit);
extern bool database_text_from_utf8(ReportText bytes, ReportText *string, ReportFault *fault);

#endif /* PREBUILD_DATABASE_TEXT_H */
