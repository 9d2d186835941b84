/* SPDX-License-Identifier: GPL-2.0 */
/* DRM devices as importers of dma-bufs, for the programs here. */
#ifndef _HEAP_DRM_H
#define _HEAP_DRM_H

#include <drm/drm.h>

#include "heap.h"

/* The device of a driver, or -1. */
static inline int drm_open(const char *driver)
{
	for (int i = 0; i < 8; i++) {
		char path[] = "/dev/dri/card0", name[32] = "";
		struct drm_version version = { .name_len = sizeof(name) - 1, .name = name };
		int fd;

		path[sizeof(path) - 2] += i;
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, driver))
			return fd;
		close(fd);
	}
	return -1;
}

/* A handle for a buffer, or 0, which no handle is. */
static inline __u32 drm_import(int drm, int buf)
{
	struct drm_prime_handle prime = { .fd = buf };

	return ioctl(drm, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) ? 0 : prime.handle;
}

static inline int drm_close(int drm, __u32 handle)
{
	struct drm_gem_close close = { .handle = handle };

	return ioctl(drm, DRM_IOCTL_GEM_CLOSE, &close);
}

#endif /* _HEAP_DRM_H */
