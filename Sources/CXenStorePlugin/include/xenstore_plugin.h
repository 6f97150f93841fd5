/*
 * xenstored's plugin interface: store backends, which make the tree outlive the process, and access policies,
 * which decide who may do what. This file is the whole of it; docs/plugins.md has the smallest of each.
 *
 * A module is a shared object with one exported symbol, xenstore_plugin_entry, or an object linked into the
 * daemon. It needs this header and nothing else of xenstored. It shares the daemon's process: what crashes in
 * a module crashes the daemon.
 *
 *
 * LIFE CYCLE
 *
 *     dlopen
 *       |   xenstore_plugin_entry()      once; magic, version, sizes and kind are checked
 *       v
 *     described                          --describe-module, --check-config: nothing more is called
 *       |   open(host, options)          NULL: the daemon does not start, and says the module's reason
 *       v
 *     open ---------------------------.
 *       |   backend: recover          |  policy: interest, and then
 *       |     once, before the first  |    decide   before the operation, as often as asked
 *       |     commit                  |    observe  after it, with its outcome
 *       |   backend: commit(1), ...   |    ended    a domain is gone
 *       |     room, report, flush     |    inherit  a reload: the new instance takes what it wants of the
 *       |                             |             old one's state
 *       v                             v    compile  --compile-config, in the place of all of these
 *     close                              once for each open that succeeded; nothing is called afterwards.
 *                                        The shared object stays loaded until the process ends.
 *
 * In the kernel of a stub domain a policy is opened by open_compiled, with what compile has handed out.
 *
 * An instance is what one of these has returned; it is `self` in all that follows. There may be more than one
 * at a time.
 *
 *
 * WHAT IS LENT AND WHAT MAY BE KEPT
 *
 * To the module: everything that a pointer leads to is lent for the call, and copied by whoever needs it
 * longer. Two things may be kept until close returns: the struct xenstore_host, and `self`.
 * By the module: the struct xenstore_plugin, and all that it points to, stays as it is for ever. Nothing is
 * freed by the other side.
 * Text is UTF-8. Names and reasons end with a NUL and are one line; a struct xenstore_bytes has a count and
 * no NUL, and may be anything that a guest chose.
 *
 *
 * THREADS
 *
 * All calls of an instance come from one thread, the one that serves all guests, one call at a time: none may
 * wait for a disk, a lock that others hold long, or a network. There are two exceptions. open, recover and
 * close may take their time. flush comes from another thread, at any time between open and close, beside
 * any other call but not beside itself.
 * A module may have threads of its own; they must have ended when close returns. The calls of
 * struct xenstore_host may be made from any thread, from open to close.
 *
 *
 * ERRORS
 *
 * A call that can fail fills a struct xenstore_failure: an errno and one line for the person who runs the
 * daemon: what was tried, on what, and why it failed. It goes to the log, and to stderr where the daemon does
 * not start. About an option, it begins with the option's place: "FILE:LINE:COLUMN: found X, expected Y".
 *
 *
 * VERSIONS
 *
 * Modules of the same major number and of this minor number or an older one are loaded. A newer minor number
 * only appends fields to structs and adds constants; each struct that may grow says its size, and what lies
 * behind that counts as 0. A field at whose place the reader's own struct has ended is not read. So a module
 * that is built with this header loads as long as the major number stays.
 */
#ifndef XENSTORE_PLUGIN_H
#define XENSTORE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XENSTORE_PLUGIN_MAGIC 0x47505358u /* "XSPG" */
#define XENSTORE_PLUGIN_MAJOR 1
#define XENSTORE_PLUGIN_MINOR 1

/* Any bytes; lent for the call. `start` may be NULL where `count` is 0. */
struct xenstore_bytes {
	const uint8_t *start;
	size_t count;
};

/*
 * One option of the configuration, as `options:` has it, in the file's order. The daemon has refused keys
 * that the module's description does not list; it has not looked at values: a scalar's text, without quotes.
 * Options that are not in the file are not in the list: their defaults are the module's affair.
 */
struct xenstore_option {
	const char *key, *value;
	const char *file; /* where the value stands; "" and 0 where it is of no file */
	uint32_t line, column; /* from 1 */
};

/* Why a call has failed. */
struct xenstore_failure {
	int error;        /* an errno; 0 is read as EIO */
	char reason[504]; /* one line, with its NUL */
};

