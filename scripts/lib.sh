# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Functions that the scripts share: paths, locks, and pieces of the cache that are
# made once, by one run at a time, and are complete or absent.
#
# Messages go to stderr; stdout is for results.

set -euo pipefail

PHYR_TOP=$(realpath "${BASH_SOURCE[0]%/*}/..")
PHYR_CACHE=$(realpath -m "${PHYR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/phyr}")
export PHYR_TOP PHYR_CACHE

say() { printf 'phyr: %s\n' "$*" >&2; }
die() { say "$*"; exit "${PHYR_DIE:-1}"; }
# first_comment: the usage of the script, which is the comment that begins with its name.
first_comment() { sed -n '/^# scripts\//,/^$/s/^# \{0,1\}//p' "$0"; }

# Process groups and files that end with this script, however it ends.
groups=()
scratch=()
cleanup() {
	local pid
	# Only groups that still run: other numbers may be those of new processes by now.
	for pid in $(jobs -rp); do
		[[ " ${groups[*]} " != *" $pid "* ]] || kill -TERM -- "-$pid" 2>/dev/null || :
	done
	((${#groups[@]} == 0)) || wait "${groups[@]}" 2>/dev/null || :
	groups=()
	if ((${#scratch[@]})); then
		rm -rf --one-file-system -- "${scratch[@]}"
		scratch=()
	fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# apart CMD...: start CMD as process $! in a process group of its own, so that cleanup()
# reaches all its children, and SIGINT is not ignored.
apart() {
	set -m
	# A shell runs its trap after its child has ended, so it ends last.
	(trap - EXIT INT HUP; trap 'exit 143' TERM; set -e; "$@") </dev/null &
	set +m
	groups+=($!)
}

# hash_of FILE|=WORD...: a short hash of the contents of files and of words.
hash_of() {
	local arg
	for arg; do
		case $arg in
		=*) printf '%s\n' "$arg" ;;
		*) sha256sum <"$arg" ;;
		esac
	done | sha256sum | cut -c1-12
}

# free_mb DIR: free MB on the file system of DIR.
free_mb() { df -Pm -- "$1" | awk 'NR == 2 { print $4 }'; }

need_space() { # MB WHAT
	local have
	have=$(free_mb "$PHYR_CACHE")
	((have >= $1)) || die "disk full: $2 needs $1 MB in $PHYR_CACHE, which has $have MB"
}

# All of this needs root (chroot, mounts) and x86_64: check that first.
require_host() {
	[[ $(uname -m) == x86_64 ]] || die "this machine is $(uname -m); only x86_64 can build and run phyr's guests now"
	((EUID == 0)) || die "not root: building and running guests mounts and chroots; run this as root"
	mkdir -p "$PHYR_CACHE"/{lock,log,tmp} 2>/dev/null || die "cannot write to the cache folder $PHYR_CACHE"
}

# inside FOLDER: its path in the toolchain's root file system.
inside() {
	case $1/ in
	"$PHYR_TOP"/* | "$PHYR_CACHE"/* | /tmp/*) echo "$1" ;;
	*) echo "/host$1" ;;
	esac
}

# reason LOG: why a step failed, in a few words.
reason() {
	local line
	if grep -qiE 'no space left on device|disk quota exceeded' "$1" || (($(free_mb "$PHYR_CACHE") < 50)); then
		echo "disk full ($PHYR_CACHE)"
	elif grep -qE 'Could not (resolve|connect)|Temporary failure (in name resolution|resolving)|Network is unreachable|Unable to connect|Connection (refused|timed out|failed)' "$1"; then
		echo "a Debian mirror cannot be reached (offline?)"
	else
		line=$(grep -iE '^(E:|error|.*\berror\b[:[])|No rule to make|\*\*\*' "$1" | head -n1 || :)
		echo "${line:-$(tail -n1 "$1")}"
	fi
}

# step LOGNAME WHAT CMD...: run CMD, a command or a function, with its output in a log,
# and print the progress if it takes more than two seconds: the time, and what the command
# $progress prints.
step() {
	local log=$PHYR_CACHE/log/$1.log what=$2 rc=0 start=$SECONDS pid t shown=0
	progress() { [[ ! ${progress:-} ]] || printf ', %s' "$("$progress")"; }
	shift 2
	apart "$@" >"$log" 2>&1
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		t=$((SECONDS - start))
		((t >= 2)) || continue
		if [[ -t 2 ]]; then
			((t == shown)) || printf '\rphyr: %s ... %d s%s ' "$what" "$t" "$(progress)" >&2
			shown=$t
		elif ((t >= shown)); then
			say "$what ... $t s$(progress)"
			shown=$((t + 15))
		fi
	done
	wait "$pid" || rc=$?
	t=$((SECONDS - start))
	if [[ -t 2 ]] && ((shown)); then printf '\r\033[K' >&2; fi
	if ((rc)); then die "$what: failed after $t s: $(reason "$log") (log: $log)"; fi
	if ((shown)); then say "$what: done in $t s"; fi
}

# locked NAME CMD...: run CMD with the lock NAME held.  The kernel releases the lock with
# the last process that holds it.
locked() {
	local fd
	lock "$1"
	fd=$REPLY
	shift
	"$@"
	exec {fd}>&-
}

# lock NAME: take the lock NAME and keep it to the end of the script, or until the file
# descriptor in $REPLY is closed.
lock() {
	local fd
	exec {fd}>"$PHYR_CACHE/lock/$1"
	# Print nothing for a short wait.
	if ! flock -w 3 "$fd"; then
		say "waiting for another run that holds the lock $1"
		flock "$fd"
	fi
	REPLY=$fd
}

# piece NAME KEY MB WHAT BUILDER...: make the folder NAME-KEY of the cache, unless it is
# there.  BUILDER gets the name of an empty folder to fill, which is renamed when BUILDER
# succeeds.  Sets $REPLY to the folder.
piece() {
	local dir=$PHYR_CACHE/$1-$2
	if [[ ! -d $dir ]]; then locked "$1-$2" make_piece "$dir" "${@:3}"; fi
	REPLY=$dir
}

make_piece() { # DIR MB WHAT BUILDER...
	local dir=$1 mb=$2 what=$3 tmp
	shift 3
	[[ ! -d $dir ]] || return 0
	# With the lock held, this is from a run that was killed.
	rm -rf --one-file-system -- "$PHYR_CACHE/tmp/${dir##*/}".*
	need_space "$mb" "$what"
	tmp=$PHYR_CACHE/tmp/${dir##*/}.$$
	scratch+=("$tmp")
	mkdir "$tmp"
	step "${dir##*/}" "$what" "$@" "$tmp"
	mv -T -- "$tmp" "$dir"
}
