# SPDX-License-Identifier: GPL-2.0
#
# For the Kbuild of a module that is written in Rust on top of phyr:
#
#   obj-m := my_driver.o
#   include $(PHYR)/scripts/phyr.mk
#
# It finds the crates phyr, phyr_driver, phyr_iommu, phyr_dma_buf and phyr_blk (those that were
# built), and their symbols, in PHYR_BUILT: the folder in which they were built for the same kernel.
# The default is this clone, after "make KDIR="; scripts/modules prints the folder that it builds
# in.  Documentation/outside.rst says more.
#
# In a kernel tree (scripts/intree) both variables come from the Kbuild in the folder above.

ifndef PHYR_BUILT
PHYR_BUILT := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))..)
endif

# "make clean" needs no crates.
ifdef KBUILD_MODULES
ifeq ($(wildcard $(PHYR_BUILT)/rust/phyr/libphyr.rmeta),)
$(error phyr is not built in PHYR_BUILT=$(PHYR_BUILT): run "make KDIR=" in its clone first, with this kernel)
endif
endif

phyr_rmeta := $(foreach folder,phyr driver iommu dma_buf blk,$(wildcard $(PHYR_BUILT)/rust/$(folder)/lib*.rmeta))
rustflags-y += $(foreach file,$(phyr_rmeta),\
	-L $(dir $(file)) --extern $(patsubst lib%.rmeta,%,$(notdir $(file))))
# Nobody reads it: with other crates the command is another, and the driver is compiled again.
rustflags-y += --cfg phyr_$(firstword $(shell cat /dev/null $(phyr_rmeta) | cksum))
ifdef KBUILD_EXTMOD
KBUILD_EXTRA_SYMBOLS += $(PHYR_BUILT)/Module.symvers
endif
