// Talks to a xenstored over one connection, a line of standard input a request: what the xenstore tools
// cannot do, such as to hold a transaction, or to send nonsense.
//
// Usage: talk [DEVICE]          /dev/xen/xenbus, the kernel's end of this domain's ring, without DEVICE
//
//     READ path                 a request by its name and arguments, which blanks separate
//     WRITE @ path value        the same in the transaction that the last TRANSACTION_START began
//     raw HEX                   bytes as they stand there; no reply is awaited
//     noise SEED COUNT          COUNT messages of random type, arguments and length, each in its frame; what
//                               comes back is counted
//     await path text           asks for a node 10 times a second, until it exists, and its value begins with
//                               the text if there is one
//     sleep SECONDS
//
// Prints a line a reply: the request's name, then the reply's bytes with blanks for NULs, or `ERROR` and the
// error. Events are printed as they come in: `EVENT path token`. Status 1, and why, where a line makes no
// sense, or the kernel refuses what is written: it keeps books of watches and transactions, and answers these
// requests itself.

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct head {
    uint32_t type, request, transaction, count;
};

static const char *const names[] = {
    "CONTROL", "DIRECTORY", "READ", "GET_PERMS", "WATCH", "UNWATCH", "TRANSACTION_START", "TRANSACTION_END",
    "INTRODUCE", "RELEASE", "GET_DOMAIN_PATH", "WRITE", "MKDIR", "RM", "SET_PERMS", "WATCH_EVENT", "ERROR",
    "IS_DOMAIN_INTRODUCED", "RESUME", "SET_TARGET", "-", "RESET_WATCHES", "DIRECTORY_PART",
};
enum { event = 15, error = 16, last = sizeof names / sizeof *names };

static int ring;
static uint32_t transaction;
static char body[4097];

static void fail(const char *what) {
    printf("talk: %s\n", what);
    fflush(stdout);
    exit(1);
}

static void put(const void *bytes, size_t count) {
    if (write(ring, bytes, count) != (ssize_t)count) fail(strerror(errno));
}

// One whole message; its body is left in `body`, NULs but the last one replaced by blanks.
static struct head take(void) {
    struct head head;
    char *at = (char *)&head;
    for (size_t left = sizeof head; left; ) {
        ssize_t got = read(ring, at, left);
        if (got <= 0) fail("no more replies");
        at += got, left -= (size_t)got;
    }
    if (head.count > 4096) fail("a reply that is too long");
    for (size_t done = 0; done < head.count; ) {
        ssize_t got = read(ring, body + done, head.count - done);
        if (got <= 0) fail("a reply that is cut short");
        done += (size_t)got;
    }
    size_t count = head.count;
    while (count && !body[count - 1]) count--;
    for (size_t i = 0; i < count; i++)
        if (!body[i]) body[i] = ' ';
    body[count] = 0;
    return head;
}

// The reply to what was sent last; events that come before it are printed.
static struct head reply(void) {
    for (;;) {
        struct head head = take();
        if (head.type != event) return head;
        printf("EVENT %s\n", body);
    }
}

static struct head ask(uint32_t type, uint32_t in, const char *bytes, size_t count) {
    struct { struct head head; char body[4096]; } message = {{type, 7, in, (uint32_t)count}, {0}};
    memcpy(message.body, bytes, count);
    put(&message, sizeof message.head + count);
    return reply();
}

static void request(const char *name, char *rest) {
    uint32_t type = 0, in = 0;
    while (type < last && strcmp(names[type], name)) type++;
    if (type == last) fail("no such request");
    if (rest && rest[0] == '@') in = transaction, rest += rest[1] ? 2 : 1;
    char bytes[4096] = "";
    size_t count = rest ? strlen(rest) : 0;
    memcpy(bytes, rest ? rest : "", count);
    int blanks = !strcmp(name, "WRITE") ? 1 : (int)count;  // a value may have blanks, and no NUL ends it
    for (size_t i = 0; i < count; i++)
        if (bytes[i] == ' ' && blanks-- > 0) bytes[i] = 0;
    if (strcmp(name, "WRITE")) count++;
    struct head head = ask(type, in, bytes, count);
    if (!strcmp(name, "TRANSACTION_START")) transaction = (uint32_t)atoi(body);
    printf("%s %s%s\n", name, head.type == error ? "ERROR " : "", body);
}

static void raw(const char *hex) {
    unsigned char bytes[4096];
    size_t count = 0;
    for (unsigned byte; hex && sscanf(hex, "%2x", &byte) == 1 && count < sizeof bytes; hex += 2)
        bytes[count++] = (unsigned char)byte;
    put(bytes, count);
}

// Arguments are often something of a path, so that some of it gets past the first check. Only what the kernel
// lets through comes to the daemon: it looks at the frame, at transactions' ids and at watches itself. After
// RESET_WATCHES the guest would hear of nothing more, so that is left out.
static void noise(unsigned seed, int messages) {
    static const char *const words[] = {
        "data/x", "/local/domain/0", "@releaseDomain", "/", "n0", "T", "", "../..", "w-1",
    };
    int refused = 0, answered = 0;
    srandom(seed);
    for (int i = 0; i < messages; i++) {
        uint32_t type = (uint32_t)random() % 32;
        char bytes[4096];
        size_t count = 0;
        if (type == 4 || type == 5 || type == 6 || type == 7) continue;  // the kernel keeps books of these
        if (type == 21) continue;
        for (long parts = random() % 4; parts > 0; parts--) {
            const char *word = words[random() % 9];
            strcpy(bytes + count, word);
            count += strlen(word) + (size_t)(random() % 2);
        }
        long more = random() % 8 ? 0 : random() % 3500;
        while (more-- > 0) bytes[count++] = (char)random();
        struct head head = ask(type, 0, bytes, count);
        *(head.type == error ? &refused : &answered) += 1;
    }
    printf("noise refused %d answered %d\n", refused, answered);
}

static void await(char *path) {
    char *text = strchr(path, ' ');
    if (text) *text++ = 0; else text = "";
    for (;;) {
        int exists = ask(2, 0, path, strlen(path) + 1).type != error;
        if (exists && !strncmp(body, text, strlen(text))) return;
        usleep(100000);
    }
}

int main(int argc, char **argv) {
    static char line[8192];
    ring = open(argc > 1 ? argv[1] : "/dev/xen/xenbus", O_RDWR);
    if (ring < 0) fail("cannot open the ring");
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *rest = strchr(line, ' ');
        if (rest) *rest++ = 0;
        if (!strcmp(line, "raw")) raw(rest);
        else if (!strcmp(line, "sleep")) sleep((unsigned)atoi(rest ? rest : "1"));
        else if (!strcmp(line, "await") && rest) await(rest);
        else if (!strcmp(line, "noise") && rest)
            noise((unsigned)atoi(rest), atoi(strchr(rest, ' ') ?: "100"));
        else if (*line) request(line, rest);
        fflush(stdout);
    }
    return 0;
}
