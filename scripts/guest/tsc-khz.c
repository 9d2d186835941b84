// SPDX-License-Identifier: GPL-2.0
/*
 * tsc-khz: print the frequency of this processor's time stamp counter in kHz.  A guest that QEMU
 * emulates has the same frequency, but cannot measure it while the host is busy.
 */

#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define TRIES 1000
#define APART 100000000 /* ns */

struct moment {
	unsigned long long tsc;
	long long ns;
};

/* Reads both clocks at nearly the same time: the fastest of many tries. */
static struct moment moment(void)
{
	struct moment best = { 0 };
	unsigned long long least = ~0ULL;

	for (int i = 0; i < TRIES; i++) {
		unsigned long long before = __rdtsc(), after;
		struct timespec now;

		clock_gettime(CLOCK_MONOTONIC_RAW, &now);
		after = __rdtsc();
		if (after - before >= least)
			continue;
		least = after - before;
		best.tsc = before + least / 2;
		best.ns = now.tv_sec * 1000000000LL + now.tv_nsec;
	}
	return best;
}

int main(void)
{
	struct timespec apart = { .tv_nsec = APART };
	struct moment from = moment(), to;

	nanosleep(&apart, NULL);
	to = moment();
	printf("%.0f\n", (to.tsc - from.tsc) * 1e6 / (to.ns - from.ns));
	return 0;
}
