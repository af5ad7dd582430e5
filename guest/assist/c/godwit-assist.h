/*
 * godwit-assist.h: tells godwit which memory of this program need not travel in a live migration.
 *
 *   #define GODWIT_ASSIST_IMPLEMENTATION    in exactly one .c file, before including
 *   #define GODWIT_ASSIST_THREADS           wherever it is included, if a helper thread is wanted (link with -pthread)
 *   #include "godwit-assist.h"
 *
 * C99 (or C++) on Linux, no dependencies. docs/ASSIST.md explains what the program promises; in short:
 *
 *   begin     a migration begins: nothing has to be done
 *   prepare   stop reading and writing the declared memory, drop what must be kept, then say ready
 *   resume    the program runs at the destination: declared memory may have become zero, wholly or in part
 *   abort     the program stays where it is: same caution
 *
 * No agent, no godwit, no virtual machine: everything here still succeeds and nothing ever happens.
 *
 * The library keeps the list of areas. When the agent restarts it connects again and declares them again; if
 * the connection is lost in mid-migration the program hears `abort`, so that it is never left waiting.
 *
 * Two ways to run it:
 *   event loop   watch godwit_assist_fd() for reading (one descriptor for life, whatever happens to the
 *                connection) and call godwit_assist_process(), which calls back. One thread only.
 *   thread       godwit_assist_start_thread(): callbacks come from the helper thread; the other functions may be
 *                called from any thread and from callbacks.
 * Not to be called from callbacks: godwit_assist_process() and godwit_assist_close().
 *
 * The child of a fork() must not use the handle: the connection speaks for its parent.
 */
#ifndef GODWIT_ASSIST_H
#define GODWIT_ASSIST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What `prepare` returns. */
enum {
    GODWIT_ASSIST_READY = 0,  /* the areas are not used any more: answer now */
    GODWIT_ASSIST_LATER = 1,  /* godwit_assist_ready() will be called */
    GODWIT_ASSIST_KEEP = -1   /* cannot stop: no area is disposable in this migration (declared again after it) */
};

/* Each may be NULL. Without `prepare` nothing is ever given up: as if it returned GODWIT_ASSIST_KEEP. */
struct godwit_assist_callbacks {
    void (*begin)(void *user);
    /* To be answered within deadline_ms; later is no mistake, but then the memory travels. */
    int (*prepare)(unsigned deadline_ms, void *user);
    void (*resume)(void *user);
    void (*abort)(void *user);
    /* What the agent refused, and lost connections, in words. For a log. */
    void (*trouble)(const char *text, void *user);
};

struct godwit_assist;

/*
 * Connects, now or as soon as there is an agent: to $GODWIT_ASSIST, else /run/godwit/assist.sock. An empty
 * $GODWIT_ASSIST switches assistance off. `name` (may be NULL) is what operators will read. The callbacks are
 * copied. NULL only if memory or descriptors have run out.
 */
struct godwit_assist *godwit_assist_open(const char *name, const struct godwit_assist_callbacks *callbacks, void *user);

/*
 * Declares memory disposable; only the whole pages inside count. It must be private anonymous memory of this
 * process (malloc, mmap with MAP_PRIVATE | MAP_ANONYMOUS). Drop it before it is freed or unmapped. Declared
 * between `prepare` and `resume` or `abort`, it counts from the end of that migration on.
 * 0; -1 if there are GODWIT_ASSIST_AREAS_MAX already.
 */
int godwit_assist_area(struct godwit_assist *assist, const void *address, size_t bytes);

/*
 * Withdraws a range from all areas. Inside `prepare` (before it is answered) it is the way to keep something.
 * After the answer it is too late for this migration.
 */
void godwit_assist_drop(struct godwit_assist *assist, const void *address, size_t bytes);
void godwit_assist_drop_all(struct godwit_assist *assist);

/* Answers `prepare` after GODWIT_ASSIST_LATER. 0; -1 if no answer is wanted any more (resume or abort is coming). */
int godwit_assist_ready(struct godwit_assist *assist);

/* Readable when godwit_assist_process() has something to do. Stays the same. */
int godwit_assist_fd(const struct godwit_assist *assist);

/* Does what there is to do, without blocking, and calls back. 1: connected, 0: not. */
int godwit_assist_process(struct godwit_assist *assist);

#ifdef GODWIT_ASSIST_THREADS
/* Runs godwit_assist_process() in a thread from now on. 0, or an error number. */
int godwit_assist_start_thread(struct godwit_assist *assist);
#endif

