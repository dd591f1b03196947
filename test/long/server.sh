# Shared by the files beside it that run script/test on a server of script/own-server; sourced, never run.
#
# Each stage is one test. Everything of it is below $PREBUILD_SCRATCH/long/NAME, where script/test leaves
# what failed in check/STAGE until the next stage; STAGE_server.log has what the server of the stage's SQL
# or isolation tests said.

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PREBUILD_SCRATCH=${PREBUILD_SCRATCH:-$PROJECT/.scratch}
TESTS=0
FAILURES=0

# Count a result: 0 or not, and what it is of.
result() {
	TESTS=$((TESTS + 1))
	if [ "$1" = 0 ]; then
		printf 'ok %d - %s\n' "$TESTS" "$2"
	else
		FAILURES=$((FAILURES + 1))
		printf 'not ok %d - %s\n' "$TESTS" "$2"
	fi
}

# Run a stage of script/test with the server of the pg_config $2, in the folder $1; the arguments after the
# stage's description $3 go to script/test. What it said goes to stderr where it failed.
run_stage() {
	local folder=$1 config=$2 what=$3 name status=0
	shift 3
	name=$folder/$(printf '%s' "$what" | tr -c 'a-z0-9' _)
	mkdir -p "$folder"
	PG_CONFIG=$config PREBUILD_SCRATCH=$folder "$PROJECT/script/test" "$@" > "$name.log" 2>&1 || status=$?
	cat "$folder"/check/server/*/server.log > "${name}_server.log" 2> /dev/null || true
	[ "$status" = 0 ] || grep -v ' ok  *[0-9]*$' "$name.log" | tail -n 200 >&2
	result "$status" "$what: $(tail -n 1 "$name.log")"
}

finish() {
	printf '1..%d\n' "$TESTS"
	[ "$FAILURES" = 0 ]
}
