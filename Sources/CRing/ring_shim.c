/* All of it is inline; a package's target must have a source. */
#include "ring_shim.h"
