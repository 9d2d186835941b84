# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For the tests in this folder: each is a program that succeeds by exit status 0,
# is skipped by 77, and says why in its last line.

set -euo pipefail

top=$(realpath "${BASH_SOURCE[0]%/*}/../..")
cache=$(realpath -m "${PHYR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/phyr}")
export vm=$top/scripts/vm
work=$(mktemp -d "$cache/tmp/host.XXXXXX")
trap 'rm -rf "$work"' EXIT
# A shell gets to its trap when what it runs has ended, so no guest outlives its test.
trap 'exit 143' TERM

fail() {
	echo "$*"
	exit 1
}

# expect STATUS CMD...: CMD's output goes to $work/out and $work/err.
expect() {
	local want=$1 rc=0
	shift
	"$@" >"$work/out" 2>"$work/err" || rc=$?
	[[ $rc == "$want" ]] || {
		cat "$work/out" "$work/err"
		fail "status $rc, not $want: ${*##*/}"
	}
}

# splats [OPTION]... LOG: what scripts/vm takes for trouble in a kernel log.
splats() { sed '/^#/d;/^$/d' "$top/scripts/configs/splats" | grep -aE -f - "$@"; }

# no_other_trouble LOG EXPECTED WHERE: but for what is expected, an extended regular expression.
no_other_trouble() {
	local others
	others=$(splats "$1" | grep -avE "$2" || :)
	[[ ! $others ]] || fail "$3: ${others%%$'\n'*}"
}

# ended_well LOG: for a guest whose log scripts/vm was not to judge.
ended_well() {
	! grep 'phyr-vm: oracle off' "$1" || fail "a checker was off at the end"
	grep -q 'phyr-vm: end' "$1" || fail "the guest did not shut down"
}

# image NAME SIZE: a raw image.
image() {
	truncate -s "$2" "$work/$1"
	echo "$work/$1"
}