/* Fills a failure, cutting the reason where it is too long. Returns -1, so that it can be returned. */
static inline int xenstore_fail(struct xenstore_failure *failure, int error, const char *reason)
{
	size_t count = 0;

	failure->error = error;
	while (count < sizeof(failure->reason) - 1 && reason[count] != '\0') {
		failure->reason[count] = reason[count] == '\n' ? ' ' : reason[count];
		count++;
	}
	/* Not in the midst of a character. */
	if (reason[count] != '\0')
		while (count > 0 && ((unsigned char)reason[count] & 0xC0) == 0x80)
			count--;
	failure->reason[count] = '\0';
	return -1;
}

/* Log levels. */
enum {
	XENSTORE_LOG_ERROR = 0,
	XENSTORE_LOG_WARNING = 1,
	XENSTORE_LOG_NOTICE = 2,
	XENSTORE_LOG_INFO = 3,
	XENSTORE_LOG_DEBUG = 4
};

/* What a module may ask of the daemon, from any thread. Valid until close returns; NULL is nowhere in it. */
struct xenstore_host {
	uint32_t size;
	void *world; /* the first argument of each call */
	/* One line, without a newline; control characters are escaped. Never waits. */
	void (*log)(void *world, int level, const char *text, size_t count);
	/* Nanoseconds of a clock that never goes back. */
	uint64_t (*clock)(void *world);
	/* Backends: every batch up to this one is final. May come before its commit has returned. */
	void (*committed)(void *world, uint64_t sequence);
	/*
	 * Since 1.1. 1: this is no daemon, but a person who wants to know what the module would decide
	 * (explain, test-policy). It opens nothing for writing, and all questions are dry runs.
	 */
	uint32_t is_trial;
	uint32_t zero;
};

/* ------------------------------------------------------------------------------------------------------
 * Records: what a backend keeps
 *
 * The daemon's tree is in its memory; what changes of it in one turn of the daemon's loop is a batch:
 * records, one after another. A record, in the machine's byte order:
 *
 *     offset   size  meaning
 *     0        4     bytes of the whole record: 24 + 4p + k + v, rounded up to 8 with zeros
 *     4        1     kind: 1 put, 2 remove
 *     5        1     0
 *     6        2     number of permissions, p; 0 if it removes, or the key is no path
 *     8        2     bytes of the key, k: 1 to 3072
 *     10       2     0
 *     12       4     bytes of the value, v; 0 if it removes
 *     16       8     generation: the number of the change that made it so
 *     24       4p    permissions, the owner's first; each is u16 domain id, u8 mode (1 read, 2 write),
 *                    u8 flags (1: ignored)
 *     24+4p    k     key
 *     24+4p+k  v     value
 *
 * A key is a node's absolute path ("/a/b", "@releaseDomain"), or byte 0x01 and a name: a note of the
 * daemon's own. A backend treats both alike. Of two records of one key the later counts; a remove of a key
 * that is not there is none.
 */
enum { XENSTORE_PUT = 1, XENSTORE_REMOVE = 2 };

#define XENSTORE_RECORD_HEAD 24u
#define XENSTORE_KEY_MAX 3072u
#define XENSTORE_NOTE_MARK 0x01

struct xenstore_permission {
	uint16_t domain;
	uint8_t mode;  /* 1 read, 2 write, 3 both, 0 none */
	uint8_t flags; /* 1: ignored, its domain is gone */
};

/* A record, taken apart. Its pointers lead into the batch. */
struct xenstore_record {
	uint8_t kind;
	uint16_t permission_count;
	uint64_t generation;
	const uint8_t *permissions; /* as struct xenstore_permission, perhaps not aligned */
	struct xenstore_bytes key, value;
};

/*
 * Reads the record at `at`. Returns where the next begins (`end` behind the last), or NULL if what is there
 * is no record that keeps to the table above. Reads nothing outside of `at` to `end`.
 */
