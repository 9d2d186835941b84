# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Functions for the tests in this folder, which run in a guest as /tests/NAME.  A test succeeds by exit
# status 0; its output is kept in its log.

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

# eventually ELSE COMMAND...: wait until COMMAND succeeds, or fail with the message ELSE.  Counts tries,
# not seconds: a guest's clock goes on while the host has no processor for it.
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

# bounces: succeed if all memory is bounced, with buffers of a given size or not.
bounces() { grep -qE 'swiotlb=([^ ]*,)?force' /proc/cmdline; }

ended() { ! kill -0 "$1" 2>/dev/null; } # PROCESS

# functions ID: the PCI functions with this vendor and device, or with this class if it begins with 0x01.
functions() {
	for one in /sys/bus/pci/devices/*; do
		if [ "$(cat "$one/vendor" "$one/device" | xargs)" = "$1" ] || [ "$(cat "$one/class")" = "$1" ]; then
			readlink -f "$one"
		fi
	done
}

# wait_for BLOCK-DEVICE: a disk appears some time after its driver is bound.
wait_for() {
	eventually "$1 did not appear" test -b "$1"
}

limit() { cat "/sys/block/$disk/queue/$1"; }

ios() { awk '{ print $1 + $5 }' "/sys/block/$disk/stat"; }

under_way() { [ "$(ios)" -gt $((before + 20)) ]; }

# load FIO-ARGUMENT...: start requests to $DISK in the background, as process $load, for longer than
# any test, and return when they are under way.
load() {
	before=$(ios)
	fio --name=load --filename="$DISK" --allow_file_create=0 --size=16M --rw=randrw --bs=64k \
		--direct=1 --time_based --runtime=100000 --eta=never --output=/tmp/load.out "$@" 2>/tmp/load.err &
	# shellcheck disable=SC2034 # for the caller
	load=$!
	eventually "no requests are under way" under_way
}

# start NAME COMMAND...: run COMMAND in the background, as process $started, with its output in
# /tmp/NAME.out, and return when it has printed "going".  The output of a process before is removed: the
# shell empties the file only when the new process runs, and a "going" in it would count until then.
start() {
	going=/tmp/$1.out
	shift
	rm -f "$going"
	"$@" >"$going" &
	# shellcheck disable=SC2034 # for the caller
	started=$!
	eventually "$*: it does not get going" grep -qs going "$going"
}

# write_and_verify: write 16 MiB of $DISK and read them back, again and again, in the background until
# end_writing.
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

# none_left WHEN: all dma-bufs are gone.  The last reference to a file can be dropped a moment after
# its process has ended.
none_left() {
	eventually "$1: dma-bufs are left over" no_buffers
}

no_buffers() { [ "$(grep -c '^[0-9]' /sys/kernel/debug/dma_buf/bufinfo || :)" = 0 ]; }

# Have failslab and fail_page_alloc fail allocations that may sleep as well, without a message; but not
# those of DMA debugging and kmemleak, which would turn themselves off.
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

# pins: the pages of programs that are pinned; pinned NUMBER: whether there are so many.
pins() {
	cat /proc/sys/vm/stat_refresh
	awk '$1 == "nr_foll_pin_acquired" { n += $2 } $1 == "nr_foll_pin_released" { n -= $2 } END { print n }' \
		/proc/vmstat
}
pinned() { [ "$(pins)" = "$1" ]; }

# watch EVENT...: start tracing these events, for traced().
watch() {
	for event; do echo 1 >"/sys/kernel/tracing/events/$event/enable"; done
}

# traced WHAT PATTERN NUMBER: fail unless NUMBER lines of the trace match PATTERN.
traced() {
	have=$(grep -v '^#' /sys/kernel/tracing/trace | grep -c "$2" || :)
	[ "$have" = "$3" ] || fail "$1: $have, not $3"
}

# The PCI device of $DISK, the folder of its driver, and its address.
pci_of() {
	path=$(readlink -f "/sys/block/$disk/device")
	until [ -e "$path/vendor" ]; do
		path=${path%/*}
		[ "$path" ] || fail "$DISK is on no PCI device"
	done
	echo "$path"
}

# entries PCI-ADDRESS: the number of entries in that device's page table, as Intel's IOMMU driver dumps
# it.
entries() {
	# A line for each page, with its number and the entry of each level. In scalable mode there is a
	# folder for each address space of the device.
	cat /sys/kernel/debug/iommu/intel/"$1"/domain_translation_struct \
		/sys/kernel/debug/iommu/intel/"$1"/*/domain_translation_struct 2>/dev/null |
		grep -c '^0x[0-9a-f]*[[:space:]]' || :
}

# command_bit BIT PCI-DEVICE on|off: set or clear a bit of the PCI command register, byte 4.
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

# bus_master PCI-DEVICE on|off: allow or forbid DMA.
bus_master() { command_bit 4 "$@"; }

# memory_space PCI-DEVICE on|off: make the registers accessible or not.
memory_space() { command_bit 2 "$@"; }

# config_word PCI-DEVICE OFFSET: 32 bits of the configuration space.
config_word() { dd if="$1/config" bs=4 skip=$(($2 / 4)) count=1 2>/dev/null | od -An -tu4 | xargs; }

# oracle PCI-DEVICE COMMAND: give a device model (tests/devices/edu.py) a command, and fail if it has
# reached what is not mapped.
oracle() {
	[ "$(dd if="$1/config" bs=4 skip=25 count=1 2>/dev/null | tr -d '\0')" = orac ] || fail "$1 is no oracle"
	# shellcheck disable=SC2059 # the byte, in octal
	printf "\\$(printf %03o "$2")\0\0\0" | dd of="$1/config" bs=4 seek=26 conv=notrunc 2>/dev/null
	eventually "the oracle does not answer" oracle_is_done "$1"
	[ "$(config_word "$1" 108)" = 0 ] || fail "the oracle has reached $(config_word "$1" 108) times what is not mapped"
}
oracle_is_done() { [ "$(config_word "$1" 104)" = 0 ]; }

# watchdog SECONDS: from now on in_time gives a process up after about so many seconds.  Waiting costs nothing
# meanwhile: the fork for each "sleep 0.1" takes an emulated processor hundredths of a second.
watchdog() {
	trap 'late=yes' USR1
	steps=0
	echo 0 >/tmp/steps
	watch_steps $$ "$1" &
	# shellcheck disable=SC2034 # for the caller, which kills it in the end
	watching=$!
}
watch_steps() { # PROCESS SECONDS
	before=0 left=$2
	while sleep 5 && kill -0 "$1" 2>/dev/null; do
		read -r now </tmp/steps
		if [ "$now" = "$before" ]; then left=$((left - 5)); else before=$now left=$2; fi
		[ "$left" -gt 0 ] || kill -USR1 "$1"
	done
}

# in_time PROCESS: wait for a child: its status, or 124 if it does not end.
in_time() {
	steps=$((steps + 1)) late=
	echo $steps >/tmp/steps
	while :; do
		rc=0
		wait "$1" || rc=$?
		# A signal ends wait, too.
		if [ $rc -le 128 ] || ! kill -0 "$1" 2>/dev/null; then return $rc; fi
		[ ! "$late" ] || return 124
	done
}