/* Withdraws everything and frees the handle. Ends the helper thread, if any, after the callback it is in. */
void godwit_assist_close(struct godwit_assist *assist);

enum { GODWIT_ASSIST_AREAS_MAX = 1024 };

#ifdef __cplusplus
}
#endif
#endif /* GODWIT_ASSIST_H */

#if defined(GODWIT_ASSIST_IMPLEMENTATION) && !defined(GODWIT_ASSIST_IMPLEMENTED_)
#define GODWIT_ASSIST_IMPLEMENTED_

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef GODWIT_ASSIST_THREADS
#include <pthread.h>
#include <signal.h>
#endif

#ifndef CLOCK_MONOTONIC /* hidden by -std=c99 without feature macros */
#define CLOCK_MONOTONIC 1
#endif

enum {
    GODWIT_ASSIST_LINE_BYTES_ = 256,
    /* Room for all areas at once: 1024 lines of at most 44 bytes, twice. */
    GODWIT_ASSIST_OUT_BYTES_ = 98304,
    GODWIT_ASSIST_UNANSWERED_MAX_ = 4096,
    GODWIT_ASSIST_RETRY_MS_ = 250,
    GODWIT_ASSIST_RETRY_MS_MAX_ = 30000
};

/* Where a migration stands, as far as this program was told. */
enum godwit_assist_phase_ {
    GODWIT_ASSIST_IDLE_,
    GODWIT_ASSIST_BEGUN_,
    GODWIT_ASSIST_PREPARING_, /* `prepare` came and is not answered */
    GODWIT_ASSIST_ANSWERED_
};

/* Lines whose answer matters. */
enum godwit_assist_line_ { GODWIT_ASSIST_ANY_, GODWIT_ASSIST_DROP_, GODWIT_ASSIST_WITHDRAW_ };

struct godwit_assist_range_ {
    uintptr_t address;
    size_t bytes;
    int declared; /* on this connection */
};

struct godwit_assist {
    /* fixed after opening */
    struct godwit_assist_callbacks callbacks;
    void *user;
    char name[128];
    struct sockaddr_un peer; /* sun_path empty: switched off */
    int epoll;               /* holds timer, wake and socket */
    int timer;               /* the next attempt to connect */
    int wake;                /* ends the helper thread */
    /* what the program has declared */
    struct godwit_assist_range_ areas[GODWIT_ASSIST_AREAS_MAX];
    unsigned area_count;
    /* the migration */
    enum godwit_assist_phase_ phase;
    int answer;        /* `ready` is to be sent as soon as all drops are answered */
    unsigned drops;    /* drop lines without an answer */
    /* the connection; socket -1 if there is none */
    int socket;
    int watches_room;  /* epoll also waits for room to write */
    unsigned retry_ms;
    unsigned char unanswered[GODWIT_ASSIST_UNANSWERED_MAX_]; /* ring of enum godwit_assist_line_ */
    unsigned unanswered_first, unanswered_count;
    size_t in_bytes, out_bytes;
    char in[2 * GODWIT_ASSIST_LINE_BYTES_];
    char out[GODWIT_ASSIST_OUT_BYTES_];
#ifdef GODWIT_ASSIST_THREADS
    pthread_mutex_t mutex;
    pthread_t thread;
    int has_thread;
#endif
};

#ifdef GODWIT_ASSIST_THREADS
#define GODWIT_ASSIST_LOCK_(assist) pthread_mutex_lock(&(assist)->mutex)
#define GODWIT_ASSIST_UNLOCK_(assist) pthread_mutex_unlock(&(assist)->mutex)
#else
#define GODWIT_ASSIST_LOCK_(assist) ((void)(assist))
#define GODWIT_ASSIST_UNLOCK_(assist) ((void)(assist))
#endif

/* Calls back without the lock, so that callbacks may use every function. */
#define GODWIT_ASSIST_CALL_(assist, what)        \
    do {                                         \
        if ((assist)->callbacks.what != NULL) {  \
            GODWIT_ASSIST_UNLOCK_(assist);       \
            (assist)->callbacks.what((assist)->user); \
            GODWIT_ASSIST_LOCK_(assist);         \
        }                                        \
    } while (0)

static void godwit_assist_trouble_(struct godwit_assist *assist, const char *text)
{
    if (assist->callbacks.trouble == NULL)
        return;
    GODWIT_ASSIST_UNLOCK_(assist);
    assist->callbacks.trouble(text, assist->user);
    GODWIT_ASSIST_LOCK_(assist);
}