static inline const uint8_t *xenstore_record_next(
	const uint8_t *at, const uint8_t *end, struct xenstore_record *record)
{
	uint32_t size, value;
	uint16_t key;
	uint64_t used;

	if ((size_t)(end - at) < XENSTORE_RECORD_HEAD)
		return NULL;
	__builtin_memcpy(&size, at, 4);
	__builtin_memcpy(&record->permission_count, at + 6, 2);
	__builtin_memcpy(&key, at + 8, 2);
	__builtin_memcpy(&value, at + 12, 4);
	__builtin_memcpy(&record->generation, at + 16, 8);
	record->kind = at[4];
	used = XENSTORE_RECORD_HEAD + 4u * (uint64_t)record->permission_count + key + value;
	if (size > (size_t)(end - at) || ((used + 7) & ~(uint64_t)7) != size || key < 1 ||
	    key > XENSTORE_KEY_MAX || (record->kind != XENSTORE_PUT && record->kind != XENSTORE_REMOVE))
		return NULL;
	record->permissions = at + XENSTORE_RECORD_HEAD;
	record->key.start = record->permissions + 4u * (size_t)record->permission_count;
	record->key.count = key;
	record->value.start = record->key.start + key;
	record->value.count = value;
	return at + size;
}

/* ------------------------------------------------------------------------------------------------------
 * Store backends
 *
 * A batch is kept as a whole or not at all, together with its sequence. Batches are numbered from 1 without
 * gaps; after a restart the numbers go on behind the one that recover has told.
 *
 * A batch is final when the death of the process at any instruction cannot undo it. (What the death of the
 * host may undo is the module's promise, and its options'; see flush.) The daemon sends no reply and no event
 * that shows a change before the change's batch is final.
 *
 * A file belongs to one instance at a time: open fails with EWOULDBLOCK while another has it. It also fails
 * for a file of a newer format, of another owner, or that is a symbolic link, and leaves it as it is. What is
 * damaged in a file is set aside and told in the log, never overwritten.
 */

/* `flags`: what was committed is there after the process's death. */
#define XENSTORE_BACKEND_DURABLE 1u

/* Takes records from recover: whole ones, one or many. Other than 0: stop, and let recover return -1. */
typedef int (*xenstore_receive)(void *receiver, const uint8_t *records, size_t count);

struct xenstore_plugin;

struct xenstore_backend {
	uint32_t size;
	uint32_t flags;

	/* ---- Required ---- */

	/*
	 * Opens what the options say, or makes it. Returns the instance, or NULL with the failure: an option
	 * that is wrong, a file that cannot be used. `plugin` is the module's own description.
	 */
	void *(*open)(const struct xenstore_plugin *plugin, const struct xenstore_host *host,
		      const struct xenstore_option *options, size_t count,
		      struct xenstore_failure *failure);
	/*
	 * Hands back everything that is kept, in an order in which the later of two records of one key
	 * counts, and stores the number of the newest committed batch in *sequence (0: none yet). Returns 0,
	 * or -1 with the failure. Once, before the first commit.
	 */
	int (*recover)(void *self, xenstore_receive receive, void *receiver, uint64_t *sequence,
		       struct xenstore_failure *failure);
	/*
	 * Keeps a batch. Returns
	 *      0: it is final.
	 *      1: it is submitted: the module has a copy and keeps at it until it is final, and
	 *         host->committed(sequence) follows, in the order of the numbers.
	 *     -1: nothing of it is kept, and the failure says why (ENOSPC: the disk is full). It is offered
	 *         again under the same number, perhaps with more records behind it.
	 */
	int (*commit)(void *self, uint64_t sequence, const uint8_t *records, size_t count,
		      struct xenstore_failure *failure);
	/* Ends the instance. What is submitted is made final first, if it can be. */
	void (*close)(void *self);

	/* ---- Optional: NULL where the module has nothing to say ---- */

	/*
	 * Bytes of records that the next batch may have where it lets the store grow. Beyond it the daemon
	 * refuses requests with ENOSPC, and goes on with removals, for which the module holds something in
	 * reserve. Not asked for every batch: while there is 1 MiB or more, after some tens of them; in
	 * between the daemon reckons with four times what they had, and a page each. NULL: no limit.
	 */
	uint64_t (*room)(void *self);
	/*
	 * What is final when it is called survives the death of the host when it returns 0. -1 with the
	 * failure. On a thread of its own; may wait for the disk.
	 */
	int (*flush)(void *self, struct xenstore_failure *failure);
	/*
	 * Writes at most `room` bytes of lines, each "name: value\n", for CONTROL memreport. Returns how many
	 * bytes it has written.
	 */
	size_t (*report)(void *self, char *text, size_t room);
};

