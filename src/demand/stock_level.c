/*
 * stock_level.c
 *	  The level of a stock whose every unit pays for itself. Pure.
 *
 * A pool with a target is a base-stock system: each claim orders one prebuild at once. With D
 * demands in a lead time, a demand finds a prebuild when fewer than the level are on order. This is
 * the newsvendor's reasoning at the margin (Arrow, Harris and Marschak 1951; for stocks with lead
 * times Hadley and Whitin 1963): unit S serves exactly the demands that find S - 1 units on order,
 * and it waits while fewer than S are on order. It is worth having as long as
 *
 *	   demands served warm by unit S, in a unit of time  >  price * share of the time that it waits
 *
 * One price for all hours of a week is what makes the week's idle time least for its hit rate: a
 * quantile that is equal in all hours spends too much at night. (Lagrange multiplier; Everett 1963.)
 *
 * D is negative binomial, the Poisson distribution whose rate is itself uncertain: with bursts 0 it
 * is Poisson. A demand sees the size-biased D: P(S - 1 others on order) = S * P(D = S) / E(D).
 *
 * Only the four basic operations are used, so that the answer is the same wherever doubles are
 * IEEE 754's. A level must be better by a part in a billion than a lower one, so that the last bit
 * decides nothing.
 */
#include "demand/stock_level.h"

/* Terms beyond the mean that are this much smaller than the sum are nothing. */
#define NEGLIGIBLE 1e-12
/* Terms relative to the first are divided by this when they exceed it. */
#define HUGE_WEIGHT 1e100
/* Terms that are summed up at most, for a mean that is no sane one. */
#define MOST_TERMS 1000000
#define MARGIN 1e-9

/* Return P(D = n) / P(D = n - 1). */
static double
term_ratio(double mean, double bursts, int n)
{
	/* negative binomial with shape 1 / bursts; the limit at 0 is Poisson's mean / n */
	return mean * (1 + bursts * (n - 1)) / (n * (1 + bursts * mean));
}

/*
 * A probability that may be far too small for a double: value / HUGE_WEIGHT ^ shifts. With a mean of
 * thousands the first terms are.
 */
typedef struct Term
{
	double value;
	int shifts;
} Term;

/* Return P(D = 0): the reciprocal of the sum of all terms relative to the first. */
static Term
first_term(double mean, double bursts)
{
	double sum = 1;
	double term = 1;
	int shifts = 0;

	for (int n = 1; n < MOST_TERMS; n++)
	{
		term *= term_ratio(mean, bursts, n);
		sum += term;
		if (term > HUGE_WEIGHT)
		{
			term /= HUGE_WEIGHT;
			sum /= HUGE_WEIGHT;
			shifts++;
		}
		if (n > mean && term < NEGLIGIBLE * sum)
			break;
	}
	return (Term){ 1 / sum, shifts };
}

/* Make P(D = n - 1) P(D = n). */
static void
next_term(Term *term, double mean, double bursts, int n)
{
	term->value *= term_ratio(mean, bursts, n);
	if (term->shifts > 0 && term->value > HUGE_WEIGHT)
	{
		term->value /= HUGE_WEIGHT;
		term->shifts--;
	}
}

static double
term_value(const Term *term)
{
	if (term->shifts == 0)
		return term->value;
	return term->shifts == 1 ? term->value / HUGE_WEIGHT : 0;
}

/*
 * Find the level at which hits minus the price of waiting is greatest, from 0 to the question's
 * most. A rate or lead time that is not positive gives 0.
 */
void
stock_level(const StockQuestion *question, StockAnswer *answer)
{
	double mean = question->rate * question->lead;
	double bursts = question->bursts > 0 ? question->bursts : 0;
	Term term;
	double below; /* P(D < level) */
	double hits = 0;
	double idle = 0;
	double gain = 0;
	double best = 0;

	*answer = (StockAnswer){ 0, 0, 0 };
	if (!(question->rate > 0) || !(mean > 0))
		return;
	term = first_term(mean, bursts);
	below = term_value(&term);
	for (int level = 1; level <= question->most; level++)
	{
		double margin;
		double served;

		next_term(&term, mean, bursts, level);
		served = level * term_value(&term) / mean; /* share of the demands */
		hits += served;
		idle += below;
		margin = question->rate * served - question->price * below;
		gain += margin;
		if (gain > best + MARGIN * question->rate)
		{
			best = gain;
			*answer = (StockAnswer){ level, hits, idle };
		}
		below += term_value(&term);
		if (level > mean && margin <= 0)
			break;
	}
}
