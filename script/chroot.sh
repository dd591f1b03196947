# Chroots of releases of Debian; sourced by scripts that run as root in mount and PID namespaces of
# their own, with which mounts and servers end.

# The mirror that is first in apt's sources.
apt_mirror() {
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | sed -n 1p
}

# Make a chroot of the release $1 in the folder $2, unless the run before has left a finished one.
make_chroot() {
	local suite=$1 chroot=$2 mirror=${MIRROR:-$(apt_mirror)}
	[ "$(cat "$chroot/finished" 2>/dev/null)" != "$suite" ] || return 0
	[ -n "$mirror" ] || die 'apt has no mirror of Debian here: set MIRROR'
	say "making a chroot of $suite from $mirror"
	rm -rf --one-file-system "$chroot"
	mkdir -p "$(dirname "$chroot")"
	debootstrap --variant=minbase --include=ca-certificates "$suite" "$chroot" "$mirror" \
		> "$chroot.log" 2>&1 || { tail "$chroot.log" >&2; die "debootstrap failed, see $chroot.log"; }
	# a mirror that keeps a certain day is out of date on purpose
	echo 'Acquire::Check-Valid-Until "false";' > "$chroot/etc/apt/apt.conf.d/90mirror"
	echo "$suite" > "$chroot/finished"
}

# What package installation, servers and tests expect of a machine, in the chroot $1.
mount_machine() {
	cp /etc/resolv.conf /etc/hosts "$1/etc/"
	mount -t proc proc "$1/proc"
	mount -t tmpfs -o mode=1777 shm "$1/dev/shm"
}

unmount_machine() {
	umount --lazy --quiet "$1/dev/shm" "$1/proc" || true
}

# Run a command in the chroot $1, with nothing of this environment but the way to the mirror.
in_chroot() {
	chroot "$1" env -i HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "PATH=$PATH" \
		${http_proxy:+"http_proxy=$http_proxy"} "${@:2}"
}
