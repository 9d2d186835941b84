# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# For the tests in this folder, which run in a guest as /tests/NAME.  A test
# succeeds by exit status 0; what it says on the way is kept in its log.

set -eu

DISK=${DISK:-/dev/rnvme0n1}
disk=${DISK##*/}
# The namespace's character device.
# shellcheck disable=SC2034 # for those that include this
NG=/dev/rnvme-ng${disk#rnvme}

fail() {
	echo "$*" >&2
	exit 1
}

# A disk appears some time after its driver is bound.
wait_for() { # BLOCK DEVICE
	tries=100
	until [ -b "$1" ]; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "$1 did not appear"
		sleep 0.1
	done
}

limit() { cat "/sys/block/$disk/queue/$1"; }

ios() { awk '{ print $1 + $5 }' "/sys/block/$disk/stat"; }

# load FIO-ARGUMENT...: requests to $DISK in the background, as process $load, for longer than
# any test; comes back when they are under way.
load() {
	before=$(ios)
	fio --name=load --filename="$DISK" --allow_file_create=0 --size=16M --rw=randrw --bs=64k \
		--direct=1 --time_based --runtime=200 --eta=never --output=/tmp/load.out "$@" 2>/tmp/load.err &
	# shellcheck disable=SC2034 # for the caller
	load=$!
	tries=600
	until [ "$(ios)" -gt $((before + 20)) ]; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "no requests are under way"
		sleep 0.1
	done
}

# none_left WHEN: no dma-buf is there any more.  The last reference to a file can go by itself, a
# moment after the process that had it.
none_left() {
	tries=300
	until [ "$(grep -c '^[0-9]' /sys/kernel/debug/dma_buf/bufinfo || :)" = 0 ]; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "$1: dma-bufs are left over"
		sleep 0.1
	done
}

# Lets failslab and fail_page_alloc fail what may sleep as well, and without a word in the log; but
# for what DMA debugging and kmemleak take for themselves, which they are off without.
any_allocation_may_fail() {
	for what in /sys/kernel/slab/*; do
		[ ! -L "$what" ] || fail "$what: not a cache of its own, with slab_debug=Z"
		echo 1 >"$what/failslab"
	done
	for what in radix_tree_node kmemleak_object kmemleak_scan_area; do
		echo 0 >/sys/kernel/slab/$what/failslab
	done
	echo Y >/sys/kernel/debug/failslab/cache-filter
	for what in failslab fail_page_alloc; do
		echo N >/sys/kernel/debug/$what/ignore-gfp-wait
		echo 0 >/sys/kernel/debug/$what/verbose
	done
	echo 0 >/sys/kernel/debug/fail_page_alloc/min-order
}

# watch EVENT...: from now on; for traced.
watch() {
	for event; do echo 1 >"/sys/kernel/tracing/events/$event/enable"; done
}

# traced WHAT PATTERN NUMBER: so many lines of the trace have the pattern.
traced() {
	have=$(grep -v '^#' /sys/kernel/tracing/trace | grep -c "$2" || :)
	[ "$have" = "$3" ] || fail "$1: $have, not $3"
}

# The PCI device of $DISK, its driver's folder and its address.
pci_of() {
	path=$(readlink -f "/sys/block/$disk/device")
	until [ -e "$path/vendor" ]; do
		path=${path%/*}
		[ "$path" ] || fail "$DISK is on no PCI device"
	done
	echo "$path"
}

# entries PCI-ADDRESS: how many the page table of that device has, as Intel's IOMMU driver dumps it.
entries() {
	# A line a page: its number, and the entry of each level. With a scalable mode's tables there
	# is a folder for each address space of the device.
	cat /sys/kernel/debug/iommu/intel/"$1"/domain_translation_struct \
		/sys/kernel/debug/iommu/intel/"$1"/*/domain_translation_struct 2>/dev/null |
		grep -c '^0x[0-9a-f]*[[:space:]]' || :
}

# bus_master PCI-DEVICE on|off: may it do DMA? Bit 2 of byte 4.
bus_master() {
	command=$(dd if="$1/config" bs=1 skip=4 count=1 2>/dev/null | od -An -tu1)
	case $2 in
	on) command=$((command | 4)) ;;
	off)
		[ $((command & 4)) != 0 ] || fail "no bus mastering"
		command=$((command & ~4)) ;;
	esac
	# shellcheck disable=SC2059 # the byte, in octal
	printf "\\$(printf %03o "$command")" | dd of="$1/config" bs=1 seek=4 conv=notrunc 2>/dev/null
}
