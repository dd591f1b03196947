/*
 * fuzz_amount.c
 *	  libFuzzer target: any bytes as the text of an amount.
 *
 * clang -g -fsanitize=fuzzer,address,undefined -Isrc test/fuzz/fuzz_amount.c src/decision/amount.c
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decision/amount.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char again[16];
	Amount amount;

	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (amount_parse(text, &amount))
	{
		snprintf(again, sizeof(again), "%d%s", (int) amount.value, amount.percent ? "%" : "");
		if (strcmp(again, text) != 0)
			abort();
	}
	free(text);
	return 0;
}
