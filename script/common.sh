# Shared by the scripts beside it; sourced, never run.
#
# Everything happens in $SCRATCH, which prepare_scratch() chooses:
#   $SCRATCH/pg     a copy of the server's files into which the extension is installed, so that
#                   nothing outside the scratch folder changes
#   $SCRATCH/build  the build tree
#   ...             clusters, each in a folder of its own
#
# PGMAJOR chooses the PostgreSQL to build with and to run: 14 to 18, from Debian's packages. Without
# it the scripts take what choose_postgresql() finds. PG_CONFIG chooses any other that is installed, by
# its pg_config: for example one of script/own-server's.

set -euo pipefail
export LC_ALL=C.UTF-8
umask 022
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# The newest supported PostgreSQL below the folder $1 that has a server and what it takes to build
# an extension; nothing where there is none.
newest_installed() {
	local major
	for major in 18 17 16 15 14; do
		if [ -x "$1/$major/bin/postgres" ] && [ -x "$1/$major/bin/pg_config" ] &&
			[ -e "$1/$major/lib/pgxs/src/makefiles/pgxs.mk" ]; then
			printf '%s\n' "$major"
			return
		fi
	done
}

# The PostgreSQL that this release of Debian brings: the one that its package "postgresql" stands
# for; nothing where apt knows no packages.
release_postgresql() {
	apt-cache depends postgresql 2>/dev/null |
		sed -n 's/^ *Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | sed -n 1p || true
}

# Set PGMAJOR unless it is set. Prefer an installed PostgreSQL to one that must be installed.
choose_postgresql() {
	[ -z "${PGMAJOR:-}" ] || return 0
	PGMAJOR=$(newest_installed /usr/lib/postgresql)
	[ -n "$PGMAJOR" ] || PGMAJOR=$(release_postgresql)
	if [ -z "$PGMAJOR" ] && [ "$(id -u)" = 0 ]; then
		apt-get update > /dev/null 2>&1 || true
		PGMAJOR=$(release_postgresql)
	fi
	[ -n "$PGMAJOR" ] || die 'no PostgreSQL 14 to 18 is installed and apt offers none: set PGMAJOR'
}

# Set PG_CONFIG, and from it where the files of that PostgreSQL are: PGBIN, PGLIB, PGSHARE, PGXSDIR.
# PGPACKAGES are the packages that it comes in, none where PG_CONFIG was set before.
choose_server() {
	PGPACKAGES=()
	if [ -n "${PG_CONFIG:-}" ]; then
		PGMAJOR=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
		PGBIN=$("$PG_CONFIG" --bindir)
		PGLIB=$("$PG_CONFIG" --pkglibdir)
		PGSHARE=$("$PG_CONFIG" --sharedir)
		PGXSDIR=$(dirname "$("$PG_CONFIG" --pgxs)")
		PGXSDIR=${PGXSDIR%/src/makefiles}
		return
	fi
	choose_postgresql
	PGBIN=/usr/lib/postgresql/$PGMAJOR/bin
	PG_CONFIG=$PGBIN/pg_config
	PGLIB=/usr/lib/postgresql/$PGMAJOR/lib
	PGSHARE=/usr/share/postgresql/$PGMAJOR
	PGXSDIR=$PGLIB/pgxs
	PGPACKAGES=("postgresql-$PGMAJOR" "postgresql-server-dev-$PGMAJOR" "postgresql-$PGMAJOR-cron")
}

choose_server

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
	local log
	log=$(mktemp)
	# no cluster of the distribution's own is wanted
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		mkdir -p /etc/postgresql-common
		echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
	fi
	{ apt-get update && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold \
		"${missing[@]}"; } > "$log" 2>&1 < /dev/null ||
		{ tail -20 "$log" >&2; die "apt-get failed, all of its output is in $log"; }
	rm -f "$log"
}

# Unpack Debian packages into the folder $1, of which nothing but their programs is wanted: what
# installing them would start stays away. An unpacked folder is kept.
unpack_packages() {
	local folder=$1
	shift
	[ "$(cat "$folder/packages" 2>/dev/null)" != "$*" ] || return 0
	rm -rf "$folder"
	mkdir -p "$folder"
	(
		cd "$folder"
		apt-get download "$@" || { apt-get update && apt-get download "$@"; }
		for package in *.deb; do
			dpkg-deb --extract "$package" .
		done
		rm -f -- *.deb
	) > "$folder.log" 2>&1 || { tail "$folder.log" >&2; die "cannot get $*"; }
	chmod -R a+rX "$folder"
	printf '%s' "$*" > "$folder/packages"
}

