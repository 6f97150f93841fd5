/* Atomic access to the words that a daemon and a guest share. No logic. */
#ifndef RING_SHIM_H
#define RING_SHIM_H
#include <stdint.h>
#endif
