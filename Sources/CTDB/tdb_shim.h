/* libtdb (Debian: libtdb-dev), the system's own header, and its messages as text. No logic. */
#ifndef TDB_SHIM_H
#define TDB_SHIM_H

#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <tdb.h>

/* Who is told what libtdb complains about: `text` is lent for the call, and may end with a newline. */
struct tdb_listener {
	void *world;
	void (*heard)(void *world, int level, const char *text);
};

/* Swift can neither call nor define a function of this form. */
static void tdb_listener_log(struct tdb_context *tdb, enum tdb_debug_level level, const char *format, ...)
	PRINTF_ATTRIBUTE(3, 4);

static void tdb_listener_log(struct tdb_context *tdb, enum tdb_debug_level level, const char *format, ...)
{
	struct tdb_listener *listener = (struct tdb_listener *)tdb_get_logging_private(tdb);
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	listener->heard(listener->world, (int)level, text);
}

/* tdb_open_ex. The listener must live until tdb_close; NULL with errno. */
static inline struct tdb_context *tdb_open_heard(
	const char *path, int hash_size, int tdb_flags, int open_flags, mode_t mode,
	struct tdb_listener *listener)
{
	struct tdb_logging_context log = { .log_fn = tdb_listener_log, .log_private = listener };

	return tdb_open_ex(path, hash_size, tdb_flags, open_flags, mode, &log, NULL);
}

#endif
