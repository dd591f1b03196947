/*
 * stock_level.h
 *	  How many prebuilds a rate of demand is worth. Pure: no server, no clock, no allocation.
 */
#ifndef PREBUILD_STOCK_LEVEL_H
#define PREBUILD_STOCK_LEVEL_H

/* What the level depends on. The unit of time is the caller's: the same for all three. */
typedef struct StockQuestion
{
	double rate;   /* demands in a unit of time */
	double lead;   /* time from an order to a ready prebuild */
	double bursts; /* variance of the demand in a lead time over its mean, minus 1, over its mean */
	double price;  /* demands that must be served warm for a unit of idle time */
	int most;	   /* highest level to think of */
} StockQuestion;

/* What the level is expected to give. */
typedef struct StockAnswer
{
	int level;
	double hit_rate;
	double idle; /* prebuilds that wait, on average */
} StockAnswer;

extern void stock_level(const StockQuestion *question, StockAnswer *answer);

#endif /* PREBUILD_STOCK_LEVEL_H */
