/*
 * claim_candidates.h
 *	  The prebuilds that a claim may give away, in the order in which it tries them.
 */
#ifndef PREBUILD_CLAIM_CANDIDATES_H
#define PREBUILD_CLAIM_CANDIDATES_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "decision/control_plane.h"
#include "pool/pool_member.h"

/* The number of parameters of the statements on candidates. */
#define CANDIDATE_PARAMETERS 6

/* What makes a member a candidate. candidates_terms() sets it. */
typedef struct CandidateTerms
{
	Id preset_id;
	Id template_id;
	TimestampTz expires_before; /* a member from before this time is expired */
	bool expired_too;			/* expired ones serve, too, after the others */
	bool *marked; /* set: leave out what other claims have marked, and note that here */
	Datum values[CANDIDATE_PARAMETERS];
	char nulls[CANDIDATE_PARAMETERS];
} CandidateTerms;

/* Takes one of some candidates. Returns true if no more are wanted. */
typedef bool (*TakeCandidate)(void *argument, PoolMember *const *candidates, int n);

extern void candidates_terms(CandidateTerms *terms, const Preset *preset, TimestampTz at);
extern bool candidates_offer_remembered(const CandidateTerms *terms, TakeCandidate take,
										void *argument);
extern bool candidates_offer(const CandidateTerms *terms, TakeCandidate take, void *argument);
extern bool candidate_is_eligible_now(const CandidateTerms *terms, const Id *workspace_id);

#endif /* PREBUILD_CLAIM_CANDIDATES_H */