/* Each fruitless attempt doubles the wait, up to 30 s: a machine without an agent is not kept awake. */
static void godwit_assist_retry_later_(struct godwit_assist *assist)
{
    struct itimerspec when;
    memset(&when, 0, sizeof when);
    when.it_value.tv_sec = assist->retry_ms / 1000;
    when.it_value.tv_nsec = (long)(assist->retry_ms % 1000) * 1000000;
    timerfd_settime(assist->timer, 0, &when, NULL);
    assist->retry_ms *= 2;
    if (assist->retry_ms > GODWIT_ASSIST_RETRY_MS_MAX_)
        assist->retry_ms = GODWIT_ASSIST_RETRY_MS_MAX_;
}

static void godwit_assist_watch_(struct godwit_assist *assist, int operation, int fd, uint32_t events)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    epoll_ctl(assist->epoll, operation, fd, &event);
}

/* Writes what fits. Errors show when reading. */
static void godwit_assist_flush_(struct godwit_assist *assist)
{
    size_t done = 0;
    int room;
    if (assist->socket < 0)
        return;
    while (done < assist->out_bytes) {
        ssize_t bytes = send(assist->socket, assist->out + done, assist->out_bytes - done, MSG_NOSIGNAL);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes <= 0)
            break;
        done += (size_t)bytes;
    }
    assist->out_bytes -= done;
    memmove(assist->out, assist->out + done, assist->out_bytes);
    room = assist->out_bytes > 0;
    if (room != assist->watches_room) {
        assist->watches_room = room;
        godwit_assist_watch_(assist, EPOLL_CTL_MOD, assist->socket,
                             (uint32_t)EPOLLIN | (room ? (uint32_t)EPOLLOUT : 0));
    }
}

/* Queues a line. A peer that reads nothing for so long that this overflows is disconnected. */
static void godwit_assist_send_(struct godwit_assist *assist, enum godwit_assist_line_ kind, const char *format, ...)
{
    char line[GODWIT_ASSIST_LINE_BYTES_];
    va_list values;
    int bytes;
    if (assist->socket < 0)
        return;
    va_start(values, format);
    bytes = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    if (bytes <= 0 || (size_t)bytes >= sizeof line)
        return;
    if (assist->out_bytes + (size_t)bytes > sizeof assist->out ||
        assist->unanswered_count == GODWIT_ASSIST_UNANSWERED_MAX_) {
        shutdown(assist->socket, SHUT_RDWR); /* seen as the end of the connection by process() */
        return;
    }
    memcpy(assist->out + assist->out_bytes, line, (size_t)bytes);
    assist->out_bytes += (size_t)bytes;
    assist->unanswered[(assist->unanswered_first + assist->unanswered_count++) % GODWIT_ASSIST_UNANSWERED_MAX_] =
        (unsigned char)kind;
    assist->drops += kind != GODWIT_ASSIST_ANY_;
}

static int godwit_assist_in_prepare_(const struct godwit_assist *assist)
{
    return assist->phase == GODWIT_ASSIST_PREPARING_ || assist->phase == GODWIT_ASSIST_ANSWERED_;
}

/* Declares what is not declared yet; not in mid-prepare, when a new area could be zeroed while it is in use. */
static void godwit_assist_declare_(struct godwit_assist *assist)
{
    unsigned i;
    if (assist->socket < 0 || godwit_assist_in_prepare_(assist))
        return;
    for (i = 0; i < assist->area_count; i++) {
        struct godwit_assist_range_ *area = &assist->areas[i];
        if (area->declared)
            continue;
        godwit_assist_send_(assist, GODWIT_ASSIST_ANY_, "area 0x%llx 0x%llx\n", (unsigned long long)area->address,
                            (unsigned long long)area->bytes);
        area->declared = 1;
    }
}

static void godwit_assist_undeclare_(struct godwit_assist *assist)
{
    unsigned i;
    for (i = 0; i < assist->area_count; i++)
        assist->areas[i].declared = 0;
}

/* Gives up nothing in this migration; outside of one, starts again from the list. */
static void godwit_assist_withdraw_(struct godwit_assist *assist)
{
    godwit_assist_undeclare_(assist);
    godwit_assist_send_(assist, GODWIT_ASSIST_WITHDRAW_, "drop\n");
    godwit_assist_declare_(assist);
}