/* ------------------------------------------------------------------------------------------------------
 * Access policies
 *
 * Before an operation the daemon asks each policy in the configuration's order that wants to see it. Each
 * grants, denies or abstains. Any deny wins, then any grant; if all abstain, the node's own permissions
 * decide. The order of all checks: type of the request, privilege, read-only socket, transaction, syntax,
 * policies, node permissions, quota. A grant replaces the check of permissions (or, where the table below
 * says so, of privilege), never the others, and never lets a node be given to another owner (EPERM). The
 * daemon's own nodes and its cleanup after a domain's death are not asked about.
 *
 * A request is asked about as what it is, and then once for every node that it would bring about or remove,
 * before anything is changed: one deny, and nothing is. Where neither a grant of the request nor the node's
 * permissions allow it, the first of these nodes that is not granted ends the asking, with EACCES.
 *
 * Decisions depend on the questions alone, `now` among them, and on the state that earlier questions without
 * XENSTORE_DRY_RUN have made: the same series of questions gets the same answers. What a question costs may
 * grow with the length of its path, not with anything else that guests choose.
 *
 * A reload opens a new instance of every policy, with the new options. If one of them fails, those that
 * were opened are closed and the old ones go on. Else each new one inherits from the old one of the same
 * module (the first from the first; a file that was replaced meanwhile is another module), all take over
 * between two requests, and the old ones are closed.
 */

/*
 * Operations. The numbers up to 31 are the wire's message types. A set of operations is a u64, operation n
 * being bit n.
 *
 *     operation              path              permissions     value    object   arguments   a grant replaces
 *                                              before / after
 *     CONTROL                -                 -               -        -        its words    privilege
 *     DIRECTORY(_PART), READ the node          it has / -      -        -        -            permission
 *     GET_PERMS              the node          it has / -      -        -        -            permission
 *     SET_PERMS              the node          both            -        -        -            permission
 *     WRITE, MKDIR           the node          it has / gets   new      -        -            permission
 *     RM                     the node          it has / -      -        -        -            permission
 *     WATCH, UNWATCH         the watched one   -               -        -        token        -
 *     TRANSACTION_START, _END, RESET_WATCHES   -               -        -        as sent      -
 *     INTRODUCE, RELEASE, RESUME, RESTRICT, GET_DOMAIN_PATH, IS_DOMAIN_INTRODUCED
 *                            -                 -               -        domain   as sent      privilege
 *     SET_TARGET             -                 -               -        domain   as sent      privilege
 *     GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA
 *                            -                 -               -        domain   as sent      privilege
 *     CREATE                 a node to be      - / it gets     -        -        -            permission
 *     REMOVE_NODE            a node to go      it has / -      -        -        -            permission
 *     EVENT                  the changed one   it has / -      -        -        -            permission
 *     LIST_CHILD             the child         it has / -      -        -        -            -
 *
 * CREATE: each node that WRITE or MKDIR brings about, the named one and its missing parents, from the
 * topmost. REMOVE_NODE: each node that RM removes, the named one first. EVENT: the subject is who watches;
 * a deny is silence. LIST_CHILD: a child in the answer of DIRECTORY; a deny leaves it out. The error of
 * these two is not shown to anybody.
 */
enum {
	XENSTORE_OP_CONTROL = 0,
	XENSTORE_OP_DIRECTORY = 1,
	XENSTORE_OP_READ = 2,
	XENSTORE_OP_GET_PERMS = 3,
	XENSTORE_OP_WATCH = 4,
	XENSTORE_OP_UNWATCH = 5,
	XENSTORE_OP_TRANSACTION_START = 6,
	XENSTORE_OP_TRANSACTION_END = 7,
	XENSTORE_OP_INTRODUCE = 8,
	XENSTORE_OP_RELEASE = 9,
	XENSTORE_OP_GET_DOMAIN_PATH = 10,
	XENSTORE_OP_WRITE = 11,
	XENSTORE_OP_MKDIR = 12,
	XENSTORE_OP_RM = 13,
	XENSTORE_OP_SET_PERMS = 14,
	XENSTORE_OP_IS_DOMAIN_INTRODUCED = 17,
	XENSTORE_OP_RESUME = 18,
	XENSTORE_OP_SET_TARGET = 19,
	XENSTORE_OP_RESTRICT = 20,
	XENSTORE_OP_RESET_WATCHES = 21,
	XENSTORE_OP_DIRECTORY_PART = 22,
	XENSTORE_OP_GET_FEATURE = 23,
	XENSTORE_OP_SET_FEATURE = 24,
	XENSTORE_OP_GET_QUOTA = 25,
	XENSTORE_OP_SET_QUOTA = 26,
	XENSTORE_OP_CREATE = 32,
	XENSTORE_OP_REMOVE_NODE = 33,
	XENSTORE_OP_EVENT = 34,
	XENSTORE_OP_LIST_CHILD = 35
};

