// SPDX-License-Identifier: GPL-2.0
/*
 * heap-drm vgem|virtio_gpu|virtio_gpu-blob: DRM drivers import buffers of the heap.
 *
 * vgem attaches a device, which it never maps anything for; it looks after fences.
 *
 * virtio_gpu without blob resources maps the buffer, through the IOMMU if there is one, before it
 * finds that it cannot do more, and undoes it all. With blob resources it tells the device where
 * the pieces are, and lets go of them when it is told to.
 */
#define _GNU_SOURCE
#include <drm/vgem_drm.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "heap-drm.h"

#define SIZE (37 * PAGE)

static int heap, drm;

static void expect(int buf, unsigned int attachments, unsigned int mappings, const char *when)
{
	struct rust_dma_buf_info info;

	if (!heap_is_ours())
		return;
	info = heap_info(heap, buf);
	if (info.attachments != attachments || info.mappings != mappings)
		die("%s: %u attachments and %u mappings, not %u and %u", when, info.attachments,
		    info.mappings, attachments, mappings);
}

static __u32 import_of(int buf)
{
	return must(drm_import(drm, buf) ?: -1L, "import");
}

static ino_t inode(int fd)
{
	struct stat stat;

	must(fstat(fd, &stat), "fstat");
	return stat.st_ino;
}

static bool readable(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	return must(poll(&ready, 1, 0), "poll") == 1;
}

/* A process that revokes. */
static pid_t revoker(int buf)
{
	pid_t pid = must(fork(), "fork");

	if (!pid) {
		must(heap_revoke(heap, buf), "REVOKE");
		_exit(0);
	}
	return pid;
}

/* Who waits for a buffer waits for vgem's fence; so does revocation. */
static void wait_for_fence(int buf, __u32 handle)
{
	struct drm_vgem_fence_attach attach = { .handle = handle, .flags = VGEM_FENCE_WRITE };
	struct drm_vgem_fence_signal signal = { 0 };
	pid_t pid;
	int status;

	if (!readable(buf))
		die("a buffer that nobody uses is busy");
	must(ioctl(drm, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach), "VGEM_FENCE_ATTACH");
	if (readable(buf))
		die("a buffer with a fence is ready");
	pid = heap_is_ours() ? revoker(buf) : 0;
	usleep(300000);
	if (pid && waitpid(pid, NULL, WNOHANG))
		die("revocation does not wait for a fence");
	signal.fence = attach.out_fence;
	must(ioctl(drm, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal), "VGEM_FENCE_SIGNAL");
	if (!readable(buf))
		die("a buffer is busy after its fence");
	if (!pid)
		return;
	must(waitpid(pid, &status, 0), "waitpid");
	if (status)
		die("revocation fails behind a fence");
	if (!heap_info(heap, buf).revoked)
		die("not revoked");
}

static void vgem(void)
{
	int buf = heap_alloc(heap, SIZE);
	unsigned char *at = buf_map(buf, SIZE);
	struct drm_prime_handle back = { .flags = DRM_CLOEXEC | DRM_RDWR };
	__u32 handle = import_of(buf);

	expect(buf, 1, 0, "imported");
	if (import_of(buf) != handle)
		die("a second import is another one");
	expect(buf, 1, 0, "imported twice");
	back.handle = handle;
	must(ioctl(drm, DRM_IOCTL_PRIME_HANDLE_TO_FD, &back), "PRIME_HANDLE_TO_FD");
	if (inode(back.fd) != inode(buf))
		die("what comes back is another buffer");
	fill(at, SIZE, 1);
	munmap(at, SIZE);
	close(buf);
	at = buf_map(back.fd, SIZE);
	if (!is_filled(at, SIZE, 1))
		die("what comes back has other bytes");

	wait_for_fence(back.fd, handle);
	expect(back.fd, 1, 0, "revoked");
	must(drm_close(drm, handle), "GEM_CLOSE");
	expect(back.fd, 0, 0, "closed");
	if (heap_is_ours() && drm_import(drm, back.fd))
		die("a revoked buffer is imported");
	if (!is_filled(at, SIZE, 1))
		die("the bytes have changed");
	munmap(at, SIZE);
	close(back.fd);
}

static void virtio_gpu(unsigned int order)
{
	int buf;

	heap_pattern(heap, order, RUST_DMA_BUF_SHUFFLED, 1);
	buf = heap_alloc(heap, MIB);
	if (drm_import(drm, buf))
		die("it has learnt to import");
	refused(-1, ENODEV, "import");
	expect(buf, 0, 0, "refused");
	must(heap_revoke(heap, buf), "REVOKE");
	close(buf);
}

static void virtio_gpu_blob(unsigned int order)
{
	int buf;
	unsigned char *at;
	__u32 handle;

	heap_pattern(heap, order, RUST_DMA_BUF_SHUFFLED, 1);
	buf = heap_alloc(heap, MIB);
	at = buf_map(buf, MIB);
	handle = import_of(buf);
	expect(buf, 1, 1, "imported");
	must(drm_close(drm, handle), "GEM_CLOSE");
	expect(buf, 0, 0, "closed");

	handle = import_of(buf);
	expect(buf, 1, 1, "imported again");
	fill(at, MIB, 2);
	must(heap_revoke(heap, buf), "REVOKE");
	expect(buf, 1, 0, "revoked");
	if (!is_filled(at, MIB, 2))
		die("the bytes have changed");
	must(drm_close(drm, handle), "GEM_CLOSE");
	expect(buf, 0, 0, "revoked and closed");
	if (drm_import(drm, buf))
		die("a revoked buffer is imported");
	refused(-1, ENODEV, "import of a revoked buffer");
	munmap(at, MIB);
	close(buf);
}

int main(int argc, char **argv)
{
	char *driver = argc > 1 ? strdup(argv[1]) : "vgem";
	bool blob = strstr(driver, "-blob");

	if (blob)
		*strchr(driver, '-') = 0;
	heap = heap_open();
	drm = drm_open(driver);
	if (drm < 0)
		die("no device of %s", driver);
	if (!strcmp(driver, "vgem")) {
		vgem();
		return 0;
	}
	for (unsigned int order = 0; order <= RUST_DMA_BUF_MAX_ORDER; order += 3) {
		if (blob)
			virtio_gpu_blob(order);
		else
			virtio_gpu(order);
	}
	return 0;
}
