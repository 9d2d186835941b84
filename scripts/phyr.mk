# SPDX-License-Identifier: GPL-2.0
#
# For the Kbuild of a module outside of this clone, written in Rust on top of phyr:
#
#   obj-m := my_driver.o
#   include $(PHYR)/scripts/phyr.mk
#
# It finds the crates phyr, phyr_driver, phyr_iommu, phyr_dma_buf and phyr_blk (those that were
# built), and their symbols, in PHYR_BUILT: the folder in which they were built for the same kernel.
# The default is this clone, after "make KDIR="; scripts/modules prints the folder that it builds
# in.  Documentation/outside.rst says more.

ifndef PHYR_BUILT
PHYR_BUILT := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))..)
endif

# "make clean" needs no crates.
ifdef KBUILD_MODULES
ifeq ($(wildcard $(PHYR_BUILT)/rust/phyr/libphyr.rmeta),)
$(error phyr is not built in PHYR_BUILT=$(PHYR_BUILT): run "make KDIR=" in its clone first, with this kernel)
endif
endif

# FOLDER: the flags of the crate in it, if it was built.
phyr_crate = $(foreach file,$(wildcard $(PHYR_BUILT)/rust/$1/lib*.rmeta),\
	-L $(dir $(file)) --extern $(patsubst lib%.rmeta,%,$(notdir $(file))))
rustflags-y += $(foreach folder,phyr driver iommu dma_buf blk,$(call phyr_crate,$(folder)))
KBUILD_EXTRA_SYMBOLS += $(PHYR_BUILT)/Module.symvers
