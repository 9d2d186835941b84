# SPDX-License-Identifier: GPL-2.0
#
# For the Kbuild of a module outside of this clone, written in Rust on top of phyr:
#
#   obj-m := my_driver.o
#   include $(PHYR)/scripts/phyr.mk
#
# It finds the crates phyr and phyr_blk (or phyr alone, where there is no other), and their
# symbols, in PHYR_BUILT: the folder in which they were built for the same kernel.  That is this
# clone after "make KDIR=", unless it is said; scripts/modules prints the folder of its own.
# Documentation/outside.rst has all of it.

ifndef PHYR_BUILT
PHYR_BUILT := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))..)
endif

# "make clean" needs nothing.
ifdef KBUILD_MODULES
ifeq ($(wildcard $(PHYR_BUILT)/rust/phyr/libphyr.rmeta),)
$(error phyr is not built in PHYR_BUILT=$(PHYR_BUILT): run "make KDIR=" in its clone first, with this kernel)
endif
endif

rustflags-y += -L $(PHYR_BUILT)/rust/phyr --extern phyr
ifneq ($(wildcard $(PHYR_BUILT)/rust/blk/libphyr_blk.rmeta),)
rustflags-y += -L $(PHYR_BUILT)/rust/blk --extern phyr_blk
endif
KBUILD_EXTRA_SYMBOLS += $(PHYR_BUILT)/Module.symvers
