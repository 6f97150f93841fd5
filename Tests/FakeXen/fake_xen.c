/*
 * A fake Xen: the calls of Xen's libraries that the daemon makes, on a directory that stands for a host (its
 * layout is below; docs/simulated-xen.md has all of it). One shared object, put under the libraries' names by
 * symbolic links, so that a machine without Xen runs the very code that calls Xen.
 *
 * The host's directory is `../host` beside the directory that the object was loaded from, so that copies of
 * the object are hosts of their own.
 *
 *   host/state          an array of struct domain, by domain id
 *   host/evtchn         FIFO to the daemon: local ports, u32 each
 *   host/domN/ring      the page that the domain grants
 *   host/domN/event     FIFO to the domain, a byte an event
 *   host/domN/frame     a page that the domain does not grant: frame 0x1234, for foreign mapping
 *   host/domN/id        the domain's unique id, u64; also the beginning of its handle
 *   host/fail           the names of calls that fail with EIO from now on, for tests
 */
#define _GNU_SOURCE 1
#define __XEN_TOOLS__ 1
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xencall.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>

enum { DOMAINS = 32752, PAGE = 4096, PORTS = 65536, VIRQ_PORT = 1, FRAME = 0x1234 };
enum { EXISTS = 1, DYING = 2, SHUTDOWN = 4, STORE = 8 };

struct domain {
	uint32_t flags;
	uint32_t daemon_port;    /* where the domain's events for the daemon arrive; 0: not bound */
	uint32_t pending_daemon; /* 1: an event is on its way to the daemon */
	uint32_t pending_domain; /* 1: an event is on its way to the domain */
};

static struct domain *state;
static struct { uint32_t domain; int fifo; int bound; } ports[PORTS];
static int event_fifo = -1;
static int handle; /* what the calls hand out as theirs */

static int open_in_host(int flags, const char *format, ...)
{
	char path[PATH_MAX];
	Dl_info self;
	va_list arguments;
	size_t length;

	if (!dladdr(&handle, &self))
		return -1;
	snprintf(path, sizeof path, "%s", self.dli_fname);
	*strrchr(path, '/') = 0;
	strncat(path, "/../host/", sizeof path - strlen(path) - 1);
	length = strlen(path);
	va_start(arguments, format);
	vsnprintf(path + length, sizeof path - length, format, arguments);
	va_end(arguments);
	return open(path, flags | O_CLOEXEC);
}

/* Whether the host's file `fail` names the call. */
static int fails(const char *call)
{
	char names[256] = "";
	int fd = open_in_host(O_RDONLY, "fail");

	if (fd < 0)
		return 0;
	if (read(fd, names, sizeof names - 1) < 0)
		names[0] = 0;
	close(fd);
	if (!strstr(names, call))
		return 0;
	errno = EIO;
	return 1;
}

