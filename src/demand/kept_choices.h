/*
 * kept_choices.h
 *	  Read the policies that passes have chosen, and keep in the backend what does not change.
 */
#ifndef PREBUILD_KEPT_CHOICES_H
#define PREBUILD_KEPT_CHOICES_H

#include "demand/policy_choice.h"

extern PolicyChoices policy_choices_read(const Id *template_id);

#endif /* PREBUILD_KEPT_CHOICES_H */