/* Only after the agent has confirmed every drop may it hear `ready`: a refused drop would be zeroed memory. */
static void godwit_assist_settle_(struct godwit_assist *assist)
{
    if (assist->answer && assist->drops == 0 && assist->phase == GODWIT_ASSIST_PREPARING_) {
        assist->answer = 0;
        assist->phase = GODWIT_ASSIST_ANSWERED_;
        godwit_assist_send_(assist, GODWIT_ASSIST_ANY_, "ready\n");
    }
    godwit_assist_flush_(assist);
}

static void godwit_assist_connect_(struct godwit_assist *assist)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&assist->peer, sizeof assist->peer) != 0) {
        close(fd);
        fd = -1;
    }
    if (fd < 0) {
        godwit_assist_retry_later_(assist);
        return;
    }
    assist->socket = fd;
    assist->watches_room = 0;
    godwit_assist_watch_(assist, EPOLL_CTL_ADD, fd, EPOLLIN);
    if (assist->name[0] != 0)
        godwit_assist_send_(assist, GODWIT_ASSIST_ANY_, "name %s\n", assist->name);
    godwit_assist_declare_(assist);
    godwit_assist_flush_(assist);
}

static void godwit_assist_disconnect_(struct godwit_assist *assist, const char *why)
{
    int interrupted = assist->phase != GODWIT_ASSIST_IDLE_;
    /* Explicitly: a forked child may hold the socket open, and then closing does not unregister it. */
    epoll_ctl(assist->epoll, EPOLL_CTL_DEL, assist->socket, NULL);
    close(assist->socket);
    assist->socket = -1;
    assist->in_bytes = assist->out_bytes = 0;
    assist->unanswered_count = 0;
    assist->drops = 0;
    assist->answer = 0;
    assist->phase = GODWIT_ASSIST_IDLE_;
    godwit_assist_undeclare_(assist);
    godwit_assist_retry_later_(assist);
    godwit_assist_trouble_(assist, why);
    if (interrupted)
        GODWIT_ASSIST_CALL_(assist, abort);
}

static void godwit_assist_replied_(struct godwit_assist *assist, const char *error)
{
    enum godwit_assist_line_ kind;
    if (assist->unanswered_count == 0)
        return;
    kind = (enum godwit_assist_line_)assist->unanswered[assist->unanswered_first];
    assist->unanswered_first = (assist->unanswered_first + 1) % GODWIT_ASSIST_UNANSWERED_MAX_;
    assist->unanswered_count--;
    assist->drops -= kind != GODWIT_ASSIST_ANY_;
    if (error == NULL)
        return;
    if (kind == GODWIT_ASSIST_DROP_)
        godwit_assist_withdraw_(assist);
    else if (kind == GODWIT_ASSIST_WITHDRAW_)
        shutdown(assist->socket, SHUT_RDWR); /* the last means: a closed connection has no areas */
    godwit_assist_trouble_(assist, error);
}

static void godwit_assist_prepare_(struct godwit_assist *assist, unsigned deadline_ms)
{
    int result = GODWIT_ASSIST_KEEP;
    assist->phase = GODWIT_ASSIST_PREPARING_;
    assist->answer = 0;
    if (assist->callbacks.prepare != NULL) {
        GODWIT_ASSIST_UNLOCK_(assist);
        result = assist->callbacks.prepare(deadline_ms, assist->user);
        GODWIT_ASSIST_LOCK_(assist);
    }
    if (result == GODWIT_ASSIST_LATER)
        return;
    if (result != GODWIT_ASSIST_READY)
        godwit_assist_withdraw_(assist);
    assist->answer = 1;
}

static void godwit_assist_line_(struct godwit_assist *assist, const char *line)
{
    /* Not one that refuses and closes: such a one is not asked four times a second. */
    if (strncmp(line, "error", 5) != 0)
        assist->retry_ms = GODWIT_ASSIST_RETRY_MS_;
    if (strcmp(line, "ok") == 0) {
        godwit_assist_replied_(assist, NULL);
    } else if (strncmp(line, "error", 5) == 0) {
        godwit_assist_replied_(assist, line[5] == ' ' ? line + 6 : "refused");
    } else if (strcmp(line, "begin") == 0) {
        assist->phase = GODWIT_ASSIST_BEGUN_;
        GODWIT_ASSIST_CALL_(assist, begin);
    } else if (strncmp(line, "prepare ", 8) == 0) {
        godwit_assist_prepare_(assist, (unsigned)strtoul(line + 8, NULL, 10));
    } else if (strcmp(line, "resume") == 0 || strcmp(line, "abort") == 0) {
        assist->phase = GODWIT_ASSIST_IDLE_;
        assist->answer = 0;
        if (line[0] == 'r')
            GODWIT_ASSIST_CALL_(assist, resume);
        else
            GODWIT_ASSIST_CALL_(assist, abort);
        godwit_assist_declare_(assist);
    } /* anything else: a later version's event, which may be ignored */
    godwit_assist_settle_(assist);
}

