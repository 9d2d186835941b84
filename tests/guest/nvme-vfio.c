// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-vfio NG DISK DEVICE GROUP BAR: a namespace's blocks straight into and out of the memory of
 * another PCI device, which vfio-pci exports: BAR of DEVICE (0000:00:00.0), in IOMMU group GROUP.
 * What the disk and the memory then hold is compared by the CPU.
 */

#define _GNU_SOURCE
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>

#include "nvme-buf.h"

/* Newer than the headers here may be: include/uapi/linux/vfio.h. */
#ifndef VFIO_DEVICE_FEATURE_DMA_BUF
#define VFIO_DEVICE_FEATURE_DMA_BUF 11

struct vfio_region_dma_range {
	__u64 offset;
	__u64 length;
};

struct vfio_device_feature_dma_buf {
	__u32 region_index;
	__u32 open_flags;
	__u32 flags;
	__u32 nr_ranges;
	struct vfio_region_dma_range dma_ranges[];
};
#endif

#define SIZE (64 * 1024UL)

static int device;

static void group_open(const char *group, const char *name)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int container = open("/dev/vfio/vfio", O_RDWR), fd;
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	fd = open(path, O_RDWR);
	check(container >= 0 && fd >= 0);
	check(!ioctl(fd, VFIO_GROUP_GET_STATUS, &status));
	check(status.flags & VFIO_GROUP_FLAGS_VIABLE);
	check(!ioctl(fd, VFIO_GROUP_SET_CONTAINER, &container));
	check(!ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	device = ioctl(fd, VFIO_GROUP_GET_DEVICE_FD, name);
	check(device >= 0);
}

static struct vfio_region_info region(__u32 index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	check(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info));
	return info;
}

/* Whether the device answers to accesses of its memory; without, the exporter revokes. */
static void memory(int on)
{
	off_t at = region(VFIO_PCI_CONFIG_REGION_INDEX).offset + PCI_COMMAND;
	__u16 command;

	check(pread(device, &command, sizeof(command), at) == sizeof(command));
	command = on ? command | PCI_COMMAND_MEMORY : command & ~PCI_COMMAND_MEMORY;
	check(pwrite(device, &command, sizeof(command), at) == sizeof(command));
}

static int export(__u32 bar, __u32 flags)
{
	struct vfio_device_feature_dma_buf get = {
		.region_index = bar, .open_flags = flags | O_CLOEXEC, .nr_ranges = 1,
	};
	struct vfio_region_dma_range range = { .length = SIZE };
	struct vfio_device_feature *arg = calloc(1, sizeof(*arg) + sizeof(get) + sizeof(range));
	int fd;

	check(arg);
	arg->argsz = sizeof(*arg) + sizeof(get) + sizeof(range);
	arg->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
	memcpy(arg->data, &get, sizeof(get));
	memcpy(arg->data + sizeof(get), &range, sizeof(range));
	fd = ioctl(device, VFIO_DEVICE_FEATURE, arg);
	free(arg);
	if (fd < 0)
		die("VFIO_DEVICE_FEATURE_DMA_BUF: %m");
	return fd;
}

#define DEPTH 32

/* Commands without end, until the buffer is revoked. */
struct load {
	int ng;
	__u32 handle;
	atomic_int done;
	int revoked;
};

static void *load_thread(void *data)
{
	struct load *load = data;
	int flying = 0, next = 0;
	struct io_uring ring;

	ring_init(&ring, DEPTH);
	while (flying || !load->revoked) {
		int ret;

		for (; flying < DEPTH && !load->revoked; flying++, next++) {
			struct rnvme_cmd cmd = {
				.handle = load->handle, .len = SIZE / 4,
				.offset = next % 4 * (SIZE / 4),
			};

			ring_prep(&ring, load->ng, next % 3 ? RNVME_CMD_READ : RNVME_CMD_WRITE,
				  &cmd, 0);
		}
		check(io_uring_submit(&ring) >= 0);
		ret = ring_reap(&ring, NULL);
		flying--;
		if (ret == -EOWNERDEAD)
			load->revoked++;
		else if (ret != SIZE / 4)
			die("a command ended with %d", ret);
		else
			load->done++;
	}
	io_uring_queue_exit(&ring);
	return NULL;
}

