/*
 * Xen's public headers (Debian: libxen-dev), and its libraries as tables of calls that are filled at run
 * time, so that one binary runs with and without Xen. No logic.
 *
 * A table's field is called as its function, and has its type from Xen's own header; libxenmanage (from Xen
 * 4.21) is newer than Debian 12's headers, so its calls are declared here. libxenctrl's structures change
 * from release to release, so what its calls store is read by a table of offsets (XenDomainList.swift).
 */
#ifndef XEN_SHIM_H
#define XEN_SHIM_H

#include <stddef.h>
#include <stdint.h>

/* Without it the headers leave out what only tools may use. */
#define __XEN_TOOLS__ 1
#include <xen/grant_table.h>
#include <xen/io/xs_wire.h>
#include <xencall.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>

/* libxenevtchn.so.1: event channels. */
struct xen_evtchn_calls {
	__typeof__(&xenevtchn_open) xenevtchn_open;
	__typeof__(&xenevtchn_close) xenevtchn_close;
	__typeof__(&xenevtchn_fd) xenevtchn_fd;
	__typeof__(&xenevtchn_pending) xenevtchn_pending;
	__typeof__(&xenevtchn_unmask) xenevtchn_unmask;
	__typeof__(&xenevtchn_bind_interdomain) xenevtchn_bind_interdomain;
	__typeof__(&xenevtchn_bind_virq) xenevtchn_bind_virq;
	__typeof__(&xenevtchn_unbind) xenevtchn_unbind;
	__typeof__(&xenevtchn_notify) xenevtchn_notify;
};

/* libxengnttab.so.1: mapping what a domain grants. */
struct xen_gnttab_calls {
	__typeof__(&xengnttab_open) xengnttab_open;
	__typeof__(&xengnttab_close) xengnttab_close;
	__typeof__(&xengnttab_map_grant_ref) xengnttab_map_grant_ref;
	__typeof__(&xengnttab_unmap) xengnttab_unmap;
};

/* libxenforeignmemory.so.1: mapping a domain's page that it does not grant. */
struct xen_foreign_calls {
	__typeof__(&xenforeignmemory_open) xenforeignmemory_open;
	__typeof__(&xenforeignmemory_close) xenforeignmemory_close;
	__typeof__(&xenforeignmemory_map) xenforeignmemory_map;
	__typeof__(&xenforeignmemory_unmap) xenforeignmemory_unmap;
};

/* libxenctrl.so.4.N: the state of domains up to Xen 4.20. */
struct xen_control_calls {
	__typeof__(&xc_interface_open) xc_interface_open;
	__typeof__(&xc_interface_close) xc_interface_close;
	__typeof__(&xc_domain_getinfolist) xc_domain_getinfolist;
};

/* libxencall.so.1: hypercalls by number, for what libxenctrl asks of the control domain only. */
struct xen_hypercall_calls {
	__typeof__(&xencall_open) xencall_open;
	__typeof__(&xencall_close) xencall_close;
	__typeof__(&xencall1) xencall1;
	__typeof__(&xencall_alloc_buffer) xencall_alloc_buffer;
	__typeof__(&xencall_free_buffer) xencall_free_buffer;
};

/*
 * libxenmanage.so.1. get_domain_info stores the domain's state, capabilities and unique id, and returns 0, or
 * -1 with errno (ESRCH: there is no such domain). `caps` must have room for 64 bits: development versions
 * before 4.21 stored the unique id there, and nothing in `unique_id`.
 */
struct xen_manage_calls {
	void *(*xenmanage_open)(void *logger, unsigned int flags);
	int (*xenmanage_close)(void *handle);
	int (*xenmanage_get_domain_info)(void *handle, unsigned int domid, unsigned int *state,
					 uint64_t *caps, uint64_t *unique_id);
};

enum xen_manage_state {
	XEN_MANAGE_EXISTS = 1,
	XEN_MANAGE_SHUTDOWN = 2,
	XEN_MANAGE_DYING = 4,
	XEN_MANAGE_DEAD = 8,
};

enum xen_manage_capability {
	XEN_MANAGE_CAP_XENSTORE = 4,
};

/*
 * Each fills a table from a library that dlopen(3) has loaded. Returns NULL, or the name of the first call
 * that the library does not have; the table is then of no use.
 */
const char *xen_load_evtchn(void *library, struct xen_evtchn_calls *calls);
const char *xen_load_gnttab(void *library, struct xen_gnttab_calls *calls);
const char *xen_load_foreign(void *library, struct xen_foreign_calls *calls);
const char *xen_load_control(void *library, struct xen_control_calls *calls);
const char *xen_load_hypercall(void *library, struct xen_hypercall_calls *calls);
const char *xen_load_manage(void *library, struct xen_manage_calls *calls);

#endif
