#!/bin/sh
# Which releases of PostgreSQL compat.h lets a build begin with: 14 to 18. Others are told why not,
# by the preprocessor, whatever their headers are like. The results come as TAP.
#
#   test_compat.sh SRC BUILD    CC is the compiler
set -eu
src=$1
fake=$2/compat
mkdir -p "$fake"

# What the build with a release says: NAME VERSION PATTERN; an empty pattern for no refusal.
check() {
	printf '#define PG_VERSION_NUM %s\n' "$2" > "$fake/postgres.h"
	# other headers are missing, which ends it, but after the refusal
	${CC:-cc} -E -I"$fake" "$src/compat.h" > /dev/null 2> "$fake/errors" || true
	# a preprocessor that did not get so far would find nothing in any release
	grep -q 'jsonapi.h' "$fake/errors" || { echo "not ok - $1: compat.h was not read"; return 1; }
	if [ -n "$3" ]; then
		grep -q "#error.*$3" "$fake/errors" || { echo "not ok - $1 is refused"; return 1; }
		echo "ok - $1 is refused"
	else
		! grep -q '#error' "$fake/errors" || { echo "not ok - $1 is taken"; return 1; }
		echo "ok - $1 is taken"
	fi
}

failed=0
check 'PostgreSQL 13' 130022 'needs PostgreSQL 14 or newer' || failed=1
check 'PostgreSQL 14' 140000 '' || failed=1
check 'PostgreSQL 18' 189999 '' || failed=1
check 'PostgreSQL 19' 190000 'knows PostgreSQL 14 to 18' || failed=1
check 'PostgreSQL 20' 200001 'knows PostgreSQL 14 to 18' || failed=1
exit $failed
