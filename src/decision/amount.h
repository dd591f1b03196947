/*
 * amount.h
 *	  The text of an amount: "N", or "P%" of something. Pure: no server.
 */
#ifndef PREBUILD_AMOUNT_H
#define PREBUILD_AMOUNT_H

#include "decision/decision.h"

#define AMOUNT_MOST 999999999
#define AMOUNT_MOST_PERCENT 1000

extern bool amount_parse(const char *text, Amount *amount);
extern int32_t amount_of(Amount amount, int64_t whole);

#endif /* PREBUILD_AMOUNT_H */