/* No domain: Xen's DOMID_INVALID. */
#define XENSTORE_NO_DOMAIN 0x7FF4u

/* `flags` of a subject. */
#define XENSTORE_SUBJECT_PRIVILEGED 1u /* may do what the control domain may */
#define XENSTORE_SUBJECT_SOCKET 2u     /* on a socket: uid, gid and pid count; else on a domain's ring */
#define XENSTORE_SUBJECT_READ_ONLY 4u  /* on a socket that changes nothing */

/*
 * Who asks. A socket's peer that is neither root nor the daemon's user is not privileged, and may do nothing
 * but what a policy grants: where all abstain it gets EACCES.
 */
struct xenstore_subject {
	uint32_t flags;
	uint16_t domain; /* that it speaks for */
	uint16_t target; /* the domain that it may act for, or XENSTORE_NO_DOMAIN */
	uint32_t uid, gid; /* of the socket's peer when it connected */
	int32_t pid;
	uint32_t reserved;
	uint64_t connection; /* tells connections apart */
};

/* `flags` of a question. */
#define XENSTORE_DRY_RUN 1u        /* nothing will happen: no tokens, no audit, no state */
#define XENSTORE_IN_TRANSACTION 2u /* of a transaction, which may yet be given up */
#define XENSTORE_NODE_EXISTS 4u    /* there is a node at the path, as the subject's transaction sees it */

/*
 * What is asked about. Fields that an operation does not have (table above) are 0, or XENSTORE_NO_DOMAIN.
 * A path is absolute, also where the request's was not; its components are its names. The root has none;
 * "@introduceDomain" and its like are one component and have no slash.
 */
struct xenstore_question {
	uint32_t size;
	uint32_t flags;
	uint32_t operation;
	uint32_t request; /* the operation of the request that it is part of */
	uint64_t now;     /* nanoseconds; the same for all questions of a request */
	struct xenstore_subject subject;
	struct xenstore_bytes path;
	const uint16_t *component_ends; /* where each component ends, in bytes from the path's start */
	size_t component_count;
	const struct xenstore_permission *before, *after; /* the owner's first */
	size_t before_count, after_count;
	struct xenstore_bytes value; /* only if the policy's interest names the operation in `values` */
	const struct xenstore_bytes *arguments;
	size_t argument_count;
	uint16_t object, second_object; /* SET_TARGET: the domain, and its target to be */
	uint32_t reserved;
	const uint32_t *groups; /* the other groups of the socket's peer when it connected */
	size_t group_count;
};

/* Component n of a question's path, n below component_count. */
static inline struct xenstore_bytes xenstore_component(const struct xenstore_question *question,
						       size_t n)
{
	size_t start = n > 0 ? question->component_ends[n - 1] + 1u
			     : question->path.count > 0 && question->path.start[0] == '/';
	struct xenstore_bytes bytes = { question->path.start + start, question->component_ends[n] - start };
	return bytes;
}

/* What decide returns. Any other number is a failure to decide: denied with EACCES, and logged. */
enum {
	XENSTORE_ABSTAIN = 0,
	XENSTORE_GRANT = 1,
	XENSTORE_DENY = 2,
	/* A guest's request: ask again in `delay` milliseconds; its ring is not read until then. Anywhere
	 * else it is an abstention. */
	XENSTORE_DEFER = 3
};

#define XENSTORE_DELAY_MAX 1000u

/* Zeros when decide is called, but for size, reason and room. */
struct xenstore_answer {
	uint32_t size;
	int32_t error;  /* of a deny: EACCES (as is 0), EPERM, ENOSPC, EBUSY, ENOENT (to hide); else EACCES */
	uint32_t delay; /* of a deferral: 1 to XENSTORE_DELAY_MAX milliseconds */
	uint32_t reserved;
	/* Where a person asks why, room for one line: the rule with its file and line. Else NULL. */
	char *reason;
	size_t room; /* bytes, with the NUL */
};

/* How an operation went. */
struct xenstore_outcome {
	uint32_t size;
	int32_t error; /* 0: it was done; else the errno of its reply */
	uint32_t verdict; /* of all policies together: XENSTORE_ABSTAIN, XENSTORE_GRANT or XENSTORE_DENY */
	uint32_t reserved;
	const char *policy; /* the module that gave the verdict; NULL: none did */
};

