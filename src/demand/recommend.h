/*
 * recommend.h
 *	  What the author of a template should write.
 */
#ifndef PREBUILD_RECOMMEND_H
#define PREBUILD_RECOMMEND_H

#include "demand/backtest.h"

extern SizedPreset *recommended_block(Backtest *backtest);

#endif /* PREBUILD_RECOMMEND_H */