/* One complete line at a time: a callback may close nothing, but may queue much. 0: the peer breaks the protocol. */
static int godwit_assist_lines_(struct godwit_assist *assist)
{
    char line[GODWIT_ASSIST_LINE_BYTES_ + 1];
    for (;;) {
        char *end = (char *)memchr(assist->in, '\n', assist->in_bytes);
        size_t bytes = end == NULL ? assist->in_bytes : (size_t)(end - assist->in);
        if (bytes > GODWIT_ASSIST_LINE_BYTES_)
            return 0;
        if (end == NULL)
            return 1;
        memcpy(line, assist->in, bytes);
        line[bytes] = 0;
        assist->in_bytes -= bytes + 1;
        memmove(assist->in, end + 1, assist->in_bytes);
        godwit_assist_line_(assist, line);
    }
}

static void godwit_assist_read_(struct godwit_assist *assist)
{
    while (assist->socket >= 0) {
        ssize_t bytes = recv(assist->socket, assist->in + assist->in_bytes, sizeof assist->in - assist->in_bytes, 0);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (bytes <= 0) {
            godwit_assist_disconnect_(assist, "connection to the agent lost");
            return;
        }
        assist->in_bytes += (size_t)bytes;
        if (!godwit_assist_lines_(assist)) {
            godwit_assist_disconnect_(assist, "the agent sent a line that is too long");
            return;
        }
    }
}

int godwit_assist_process(struct godwit_assist *assist)
{
    uint64_t expirations;
    int connected;
    GODWIT_ASSIST_LOCK_(assist);
    if (read(assist->timer, &expirations, sizeof expirations) == (ssize_t)sizeof expirations && assist->socket < 0)
        godwit_assist_connect_(assist);
    godwit_assist_flush_(assist);
    godwit_assist_read_(assist);
    connected = assist->socket >= 0;
    GODWIT_ASSIST_UNLOCK_(assist);
    return connected;
}

int godwit_assist_fd(const struct godwit_assist *assist) { return assist->epoll; }

int godwit_assist_area(struct godwit_assist *assist, const void *address, size_t bytes)
{
    int result = -1;
    GODWIT_ASSIST_LOCK_(assist);
    if (assist->area_count < GODWIT_ASSIST_AREAS_MAX) {
        struct godwit_assist_range_ *area = &assist->areas[assist->area_count++];
        area->address = (uintptr_t)address;
        area->bytes = bytes;
        area->declared = 0;
        godwit_assist_declare_(assist);
        godwit_assist_flush_(assist);
        result = 0;
    }
    GODWIT_ASSIST_UNLOCK_(assist);
    return result;
}

/* Cuts [from, to) out of area i; what is left behind it needs a place of its own, or is given up as well. */
static void godwit_assist_cut_(struct godwit_assist *assist, unsigned i, uintptr_t from, uintptr_t to)
{
    struct godwit_assist_range_ *area = &assist->areas[i];
    uintptr_t begin = area->address, end = area->address + area->bytes;
    if (to <= begin || from >= end)
        return;
    area->bytes = from > begin ? from - begin : 0;
    if (to >= end)
        return;
    if (area->bytes == 0) {
        area->address = to;
        area->bytes = end - to;
    } else if (assist->area_count < GODWIT_ASSIST_AREAS_MAX) {
        struct godwit_assist_range_ *rest = &assist->areas[assist->area_count++];
        rest->address = to;
        rest->bytes = end - to;
        rest->declared = area->declared;
    }
}

void godwit_assist_drop(struct godwit_assist *assist, const void *address, size_t bytes)
{
    uintptr_t from = (uintptr_t)address;
    unsigned i, kept = 0, count;
    GODWIT_ASSIST_LOCK_(assist);
    count = assist->area_count;
    for (i = 0; i < count; i++)
        godwit_assist_cut_(assist, i, from, from + bytes);
    for (i = 0; i < assist->area_count; i++)
        if (assist->areas[i].bytes > 0)
            assist->areas[kept++] = assist->areas[i];
    assist->area_count = kept;
    godwit_assist_send_(assist, GODWIT_ASSIST_DROP_, "drop 0x%llx 0x%llx\n", (unsigned long long)from,
                        (unsigned long long)bytes);
    godwit_assist_flush_(assist);
    GODWIT_ASSIST_UNLOCK_(assist);
}