/* Taken away with commands under way: those end well, what comes later is refused. */
static void under_load(int ng, int fd)
{
	struct load load = { .ng = ng };
	pthread_t thread;

	check(!ng_register(ng, fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &load.handle));
	check(!pthread_create(&thread, NULL, load_thread, &load));
	while (load.done < 100)
		usleep(1000);
	memory(0);
	check(!pthread_join(thread, NULL));
	check(load.revoked);
	check(!ng_unregister(ng, load.handle));
	memory(1);
}

int main(int argc, char **argv)
{
	struct rnvme_cmd cmd = { .len = SIZE / 4 };
	unsigned char *bytes, *block = NULL;
	struct io_uring ring;
	struct rnvme_info info;
	int ng, disk, fd;
	__u32 handle, bar;

	check(argc == 6 && !posix_memalign((void **)&block, PAGE, SIZE));
	bar = atoi(argv[5]);
	group_open(argv[4], argv[3]);
	memory(1);
	ng = open(argv[1], O_RDWR | O_CLOEXEC);
	disk = open(argv[2], O_RDWR | O_DIRECT | O_CLOEXEC);
	check(ng >= 0 && disk >= 0);
	ring_init(&ring, 4);
	bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device, region(bar).offset);
	check(bytes != MAP_FAILED);

	/* A file for reading is not written. */
	fd = export(bar, O_RDONLY);
	check(ng_register(ng, fd, RNVME_BUF_WRITE, &handle) == -EACCES);
	close(fd);

	fd = export(bar, O_RDWR);
	check(!ng_register(ng, fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &handle));
	info = ng_info(ng, handle);
	check(info.bytes == SIZE && info.ranges == 1);

	/* Out of the memory, onto the disk. */
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = pattern(5, i);
	cmd.handle = handle;
	check(ring_run(&ring, ng, RNVME_CMD_WRITE, cmd) == (int)cmd.len);
	check(pread(disk, block, cmd.len, 0) == (ssize_t)cmd.len);
	for (size_t i = 0; i < cmd.len; i++)
		check(block[i] == pattern(5, i));

	/* From the disk, into another part of the memory, and no further. */
	cmd.offset = SIZE / 2;
	check(ring_run(&ring, ng, RNVME_CMD_READ, cmd) == (int)cmd.len);
	for (size_t i = 0; i < SIZE; i++) {
		size_t from = i - cmd.offset < cmd.len ? i - cmd.offset : i;

		check(bytes[i] == pattern(5, from));
	}
	cmd.offset = SIZE - cmd.len / 2;
	check(ring_run(&ring, ng, RNVME_CMD_READ, cmd) == -ERANGE);

	/* Taken away, and given back: the registration is over, a new one is not. */
	cmd.offset = 0;
	memory(0);
	check(ring_run(&ring, ng, RNVME_CMD_READ, cmd) == -EOWNERDEAD);
	check(ng_register(ng, fd, RNVME_BUF_READ, &bar) == -ENODEV);
	memory(1);
	check(!ng_unregister(ng, handle));
	for (int i = 0; i < 5; i++)
		under_load(ng, fd);
	check(!ng_register(ng, fd, RNVME_BUF_WRITE, &handle));
	cmd.handle = handle;
	check(ring_run(&ring, ng, RNVME_CMD_READ, cmd) == (int)cmd.len);

	/* The exporter's user goes, while the buffer is registered. */
	munmap(bytes, SIZE);
	close(device);
	check(ring_run(&ring, ng, RNVME_CMD_READ, cmd) == -EOWNERDEAD);
	close(fd);
	puts("NVMe into and out of another device's memory, by vfio-pci");
	return 0;
}
