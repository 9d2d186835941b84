# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Functions for the tests in this folder.  A test is a program: exit status 0 is a success, 77
# a skip, and the last line says why.

set -euo pipefail

top=$(realpath "${BASH_SOURCE[0]%/*}/../..")
cache=$(realpath -m "${PHYR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/phyr}")
export vm=$top/scripts/vm
work=$(mktemp -d "$cache/tmp/host.XXXXXX")
trap 'rm -rf "$work"' EXIT
# A shell runs its trap after its child has ended, so no guest outlives its test.
trap 'exit 143' TERM

fail() {
	echo "$*"
	exit 1
}

# expect STATUS CMD...: fail unless CMD exits with STATUS.  Its output goes to $work/out and
# $work/err.
expect() {
	local want=$1 rc=0
	shift
	"$@" >"$work/out" 2>"$work/err" || rc=$?
	[[ $rc == "$want" ]] || {
		cat "$work/out" "$work/err"
		fail "status $rc, not $want: ${*##*/}"
	}
}

# splats [OPTION]... LOG: the lines for which scripts/vm fails a guest; OPTIONs are for grep.
splats() { sed '/^#/d;/^$/d' "$top/scripts/configs/splats" | grep -aE -f - "$@"; }

# no_other_trouble LOG EXPECTED WHERE: fail if LOG has such lines that do not match the extended
# regular expression EXPECTED.
no_other_trouble() {
	local others
	others=$(splats "$1" | grep -avE "$2" || :)
	[[ ! $others ]] || fail "$3: ${others%%$'\n'*}"
}

# ended_well LOG: check the end of a guest that ran with --allow-splat.
ended_well() {
	! grep 'phyr-vm: checker off' "$1" || fail "a checker was off at the end"
	grep -q 'phyr-vm: end' "$1" || fail "the guest did not shut down"
}

# image NAME SIZE: a raw image.
image() {
	truncate -s "$2" "$work/$1"
	echo "$work/$1"
}
