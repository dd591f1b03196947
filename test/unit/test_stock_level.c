/*
 * test_stock_level.c
 *	  Levels against sums that are written out, and what must hold of any level.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "assert_between.h"
#include "demand/stock_level.h"
#include "demand_random.h"

static StockAnswer
ask(double rate, double lead, double bursts, double price, int most)
{
	StockQuestion question = { rate, lead, bursts, price, most };
	StockAnswer answer;

	stock_level(&question, &answer);
	return answer;
}

/* Probabilities of the negative binomial, from its recursion, normalized by their sum. */
static void
naive_distribution(double mean, double bursts, double *p, int n)
{
	double sum = 0;

	p[0] = 1;
	for (int i = 1; i < n; i++)
		p[i] = p[i - 1] * (mean + bursts * mean * (i - 1)) / (1 + bursts * mean) / i;
	for (int i = 0; i < n; i++)
		sum += p[i];
	for (int i = 0; i < n; i++)
		p[i] /= sum;
}

/* The best level among all, each valued by sums over the distribution. */
static int
naive_level(double rate, double lead, double bursts, double price, int most, double *margin)
{
	static double p[2000];
	double best = 0;
	double second = -1;
	int level = 0;

	naive_distribution(rate * lead, bursts, p, 2000);
	for (int s = 1; s <= most; s++)
	{
		double hits = 0;
		double idle = 0;
		double value;

		for (int d = 0; d < 2000; d++)
		{
			if (d >= 1 && d <= s)
				hits += d * p[d] / (rate * lead);
			if (d < s)
				idle += (s - d) * p[d];
		}
		value = rate * hits - price * idle;
		if (value > best)
		{
			second = best;
			best = value;
			level = s;
		}
		else if (value > second)
			second = value;
	}
	*margin = best - second;
	return level;
}

static void
test_against_sums(void **state)
{
	int compared = 0;

	(void) state;
	for (int i = 0; i < 300; i++)
	{
		double rate = (1 + random_below(2000)) / 50.0;
		double lead = (1 + random_below(100)) / 200.0;
		double bursts = random_below(3) * random_below(100) / 100.0;
		double price = (1 + random_below(400)) / 200.0;
		double margin;
		int level = naive_level(rate, lead, bursts, price, 60, &margin);
		StockAnswer answer = ask(rate, lead, bursts, price, 60);

		if (margin < 1e-6 * rate)
			continue;
		assert_int_equal(answer.level, level);
		assert_true(answer.hit_rate >= 0 && answer.hit_rate <= 1 + 1e-9);
		compared++;
	}
	assert_true(compared > 250);
}

static void
test_order(void **state)
{
	(void) state;
	for (int i = 0; i < 2000; i++)
	{
		double rate = (1 + random_below(500)) / 20.0;
		double lead = (1 + random_below(60)) / 60.0;
		double bursts = random_below(50) / 50.0;
		double price = (1 + random_below(300)) / 100.0;
		int level = ask(rate, lead, bursts, price, 1000).level;

		/* more demand, or cheaper waiting, never gives less */
		assert_true(ask(rate * 1.2, lead, bursts, price, 1000).level >= level);
		assert_true(ask(rate, lead, bursts, price * 0.8, 1000).level >= level);
		assert_true(ask(rate, lead, bursts, price, level / 2).level <= level / 2);
	}
}

static void
test_ends_of_the_scale(void **state)
{
	(void) state;
	assert_int_equal(ask(0, 1, 0, 1, 10).level, 0);
	assert_int_equal(ask(-1, 1, 0, 1, 10).level, 0);
	assert_int_equal(ask(1, 0, 0, 1, 10).level, 0);
	assert_int_equal(ask(0.0 / 0.0, 1, 0, 1, 10).level, 0);
	assert_int_equal(ask(1, 1, 0, 1, 0).level, 0);
	/* one prebuild waits nearly always, and serves nearly all of a rare demand */
	assert_int_equal(ask(0.1, 0.05, 0, 0.05, 10).level, 1);
	assert_int_equal(ask(0.1, 0.05, 0, 0.15, 10).level, 0);
	/* a demand of thousands: the mean and some deviations */
	assert_between(ask(20000, 0.1, 0, 1, 5000).level, 2100, 2400);
	assert_between(ask(6000, 0.1, 0, 1, 5000).level, 650, 800);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_sums),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_ends_of_the_scale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
