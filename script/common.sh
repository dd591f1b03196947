# Shared by the scripts beside it; sourced, never run.
#
# Everything happens in $SCRATCH (default: .scratch in the project, PREBUILD_SCRATCH overrides):
#   $SCRATCH/pg     a copy of the server's files into which the extension is installed, so that
#                   nothing outside the scratch folder changes
#   $SCRATCH/build  the build tree
#   ...             clusters, each in a folder of its own

set -euo pipefail
export LC_ALL=C.UTF-8
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SCRATCH=${PREBUILD_SCRATCH:-$PROJECT/.scratch}
PGMAJOR=${PGMAJOR:-15}
PGLIB=/usr/lib/postgresql/$PGMAJOR
STAGE=$SCRATCH/pg
BINDIR=$STAGE$PGLIB/bin
PGXSDIR=$PGLIB/lib/pgxs

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Install the Debian packages that are missing among the arguments.
need_packages() {
	local missing=() package
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
			missing+=("$package")
	done
	[ ${#missing[@]} -eq 0 ] && return
	[ "$(id -u)" = 0 ] || die "these packages are missing, install them as root: ${missing[*]}"
	say "installing ${missing[*]}"
	# no cluster of the distribution's own is wanted
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		mkdir -p /etc/postgresql-common
		echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
	fi
	{ apt-get update && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends "${missing[@]}"; } > "$SCRATCH/apt.log" 2>&1 ||
		{ tail -20 "$SCRATCH/apt.log" >&2; die "apt-get failed"; }
}

BUILD_PACKAGES=(gcc libc6-dev make "postgresql-$PGMAJOR" "postgresql-server-dev-$PGMAJOR"
	"postgresql-$PGMAJOR-cron" uuid-dev)

# Run a command as the unprivileged user that owns the clusters (initdb refuses root).
as_server_user() {
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- "$@"
	else
		"$@"
	fi
}

# The scratch folder, owned by whoever runs the servers; sockets need a short path.
prepare_scratch() {
	mkdir -p "$SCRATCH"
	if [ "$(id -u)" = 0 ] && id postgres > /dev/null 2>&1; then
		chown postgres: "$SCRATCH"
		as_server_user test -x "$SCRATCH" -a -w "$SCRATCH" ||
			die "user postgres cannot reach $SCRATCH: set PREBUILD_SCRATCH to a folder that it can"
	fi
}

# Copy the server's files to $STAGE, where PostgreSQL finds its libraries by relative path.
stage_server() {
	local version
	version=$("$PGLIB/bin/postgres" --version)
	if [ "$(cat "$STAGE/version" 2>/dev/null)" != "$version" ]; then
		rm -rf "$STAGE"
		mkdir -p "$STAGE/usr/lib/postgresql" "$STAGE/usr/share/postgresql"
		cp -a "$PGLIB" "$STAGE/usr/lib/postgresql/"
		cp -a "/usr/share/postgresql/$PGMAJOR" "$STAGE/usr/share/postgresql/"
		printf '%s' "$version" > "$STAGE/version"
	fi
}

# Build the project's tree in $SCRATCH/build and install it into $STAGE. Arguments go to make.
build_and_install() {
	local make=(make -s -C "$SCRATCH/build" "PG_CONFIG=$PGLIB/bin/pg_config" with_llvm=no "$@")
	mkdir -p "$SCRATCH/build"
	cp -a "$PROJECT"/{Makefile,prebuild_ext.control,src,sql} "$SCRATCH/build/"
	"${make[@]}" -j2 all
	"${make[@]}" "DESTDIR=$STAGE" install > /dev/null
}
