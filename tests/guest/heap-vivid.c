// SPDX-License-Identifier: GPL-2.0
/*
 * heap-vivid [contig]: vivid, a video capture device without hardware, writes frames into buffers
 * of the heap.
 *
 * With its usual allocator it attaches no device; it wants the buffer in the kernel's address
 * space (vmap). As "contig" it was loaded with allocators=1: then it attaches a device that is
 * behind no IOMMU, maps the buffer for it, and wants one range: a scattered one it does not take.
 * It cannot be told that a mapping must go, so that its buffers cannot be revoked while it has
 * them.
 */
#define _GNU_SOURCE
#include <linux/videodev2.h>
#include <poll.h>

#include "heap.h"

#define BUFFERS 3
#define FRAMES 9

static int heap, video;
static unsigned int size, line;
static bool contig;

static int vivid_open(void)
{
	for (int i = 0; i < 8; i++) {
		char path[] = "/dev/video0";
		struct v4l2_capability caps;
		int fd;

		path[sizeof(path) - 2] += i;
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!ioctl(fd, VIDIOC_QUERYCAP, &caps) && !strcmp((char *)caps.driver, "vivid") &&
		    caps.device_caps & V4L2_CAP_VIDEO_CAPTURE)
			return fd;
		close(fd);
	}
	die("no vivid device");
}

static void set_format(void)
{
	struct v4l2_format format = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.fmt.pix = { .width = 320, .height = 180, .pixelformat = V4L2_PIX_FMT_YUYV },
	};

	must(ioctl(video, VIDIOC_S_FMT, &format), "S_FMT");
	size = format.fmt.pix.sizeimage;
	line = format.fmt.pix.bytesperline;
}

static void request(unsigned int count)
{
	struct v4l2_requestbuffers req = {
		.count = count,
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_DMABUF,
	};

	must(ioctl(video, VIDIOC_REQBUFS, &req), "REQBUFS");
	if (req.count != count)
		die("%u buffers, not %u", req.count, count);
}

static int queue(int index, int buf)
{
	struct v4l2_buffer v4l2 = {
		.index = index,
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_DMABUF,
		.m.fd = buf,
	};

	return ioctl(video, VIDIOC_QBUF, &v4l2);
}

static int dequeue(void)
{
	struct v4l2_buffer v4l2 = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_DMABUF,
	};
	struct pollfd ready = { .fd = video, .events = POLLIN };

	if (must(poll(&ready, 1, 300000), "poll") != 1)
		die("no frame comes");
	must(ioctl(video, VIDIOC_DQBUF, &v4l2), "DQBUF");
	if (v4l2.flags & V4L2_BUF_FLAG_ERROR)
		die("a frame is in error");
	return v4l2.index;
}

static void stream(int command)
{
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;

	must(ioctl(video, command, &type), "STREAMON or STREAMOFF");
}

/* Colour bars: white at the left, black at the right, or close to it, and steps in between. */
static void check_frame(const unsigned char *frame)
{
	const unsigned char *row = frame + size / line / 2 * line;
	int steps = 0, luma = row[0];

	for (unsigned int x = 2; x < line; x += 2) {
		if (abs(row[x] - luma) > 8) {
			luma = row[x];
			steps++;
		}
	}
	if (row[0] < 128 || steps < 6)
		die("not the test pattern: it begins with %#x and has %d steps", row[0], steps);
}

static void capture(unsigned int order)
{
	unsigned char *frame[BUFFERS];
	int buf[BUFFERS];

	heap_pattern(heap, order, RUST_DMA_BUF_DESCENDING, 0);
	request(BUFFERS);
	for (int i = 0; i < BUFFERS; i++) {
		buf[i] = heap_alloc(heap, size);
		frame[i] = buf_map(buf[i], size);
		must(queue(i, buf[i]), "QBUF");
	}
	stream(VIDIOC_STREAMON);
	if (heap_is_ours() && heap_info(heap, buf[0]).mappings != contig)
		die("%u mappings, not %d", heap_info(heap, buf[0]).mappings, contig);
	for (int i = 0; i < FRAMES; i++) {
		int index = dequeue();

		buf_sync(buf[index], DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
		check_frame(frame[index]);
		/* So that the next one is a new one. */
		memset(frame[index], 0, size);
		buf_sync(buf[index], DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
		if (heap_is_ours() && contig)
			refused(heap_revoke(heap, buf[index]), EBUSY, "REVOKE amid capturing");
		must(queue(index, buf[index]), "QBUF");
	}
	/* vivid has a reference of its own to what it fills. */
	close(buf[0]);
	stream(VIDIOC_STREAMOFF);
	request(0);
	for (int i = 0; i < BUFFERS; i++) {
		if (i && heap_is_ours()) {
			struct rust_dma_buf_info info = heap_info(heap, buf[i]);

			if (info.attachments || info.mappings)
				die("%u attachments and %u mappings are left", info.attachments,
				    info.mappings);
			must(heap_revoke(heap, buf[i]), "REVOKE after capturing");
		}
		if (i)
			close(buf[i]);
		munmap(frame[i], size);
	}
	printf("%d frames into chunks of order %u\n", FRAMES, order);
}

/*
 * Revocation is about devices, and here is none: the kernel goes on mapping the buffer for itself,
 * as it warns if that fails. Only an access that is announced is refused.
 */
static void capture_revoked(void)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	unsigned char *frame[2];
	int buf[2];

	heap_pattern(heap, 0, RUST_DMA_BUF_DESCENDING, 0);
	request(2);
	for (int i = 0; i < 2; i++) {
		buf[i] = heap_alloc(heap, size);
		frame[i] = buf_map(buf[i], size);
	}
	/* One before it is mapped, one with frames under way. */
	must(heap_revoke(heap, buf[0]), "REVOKE before queueing");
	for (int i = 0; i < 2; i++)
		must(queue(i, buf[i]), "QBUF");
	stream(VIDIOC_STREAMON);
	must(heap_revoke(heap, buf[1]), "REVOKE amid capturing");
	for (int i = 0; i < FRAMES; i++) {
		int index = dequeue();

		check_frame(frame[index]);
		memset(frame[index], 0, size);
		must(queue(index, buf[index]), "QBUF of a revoked buffer");
	}
	stream(VIDIOC_STREAMOFF);
	request(0);
	for (int i = 0; i < 2; i++) {
		refused(ioctl(buf[i], DMA_BUF_IOCTL_SYNC, &sync), ENODEV, "SYNC");
		munmap(frame[i], size);
		close(buf[i]);
	}
	printf("%d frames into revoked buffers\n", FRAMES);
}

static void queue_refused(int buf, int error, const char *what)
{
	request(2);
	refused(queue(0, buf), error, what);
	request(0);
	close(buf);
}

int main(int argc, char **argv)
{
	contig = argc > 1 && !strcmp(argv[1], "contig");
	heap = heap_open();
	video = vivid_open();
	set_format();
	/* 32 pages: one chunk has room for a frame. */
	capture(5);
	if (!contig) {
		capture(0);
	} else {
		heap_pattern(heap, 0, RUST_DMA_BUF_DESCENDING, 0);
		queue_refused(heap_alloc(heap, size), EFAULT, "queueing a scattered buffer");
	}
	queue_refused(heap_alloc(heap, PAGE), EINVAL, "queueing a small buffer");
	/*
	 * As contig, a revoked buffer is not queued: videobuf2 keeps the reference to a buffer to
	 * which it could not attach (__prepare_dmabuf() as of 7.3).
	 */
	if (!contig && heap_is_ours())
		capture_revoked();
	return 0;
}