void godwit_assist_drop_all(struct godwit_assist *assist)
{
    GODWIT_ASSIST_LOCK_(assist);
    assist->area_count = 0;
    godwit_assist_send_(assist, GODWIT_ASSIST_WITHDRAW_, "drop\n");
    godwit_assist_flush_(assist);
    GODWIT_ASSIST_UNLOCK_(assist);
}

int godwit_assist_ready(struct godwit_assist *assist)
{
    int result = -1;
    GODWIT_ASSIST_LOCK_(assist);
    if (assist->phase == GODWIT_ASSIST_PREPARING_) {
        assist->answer = 1;
        godwit_assist_settle_(assist);
        result = 0;
    }
    GODWIT_ASSIST_UNLOCK_(assist);
    return result;
}

/* The name as one word of printable ASCII and blanks: what a line can carry. */
static void godwit_assist_name_(struct godwit_assist *assist, const char *name)
{
    size_t i;
    for (i = 0; name != NULL && name[i] != 0 && i + 1 < sizeof assist->name; i++)
        assist->name[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
}

struct godwit_assist *godwit_assist_open(const char *name, const struct godwit_assist_callbacks *callbacks, void *user)
{
    struct godwit_assist *assist = (struct godwit_assist *)calloc(1, sizeof *assist);
    const char *path = getenv("GODWIT_ASSIST");
    if (assist == NULL)
        return NULL;
    if (path == NULL)
        path = "/run/godwit/assist.sock";
    if (callbacks != NULL)
        assist->callbacks = *callbacks;
    assist->user = user;
    godwit_assist_name_(assist, name);
    assist->socket = -1;
    assist->retry_ms = GODWIT_ASSIST_RETRY_MS_;
    assist->epoll = epoll_create1(EPOLL_CLOEXEC);
    assist->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    assist->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
#ifdef GODWIT_ASSIST_THREADS
    pthread_mutex_init(&assist->mutex, NULL);
#endif
    if (assist->epoll < 0 || assist->timer < 0 || assist->wake < 0) {
        godwit_assist_close(assist);
        return NULL;
    }
    godwit_assist_watch_(assist, EPOLL_CTL_ADD, assist->timer, EPOLLIN);
    godwit_assist_watch_(assist, EPOLL_CTL_ADD, assist->wake, EPOLLIN);
    assist->peer.sun_family = AF_UNIX;
    if (path[0] == 0 || strlen(path) >= sizeof assist->peer.sun_path)
        return assist; /* switched off: the timer is never set */
    strcpy(assist->peer.sun_path, path);
    godwit_assist_connect_(assist);
    return assist;
}

#ifdef GODWIT_ASSIST_THREADS
static void *godwit_assist_thread_(void *argument)
{
    struct godwit_assist *assist = (struct godwit_assist *)argument;
    struct epoll_event event;
    uint64_t ends;
    while (read(assist->wake, &ends, sizeof ends) < 0) {
        epoll_wait(assist->epoll, &event, 1, -1);
        godwit_assist_process(assist);
    }
    return NULL;
}

int godwit_assist_start_thread(struct godwit_assist *assist)
{
    sigset_t all, before;
    int error;
    /* The program's signals are handled by the program's threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&assist->thread, NULL, godwit_assist_thread_, assist);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    assist->has_thread = error == 0;
    return error;
}
#endif

void godwit_assist_close(struct godwit_assist *assist)
{
    if (assist == NULL)
        return;
#ifdef GODWIT_ASSIST_THREADS
    if (assist->has_thread) {
        uint64_t one = 1;
        if (write(assist->wake, &one, sizeof one) == (ssize_t)sizeof one)
            pthread_join(assist->thread, NULL);
    }
    pthread_mutex_destroy(&assist->mutex);
#endif
    if (assist->socket >= 0)
        close(assist->socket);
    if (assist->epoll >= 0)
        close(assist->epoll);
    if (assist->timer >= 0)
        close(assist->timer);
    if (assist->wake >= 0)
        close(assist->wake);
    free(assist);
}

#endif /* GODWIT_ASSIST_IMPLEMENTATION */
