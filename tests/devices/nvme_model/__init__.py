# SPDX-License-Identifier: GPL-2.0
"""The parts of the NVMe controller of ../nvme.py."""
