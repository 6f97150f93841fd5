/*
 * A store backend that appends every batch to a file. A batch in the file:
 *
 *     offset  size  meaning
 *     0       8     the batch's number
 *     8       8     bytes of its records, n
 *     16      n     records
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xenstore_plugin.h>

#define DEFAULT_PATH "/var/lib/xenstored/smallest"

struct store {
	int file;
};

static void *store_open(const struct xenstore_plugin *plugin, const struct xenstore_host *host,
			const struct xenstore_option *options, size_t count, struct xenstore_failure *failure)
{
	const char *path = DEFAULT_PATH;
	struct store *store = malloc(sizeof(*store));

	(void)plugin, (void)host;
	for (size_t i = 0; i < count; i++)
		if (strcmp(options[i].key, "path") == 0)
			path = options[i].value;
	if (store == NULL)
		return NULL;
	store->file = open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (store->file >= 0 && flock(store->file, LOCK_EX | LOCK_NB) == 0)
		return store;
	failure->error = errno;
	snprintf(failure->reason, sizeof(failure->reason), "%.300s cannot be opened: %m", path);
	if (store->file >= 0)
		close(store->file);
	free(store);
	return NULL;
}

static int store_recover(void *self, xenstore_receive receive, void *receiver, uint64_t *sequence,
			 struct xenstore_failure *failure)
{
	struct store *store = self;
	off_t place = 0, size = lseek(store->file, 0, SEEK_END);
	uint64_t head[2];

	*sequence = 0;
	while (pread(store->file, head, 16, place) == 16 && head[1] <= (uint64_t)(size - place - 16)) {
		uint8_t *records = malloc(head[1]);
		int failed = records == NULL ||
			     pread(store->file, records, head[1], place + 16) != (ssize_t)head[1] ||
			     receive(receiver, records, head[1]) != 0;

		free(records);
		if (failed)
			return xenstore_fail(failure, EIO, "the file cannot be read");
		*sequence = head[0];
		place += 16 + head[1];
	}
	/* The daemon died while it wrote what follows, and nobody has seen it. */
	if (ftruncate(store->file, place) != 0)
		return xenstore_fail(failure, errno, "the file cannot be cut");
	return 0;
}

static int store_commit(void *self, uint64_t sequence, const uint8_t *records, size_t count,
			struct xenstore_failure *failure)
{
	struct store *store = self;
	uint64_t head[2] = { sequence, count };
	struct iovec parts[2] = { { head, 16 }, { (void *)records, count } };
	off_t size = lseek(store->file, 0, SEEK_END);
	ssize_t written = writev(store->file, parts, 2);
	int error = written < 0 ? errno : ENOSPC;

	if (written == (ssize_t)(16 + count))
		return 0;
	if (ftruncate(store->file, size) != 0)
		return xenstore_fail(failure, EIO, "the file cannot be cut");
	return xenstore_fail(failure, error, "the file cannot be written");
}

static void store_close(void *self)
{
	struct store *store = self;

	close(store->file);
	free(store);
}

static const struct xenstore_backend backend = {
	.size = sizeof(backend),
	.flags = XENSTORE_BACKEND_DURABLE,
	.open = store_open,
	.recover = store_recover,
	.commit = store_commit,
	.close = store_close,
};

static const struct xenstore_option_description options[] = {
	{ "path", DEFAULT_PATH, "the file" },
};

static const struct xenstore_plugin plugin = {
	XENSTORE_PLUGIN_HEAD,
	.kind = XENSTORE_KIND_BACKEND,
	.name = "smallest-store-c",
	.version = "1.0",
	.summary = "Appends every batch to a file.",
	.options = options,
	.option_count = 1,
	.backend = &backend,
};

XENSTORE_PLUGIN_EXPORT(plugin)
