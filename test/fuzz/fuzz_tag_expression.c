/*
 * fuzz_tag_expression.c
 *	  libFuzzer target: any bytes as the source of a tag's value.
 *
 * clang -g -fsanitize=fuzzer,address,undefined -Isrc test/fuzz/fuzz_tag_expression.c
 * src/tag_expression.c
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "decision/tag_expression.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *value = malloc(size + 1);
	TagExpressionKind kind;

	if (value == NULL)
		return 0;
	memset(value, 'x', size + 1);
	kind = tag_expression_parse((const char *) data, size, value);
	if (memchr(value, '\0', size + 1) == NULL)
		abort();
	if ((kind == TAG_OTHER || kind == TAG_VARIABLE) && (value[0] == '\0') != (kind == TAG_OTHER))
		abort();
	free(value);
	return 0;
}
