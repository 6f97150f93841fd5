/* Xen's public headers (Debian: libxen-dev). Only what Swift imports as it is: the wire's numbers. */
#include <stddef.h>
#include <stdint.h>
#include <xen/io/xs_wire.h>
