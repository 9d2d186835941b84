# SPDX-License-Identifier: GPL-2.0
#
# Targets for users.  kbuild reads Kbuild instead of this file.
#
#   make KDIR=/path/to/built/tree [LLVM=1]	build the modules; needs only that tree
#   make demo, make test, ...			install all that they need in a cache
#
# "make help" has the list.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := modules

ifdef KDIR
# An absolute path: kbuild changes to it.
override KDIR := $(abspath $(KDIR))

modules:
	@scripts/check-kdir $(KDIR)
	+$(MAKE) -C $(KDIR) M=$(CURDIR) modules

modules_install: modules
	+$(MAKE) -C $(KDIR) M=$(CURDIR) modules_install

clean:
	+$(MAKE) -C $(KDIR) M=$(CURDIR) clean
else
modules:
	@scripts/modules $(or $(KERNEL),base)

modules_install:
	$(error modules_install needs KDIR=, the tree to install for)

clean:
	@scripts/modules clean
endif

# A shell in a guest, such as make shell VM="--iommu virtio --kernel debug".
shell:
	@scripts/vm $(VM)

demo:
	@scripts/demo

test:
	@scripts/test $(TESTS)

# The tests in user space only, which "test" runs as well.
test-pure:
	@scripts/pure $(PARTS)

# More tests, which take longer: all IOMMUs, arm64.
test-all:
	@scripts/test --all $(TESTS)

# The suites in a kernel that has phyr built in, by the kernel's own tool.
kunit:
	@scripts/kunit $(SUITES)

# A load of everything at the same time, for some minutes; then random lies of a controller.
soak:
	@scripts/soak $(or $(MINUTES),10) $(SEED)
	@scripts/fuzz-devices --kernel debug $$(($(or $(MINUTES),10) * 60)) $(SEED)

# Instruction counts of phyr and of C; QUICK=1 takes minutes and only compares.
bench:
	@scripts/bench $(if $(QUICK),--quick)

check:
	@scripts/check

# The pages of Documentation/ and of rustdoc; prints where they are.
docs:
	@scripts/docs

help:
	@echo 'make KDIR=TREE [LLVM=1]  build the modules here against a built tree, 7.3 or newer;'
	@echo '                         also: make KDIR=TREE modules_install, clean'
	@echo
	@echo 'On an x86_64 Debian machine, as root; all that these need is installed in one cache'
	@echo 'folder ($$PHYR_CACHE, or ~/.cache/phyr):'
	@echo 'make [KERNEL=debug]      build the modules against a 7.3 kernel of the cache'
	@echo 'make demo                a file system on NVMe behind an IOMMU, checked by the host'
	@echo 'make test [TESTS=NAME]   all tests, or those whose name has NAME in it'
	@echo 'make test-pure           tests without a kernel, in user space; PARTS="unit fuzz coverage"'
	@echo 'make test-all            also the tests of all IOMMUs, and of arm64; TESTS=NAME, too'
	@echo 'make kunit [SUITES=GLOB]  kunit.py of the kernel tree, with phyr built in'
	@echo 'make soak [MINUTES=10]   I/O, binds, dma-bufs and faults together, then as long a'
	@echo '                         controller that lies; SEED=N repeats one'
	@echo 'make bench [QUICK=1]     compare the instruction counts of phyr and C; QUICK=1: a few'
	@echo 'make check               formatting, lints, documentation, compile-fail, unsafe, house'
	@echo 'make docs                the documentation as HTML, with the reference of each crate'
	@echo 'make shell [VM=OPTIONS]  a shell in a guest; scripts/vm --help has the options'
	@echo 'make clean               remove the modules'
	@echo
	@echo 'scripts/new-driver NAME  make a driver of your own; scripts/intree TREE puts phyr into a tree'

.PHONY: modules modules_install clean shell demo test test-all test-pure kunit soak bench check docs help