# Unpack Prometheus and the exporter into $SCRATCH/monitoring.
unpack_monitoring() {
	local packages=(prometheus prometheus-postgres-exporter)
	# Prometheus' checker is a package of its own from Debian 13 on
	! apt-cache show promtool > /dev/null 2>&1 || packages+=(promtool)
	unpack_packages "$SCRATCH/monitoring" "${packages[@]}"
}

BUILD_PACKAGES=(gcc libc6-dev make uuid-dev "${PGPACKAGES[@]}")

# Run a command as the unprivileged user that owns the clusters (initdb refuses root), with the variables that
# PREBUILD_SERVER_ENV has, as words: options of sanitizers, for example.
as_server_user() {
	local variables
	read -ra variables <<< "${PREBUILD_SERVER_ENV:-}"
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- env "${variables[@]}" "$@"
	else
		env "${variables[@]}" "$@"
	fi
}

# True where the folder $1 can be made and used by whoever runs the servers.
usable_scratch() {
	mkdir -p "$1" 2>/dev/null || return 1
	if [ "$(id -u)" = 0 ]; then
		chown postgres: "$1"
	fi
	as_server_user test -x "$1" -a -w "$1"
}

# Choose the scratch folder: $PREBUILD_SCRATCH, else .scratch in the project, else, where the user
# of the servers cannot go there (a clone under /root), a folder of this clone's own in /var/tmp.
prepare_scratch() {
	SCRATCH=${PREBUILD_SCRATCH:-$PROJECT/.scratch}
	if ! usable_scratch "$SCRATCH"; then
		[ -z "${PREBUILD_SCRATCH:-}" ] || die "the servers' user cannot use $SCRATCH"
		SCRATCH=/var/tmp/prebuild_ext-$(printf '%s %s' "$(id -u)" "$PROJECT" | md5sum | cut -c 1-12)
		# the name can be guessed: take nothing that somebody else has prepared
		if [ -L "$SCRATCH" ] || { [ -e "$SCRATCH" ] && ! own_folder "$SCRATCH"; }; then
			die "$SCRATCH belongs to somebody else: remove it or set PREBUILD_SCRATCH"
		fi
		usable_scratch "$SCRATCH" || die "the servers' user cannot use $SCRATCH"
		say "working in $SCRATCH"
	fi
	STAGE=$SCRATCH/pg
	BINDIR=$STAGE$PGBIN
}

# True where the folder $1 is this user's or, for root, the server user's.
own_folder() {
	local owner
	owner=$(stat -c %U "$1")
	[ "$owner" = "$(id -un)" ] || { [ "$(id -u)" = 0 ] && [ "$owner" = postgres ]; }
}

# Copy the server's files to $STAGE, where PostgreSQL finds its libraries by relative path.
stage_server() {
	local version folder
	version="$("$PGBIN/postgres" --version) $PGBIN"
	if [ "$(cat "$STAGE/version" 2>/dev/null)" != "$version" ]; then
		rm -rf "$STAGE"
		for folder in "$PGBIN" "$PGLIB" "$PGSHARE"; do
			mkdir -p "$STAGE$folder"
			cp -a "$folder/." "$STAGE$folder/"
		done
		printf '%s' "$version" > "$STAGE/version"
	fi
}

# Bring the build tree $SCRATCH/$1 up to date with the project's and run make there with the
# other arguments. Copies keep their times, so that only what changed is compiled again.
make_in_tree() {
	local tree=$SCRATCH/$1
	shift
	mkdir -p "$tree/src" "$tree/sql"
	rm -rf "$tree"/src/*.[ch] "$tree"/src/*/*.[ch] "$tree/sql" "$tree/test" "$tree/bench"
	cp -a "$PROJECT"/{Makefile,prebuild_ext.control,src,sql} "$tree/"
	if [ -d "$PROJECT/test" ]; then
		# a unit test builds bench/replay
		cp -a "$PROJECT"/{test,bench} "$tree/"
	fi
	make -s -C "$tree" "PG_CONFIG=$PG_CONFIG" with_llvm=no "WERROR=${WERROR:-}" \
		"COPT=${COPT:-}" "$@"
}

# Put the sources of the release that is the commit $1 into the folder $2.
release_sources() {
	git -c safe.directory='*' -C "$PROJECT" archive --format=tar "$1" | tar -C "$2" -xf -
}

# The releases of test/releases, as lines of version and commit.
releases() {
	sed '/^#/d' "$PROJECT/test/releases"
}

# Build the project and install it into $STAGE. Arguments go to make.
build_and_install() {
	make_in_tree build -j2 all "$@"
	make_in_tree build "DESTDIR=$STAGE" install "$@" > /dev/null
}