static int attach_state(void)
{
	int fd;

	if (state)
		return 0;
	fd = open_in_host(O_RDWR, "state");
	if (fd < 0)
		return -1;
	state = mmap(NULL, DOMAINS * sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (state == MAP_FAILED)
		state = NULL;
	return state ? 0 : -1;
}

static void *map_file(uint32_t domid, const char *name)
{
	void *page;
	int fd = open_in_host(O_RDWR, "dom%u/%s", domid, name);

	if (fd < 0)
		return NULL;
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return page == MAP_FAILED ? NULL : page;
}

/* Differs between two domains of the same id, one after the other, if they were given different ones. */
static uint64_t unique_id(uint32_t domid)
{
	uint64_t id = 0;
	int fd = open_in_host(O_RDONLY, "dom%u/id", domid);

	if (fd < 0)
		return 1 + domid;
	if (read(fd, &id, sizeof id) != sizeof id)
		id = 1 + domid;
	close(fd);
	return id;
}

/* libxenctrl, of the release whose headers this was compiled with */

xc_interface *xc_interface_open(xentoollog_logger *a, xentoollog_logger *b, unsigned int flags)
{
	(void)a, (void)b, (void)flags;
	if (fails("xc_interface_open"))
		return NULL;
	return attach_state() ? NULL : (xc_interface *)&handle;
}

int xc_interface_close(xc_interface *x) { return (void)x, 0; }

/* Whether there is a domain of this number; stores what is known of it. */
static int describe(uint32_t domid, xc_domaininfo_t *found)
{
	uint32_t flags = state[domid].flags;
	uint64_t id = unique_id(domid);

	if (!(flags & EXISTS))
		return 0;
	memset(found, 0, sizeof *found);
	found->domain = domid;
	found->flags = (flags & DYING ? XEN_DOMINF_dying : 0) | (flags & SHUTDOWN ? XEN_DOMINF_shutdown : 0) |
		       (flags & STORE ? XEN_DOMINF_xs_domain : 0);
	memcpy(found->handle, &id, sizeof id);
	return 1;
}

int xc_domain_getinfolist(xc_interface *x, uint32_t first, unsigned int max, xc_domaininfo_t *list)
{
	unsigned int count = 0;

	(void)x;
	if (fails("xc_domain_getinfolist"))
		return -1;
	for (; first < DOMAINS && count < max; first++)
		count += describe(first, &list[count]);
	return count;
}

/* libxencall: XEN_DOMCTL_getdomaininfo of the headers' version, and nothing else */

xencall_handle *xencall_open(xentoollog_logger *logger, unsigned int flags)
{
	(void)logger, (void)flags;
	return fails("xencall_open") || attach_state() ? NULL : (xencall_handle *)&handle;
}

int xencall_close(xencall_handle *h) { return (void)h, 0; }

void *xencall_alloc_buffer(xencall_handle *h, size_t size) { return (void)h, calloc(1, size); }

void xencall_free_buffer(xencall_handle *h, void *buffer) { (void)h, free(buffer); }

int xencall1(xencall_handle *h, unsigned int number, uint64_t address)
{
	struct xen_domctl *call = (struct xen_domctl *)address;
	uint32_t domid = call->domain;

	(void)h;
	if (fails("xencall1"))
		return -1;
	errno = ENOSYS;
	if (number != __HYPERVISOR_domctl || call->cmd != XEN_DOMCTL_getdomaininfo)
		return -1;
	errno = EACCES;
	if (call->interface_version != XEN_DOMCTL_INTERFACE_VERSION)
		return -1;
	while (domid < DOMAINS && !describe(domid, &call->u.getdomaininfo))
		domid++;
	errno = ESRCH;
	if (domid >= DOMAINS)
		return -1;
	call->domain = domid;
	return 0;
}

/* libxenmanage */

void *xenmanage_open(void *logger, unsigned int flags)
{
	(void)logger, (void)flags;
	return fails("xenmanage_open") || attach_state() ? NULL : &handle;
}

int xenmanage_close(void *h) { return (void)h, 0; }

int xenmanage_get_domain_info(void *h, unsigned int domid, unsigned int *dom_state, unsigned int *caps,
			      uint64_t *id)
{
	(void)h;
	if (fails("xenmanage_get_domain_info"))
		return -1;
	if (domid >= DOMAINS || !(state[domid].flags & EXISTS)) {
		errno = ESRCH;
		return -1;
	}
	*dom_state = 1 | (state[domid].flags & SHUTDOWN ? 2 : 0) | (state[domid].flags & DYING ? 12 : 0);
	*caps = (domid == 0) | (state[domid].flags & STORE ? 4 : 0);
	*id = unique_id(domid);
	return 0;
}

/* libxengnttab */

xengnttab_handle *xengnttab_open(xentoollog_logger *logger, unsigned int flags)
{
	(void)logger, (void)flags;
	return fails("xengnttab_open") ? NULL : (xengnttab_handle *)&handle;
}

int xengnttab_close(xengnttab_handle *h) { return (void)h, 0; }

void *xengnttab_map_grant_ref(xengnttab_handle *h, uint32_t domid, uint32_t reference, int prot)
{
	(void)h, (void)prot;
	if (fails("xengnttab_map_grant_ref"))
		return NULL;
	if (reference != GNTTAB_RESERVED_XENSTORE) {
		errno = EINVAL;
		return NULL;
	}
	return map_file(domid, "ring");
}

int xengnttab_unmap(xengnttab_handle *h, void *page, uint32_t count)
{
	(void)h;
	return munmap(page, (size_t)count * PAGE);
}

/* libxenforeignmemory */

xenforeignmemory_handle *xenforeignmemory_open(xentoollog_logger *logger, unsigned int flags)
{
	(void)logger, (void)flags;
	return fails("xenforeignmemory_open") ? NULL : (xenforeignmemory_handle *)&handle;
}

int xenforeignmemory_close(xenforeignmemory_handle *h) { return (void)h, 0; }

void *xenforeignmemory_map(xenforeignmemory_handle *h, uint32_t domid, int prot, size_t pages,
			   const xen_pfn_t frames[], int errors[])
{
	(void)h, (void)prot;
	errors[0] = pages == 1 && frames[0] == FRAME ? 0 : -EINVAL;
	/* As the real one: with errors[] there is a range, which need not hold a page. */
	if (errors[0])
		return mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return map_file(domid, "frame");
}

int xenforeignmemory_unmap(xenforeignmemory_handle *h, void *page, size_t pages)
{
	(void)h;
	return munmap(page, pages * PAGE);
}

/* libxenevtchn */

xenevtchn_handle *xenevtchn_open(xentoollog_logger *logger, unsigned int flags)
{
	(void)logger, (void)flags;
	if (fails("xenevtchn_open") || attach_state())
		return NULL;
	event_fifo = open_in_host(O_RDWR, "evtchn");
	return event_fifo < 0 ? NULL : (xenevtchn_handle *)&handle;
}

int xenevtchn_close(xenevtchn_handle *h) { return (void)h, close(event_fifo); }

int xenevtchn_fd(xenevtchn_handle *h) { return (void)h, event_fifo; }

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *h, unsigned int virq)
{
	(void)h;
	if (fails("xenevtchn_bind_virq"))
		return -1;
	errno = EINVAL;
	return virq == VIRQ_DOM_EXC ? VIRQ_PORT : -1;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *h, uint32_t domid,
						     evtchn_port_t remote)
{
	uint32_t port = VIRQ_PORT + 1;

	(void)h;
	if (fails("xenevtchn_bind_interdomain"))
		return -1;
	while (port < PORTS && ports[port].bound)
		port++;
	errno = domid < DOMAINS && remote ? ENOSPC : EINVAL;
	if (port == PORTS || domid >= DOMAINS || !remote)
		return -1;
	ports[port].fifo = open_in_host(O_RDWR | O_NONBLOCK, "dom%u/event", domid);
	if (ports[port].fifo < 0)
		return -1;
	ports[port].domain = domid;
	ports[port].bound = 1;
	__atomic_store_n(&state[domid].daemon_port, port, __ATOMIC_SEQ_CST);
	return port;
}

