// Preloaded into xl: the next domain that it makes gets the number in the environment's DOMID. Xen hands
// numbers out in turn, 32752 of them, before one comes again; this is how a scene has a number come again at
// once.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

int xc_domain_create(void *xen, uint32_t *domid, void *configuration);

int xc_domain_create(void *xen, uint32_t *domid, void *configuration) {
    int (*create)(void *, uint32_t *, void *) = dlsym(RTLD_NEXT, "xc_domain_create");
    const char *wanted = getenv("DOMID");
    if (wanted) *domid = (uint32_t)atoi(wanted);
    return create(xen, domid, configuration);
}
