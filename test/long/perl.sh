# Shared by the files beside it that run Perl tests of test/t; sourced, never run.
#
# script/test --long says where everything is. By hand, the extension must have been installed before,
# by script/test build with the same PREBUILD_SCRATCH.

. "$(dirname "${BASH_SOURCE[0]}")/../../script/common.sh"
prepare_scratch
[ -e "$STAGE$PGLIB/prebuild_ext.so" ] || die "no prebuild_ext in $STAGE: run script/test build first"

# Run the test test/t/$1.pl in the folder $2; further arguments are set in its environment. Its output goes
# to stdout.
run_perl_test() {
	local name=$1 folder=$2
	shift 2
	rm -rf "$folder"
	mkdir -p "$folder"
	cp -R "$PROJECT/test/t" "$PROJECT/test/fixture" "$folder/"
	chmod -R a+rX "$folder"
	[ "$(id -u)" != 0 ] || chown -R postgres: "$folder"
	cd "$folder"
	as_server_user env "PREBUILD_PROJECT=$PROJECT" "PATH=$BINDIR:$PATH" "PERL5LIB=$PGXSDIR/src/test/perl:$folder/t" \
		"PG_REGRESS=$PGXSDIR/src/test/regress/pg_regress" "PREBUILD_SERVER=$STAGE" "TESTDIR=$folder" \
		"TESTDATADIR=$folder/tmp_check" "TESTLOGDIR=$folder/tmp_check/log" "$@" perl "$folder/t/$name.pl" < /dev/null
}
