#!/bin/sh
# bench/replay, which no other test builds: it compiles without a server, plays a trace, and prints
# every row. The results come as TAP.
#
#   test_replay.sh BENCH BUILD    CC is the compiler
set -eu
printed=$2/replay.out

PREBUILD_SCRATCH=$2 CC="${CC:-cc}" "$1/replay" --oracle --seed 1 --per-day 3 weekly > "$printed" 2>&1 ||
	{ echo "not ok - bench/replay builds and runs"; sed 's/^/# /' "$printed"; exit 1; }
echo "ok - bench/replay builds and runs"

failed=0
for row in 'configured' 'chosen' 'best hand-made, hindsight' 'hand-made by the weeks before' \
	'best family, hindsight' 'the true rates known' 'rates of weeks on both sides' \
	'bound: free week, hindsight' "backtest's later 30 days" 'the same policy, played'; do
	if grep -q "^  $row  *[1-9][0-9]* *[01]\.[0-9]* *[1-9]" "$printed"; then
		echo "ok - a row: $row"
	else
		echo "not ok - a row: $row"
		failed=1
	fi
done
exit $failed
