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

# eventually ELSE COMMAND...: waits until COMMAND succeeds, and fails with the words ELSE if it never
# does.  What counts are tries, each of which has the guest run something, and not seconds: a guest's
# clock goes on while the host has no processor for it.
eventually() {
	otherwise=$1
	shift
	tries=1200
	until "$@"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "$otherwise"
		sleep 0.1
	done
}

# A disk appears some time after its driver is bound.
wait_for() { # BLOCK DEVICE
	eventually "$1 did not appear" test -b "$1"
}

limit() { cat "/sys/block/$disk/queue/$1"; }

ios() { awk '{ print $1 + $5 }' "/sys/block/$disk/stat"; }

under_way() { [ "$(ios)" -gt $((before + 20)) ]; }

# load FIO-ARGUMENT...: requests to $DISK in the background, as process $load, for longer than
# any test; comes back when they are under way.
load() {
	before=$(ios)
	fio --name=load --filename="$DISK" --allow_file_create=0 --size=16M --rw=randrw --bs=64k \
		--direct=1 --time_based --runtime=100000 --eta=never --output=/tmp/load.out "$@" 2>/tmp/load.err &
	# shellcheck disable=SC2034 # for the caller
	load=$!
	eventually "no requests are under way" under_way
}

# write_and_verify: writes all of 16 MiB of $DISK and reads it back, again and again, in the background
# until end_writing.
write_and_verify() {
	rm -f /tmp/enough
	while [ ! -e /tmp/enough ]; do
		fio --name=write --filename="$DISK" --allow_file_create=0 --size=16M --rw=randwrite \
			--bsrange=4k-256k --ioengine=io_uring --iodepth=16 --direct=1 --verify=crc32c \
			--verify_fatal=1 --do_verify=1 --eta=never --output=/tmp/write.out || exit 1
	done &
	# shellcheck disable=SC2034 # for end_writing
	writer=$!
}

end_writing() {
	touch /tmp/enough
	wait "$writer" || { cat /tmp/write.out >&2; fail "what was written is not read back"; }
}

# io_goes_on WHEN: requests complete.
io_goes_on() {
	from=$(ios)
	eventually "$1: there is no I/O" more_ios
}
more_ios() {
	kill -0 "$writer" 2>/dev/null || end_writing
	[ "$(ios)" -gt $((from + 20)) ]
}

# none_left WHEN: no dma-buf is there any more.  The last reference to a file can go by itself, a
# moment after the process that had it.
none_left() {
	eventually "$1: dma-bufs are left over" no_buffers
}

no_buffers() { [ "$(grep -c '^[0-9]' /sys/kernel/debug/dma_buf/bufinfo || :)" = 0 ]; }

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

# command_bit BIT PCI-DEVICE on|off: of byte 4, the PCI command register.
command_bit() {
	command=$(dd if="$2/config" bs=1 skip=4 count=1 2>/dev/null | od -An -tu1)
	case $3 in
	on) command=$((command | $1)) ;;
	off)
		[ $((command & $1)) != 0 ] || fail "bit $1 of the command register is not set"
		command=$((command & ~$1)) ;;
	esac
	# shellcheck disable=SC2059 # the byte, in octal
	printf "\\$(printf %03o "$command")" | dd of="$2/config" bs=1 seek=4 conv=notrunc 2>/dev/null
}

# bus_master PCI-DEVICE on|off: may it do DMA?
bus_master() { command_bit 4 "$@"; }

# memory_space PCI-DEVICE on|off: can its registers be read?
memory_space() { command_bit 2 "$@"; }
