/*
 * tag_expression.h
 *	  What the HCL source of a workspace tag's value says, as far as this can be known without
 *	  Terraform. Pure: no server, no allocation.
 */
#ifndef PREBUILD_TAG_EXPRESSION_H
#define PREBUILD_TAG_EXPRESSION_H

#include <stddef.h>

typedef enum TagExpressionKind
{
	TAG_LITERAL,   /* a string; the value is its text */
	TAG_PARAMETER, /* data.coder_parameter.<name>.value; the value is the name */
	TAG_VARIABLE,  /* var.<name>; the value is the name */
	TAG_OTHER	   /* anything else, wrong or right */
} TagExpressionKind;

extern TagExpressionKind tag_expression_parse(const char *source, size_t length, char *value);

#endif /* PREBUILD_TAG_EXPRESSION_H */