int xenevtchn_unbind(xenevtchn_handle *h, evtchn_port_t port)
{
	(void)h;
	errno = EINVAL;
	if (port >= PORTS || !ports[port].bound)
		return -1;
	if (state[ports[port].domain].daemon_port == port)
		__atomic_store_n(&state[ports[port].domain].daemon_port, 0, __ATOMIC_SEQ_CST);
	ports[port].bound = 0;
	return close(ports[port].fifo);
}

int xenevtchn_notify(xenevtchn_handle *h, evtchn_port_t port)
{
	(void)h;
	errno = EINVAL;
	if (port >= PORTS || !ports[port].bound)
		return -1;
	if (__atomic_exchange_n(&state[ports[port].domain].pending_domain, 1, __ATOMIC_SEQ_CST))
		return 0;
	return write(ports[port].fifo, "!", 1) == 1 ? 0 : -1;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *h)
{
	uint32_t port;

	(void)h;
	if (read(event_fifo, &port, sizeof port) != sizeof port)
		return -1;
	if (port < PORTS && ports[port].bound)
		__atomic_store_n(&state[ports[port].domain].pending_daemon, 0, __ATOMIC_SEQ_CST);
	return port;
}

int xenevtchn_unmask(xenevtchn_handle *h, evtchn_port_t port) { return (void)h, (void)port, 0; }