/* Sets of operations. */
struct xenstore_interest {
	uint32_t size;
	uint32_t reserved;
	uint64_t decides;  /* decide is asked about these */
	uint64_t observes; /* observe is told of these */
	uint64_t values;   /* of these the value is shown */
};

/* Takes bytes from compile, one piece after the other. */
typedef void (*xenstore_put)(void *receiver, const uint8_t *bytes, size_t count);

struct xenstore_policy {
	uint32_t size;
	uint32_t flags; /* 0 */

	/* ---- Required ---- */

	/* As a backend's. Rule files are read here, and mistakes in them are failures. */
	void *(*open)(const struct xenstore_plugin *plugin, const struct xenstore_host *host,
		      const struct xenstore_option *options, size_t count,
		      struct xenstore_failure *failure);
	/* What it wants to see; zeros when called, but for the size. Once, after open. */
	void (*interest)(void *self, struct xenstore_interest *interest);
	int (*decide)(void *self, const struct xenstore_question *question, struct xenstore_answer *answer);
	void (*close)(void *self);

	/* ---- Optional ---- */

	/* The question again, with the outcome. Must not wait: what goes to a disk goes through a queue. */
	void (*observe)(void *self, const struct xenstore_question *question,
			const struct xenstore_outcome *outcome);
	/* The domain is gone: what is kept of it can go. Its number may come back as another's. */
	void (*ended)(void *self, uint16_t domain);
	/* A reload: takes what it wants of an older instance of the same module, which is closed next. */
	void (*inherit)(void *self, void *older);

	/* ---- Optional, of interface 1.1: for the kernel of a stub domain, which has no files ---- */

	/*
	 * Hands all that the instance decides by to `put`, in a form of the module's own. Returns 0, or -1
	 * with the failure: the options ask for what no kernel has. NULL: the module is for the daemon only.
	 */
	int (*compile)(void *self, xenstore_put put, void *receiver, struct xenstore_failure *failure);
	/*
	 * Opens an instance that decides as the one did that was compiled, without its options and files.
	 * `form` may be anything: what is no such form is a failure. There where compile is.
	 */
	void *(*open_compiled)(const struct xenstore_plugin *plugin, const struct xenstore_host *host,
			       struct xenstore_bytes form, struct xenstore_failure *failure);
};

/* Bytes of a struct xenstore_policy of interface 1.0. */
#define XENSTORE_POLICY_SIZE_1_0 64u

/* ------------------------------------------------------------------------------------------------------
 * The module
 */

/* One key that may stand in `options:`, for --describe-module and --check-config. */
struct xenstore_option_description {
	const char *name;
	const char *fallback; /* its default, as the file would have it; NULL: it must be given */
	const char *meaning;  /* one line */
};

enum { XENSTORE_KIND_BACKEND = 1, XENSTORE_KIND_POLICY = 2 };

struct xenstore_plugin {
	uint32_t magic; /* XENSTORE_PLUGIN_MAGIC */
	uint16_t major, minor;
	uint32_t size;
	uint32_t kind;
	const char *name; /* lower-case letters, digits and -, at most 64, as the configuration has it */
	const char *version, *summary; /* one line each */
	const struct xenstore_option_description *options;
	size_t option_count;
	const struct xenstore_backend *backend; /* NULL unless kind says so */
	const struct xenstore_policy *policy;   /* NULL unless kind says so */
	const void *own; /* the module's own: never read by the daemon */
};

/* The first fields of a struct xenstore_plugin. */
#define XENSTORE_PLUGIN_HEAD \
	XENSTORE_PLUGIN_MAGIC, XENSTORE_PLUGIN_MAJOR, XENSTORE_PLUGIN_MINOR, sizeof(struct xenstore_plugin)

/* The one exported symbol of a shared object. Returns the same pointer at every call. */
typedef const struct xenstore_plugin *(*xenstore_plugin_entry_function)(void);
#define XENSTORE_PLUGIN_ENTRY "xenstore_plugin_entry"

/* Defines that symbol, in C. `plugin` is a struct xenstore_plugin. */
#define XENSTORE_PLUGIN_EXPORT(plugin)                                                              \
	__attribute__((visibility("default"))) const struct xenstore_plugin *xenstore_plugin_entry(void); \
	const struct xenstore_plugin *xenstore_plugin_entry(void) { return &(plugin); }

#ifdef __cplusplus
}
#endif
#endif
