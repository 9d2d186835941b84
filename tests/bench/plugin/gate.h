/* SPDX-License-Identifier: GPL-2.0 */
#ifndef GATE_H
#define GATE_H

#include <stdbool.h>

/* To be called by the thread of QEMU's main loop; false if there is no way. */
bool gate_install(void);
/* From now on devices wait. */
void gate_close(void);
/* Whether a processor of the guest executes instructions. */
void gate_running(unsigned int vcpu, bool runs);

#endif /* GATE_H */
