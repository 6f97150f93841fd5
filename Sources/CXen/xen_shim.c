/* What of xen_shim.h cannot be a declaration. */
#include "xen_shim.h"

#include <dlfcn.h>

#define LOAD(name) \
	do { \
		void *address = dlsym(library, #name); \
		if (!address) \
			return #name; \
		calls->name = (__typeof__(calls->name))address; \
	} while (0)

const char *xen_load_evtchn(void *library, struct xen_evtchn_calls *calls)
{
	LOAD(xenevtchn_open);
	LOAD(xenevtchn_close);
	LOAD(xenevtchn_fd);
	LOAD(xenevtchn_pending);
	LOAD(xenevtchn_unmask);
	LOAD(xenevtchn_bind_interdomain);
	LOAD(xenevtchn_bind_virq);
	LOAD(xenevtchn_unbind);
	LOAD(xenevtchn_notify);
	return NULL;
}

const char *xen_load_gnttab(void *library, struct xen_gnttab_calls *calls)
{
	LOAD(xengnttab_open);
	LOAD(xengnttab_close);
	LOAD(xengnttab_map_grant_ref);
	LOAD(xengnttab_unmap);
	return NULL;
}

const char *xen_load_foreign(void *library, struct xen_foreign_calls *calls)
{
	LOAD(xenforeignmemory_open);
	LOAD(xenforeignmemory_close);
	LOAD(xenforeignmemory_map);
	LOAD(xenforeignmemory_unmap);
	return NULL;
}

const char *xen_load_control(void *library, struct xen_control_calls *calls)
{
	LOAD(xc_interface_open);
	LOAD(xc_interface_close);
	LOAD(xc_domain_getinfolist);
	return NULL;
}

const char *xen_load_hypercall(void *library, struct xen_hypercall_calls *calls)
{
	LOAD(xencall_open);
	LOAD(xencall_close);
	LOAD(xencall1);
	LOAD(xencall_alloc_buffer);
	LOAD(xencall_free_buffer);
	return NULL;
}

const char *xen_load_manage(void *library, struct xen_manage_calls *calls)
{
	LOAD(xenmanage_open);
	LOAD(xenmanage_close);
	LOAD(xenmanage_get_domain_info);
	return NULL;
}
