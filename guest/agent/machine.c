/* The guest as a whole: its memory in figures, its page cache, and the agent's place among its processes. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

bool machine_real_time;

static struct {
    bool busy;
    bool wanted; /* the host that asked is still there */
    uint32_t id;
    int finished_fd;
    int error;
    uint64_t before_bytes, after_bytes;
    int64_t ns;
    pthread_t thread;
} dropping = {.finished_fd = -1};

static uint64_t figure(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    return line == NULL ? 0 : strtoull(line + strlen(name), NULL, 10) * 1024;
}

/* Shared memory counts as page cache in the kernel's figures, but cannot be dropped. */
void machine_figures(struct memory_figures *figures)
{
    char text[4096];
    if (read_file("/proc/meminfo", text, sizeof text) < 0)
        text[0] = 0;
    uint64_t cache = figure(text, "\nCached:") + figure(text, "\nBuffers:"), shared = figure(text, "\nShmem:");
    *figures = (struct memory_figures){
        .total_bytes = figure(text, "MemTotal:"),
        .free_bytes = figure(text, "\nMemFree:"),
        .cache_bytes = cache > shared ? cache - shared : 0,
    };
}

static bool write_word(const char *path, const char *word)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool good = write(fd, word, strlen(word)) == (ssize_t)strlen(word);
    int error = errno;
    close(fd);
    errno = error;
    return good;
}

/*
 * What is frozen waits for this process, so it goes before others: no swapping, no victim of memory
 * shortage, real-time priority. Whatever is not allowed is done without.
 */
bool machine_setup(void)
{
    struct sched_param lowest = {.sched_priority = 1};
    dropping.finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (dropping.finished_fd < 0)
        return false;
    write_word("/proc/self/oom_score_adj", "-1000");
    setpriority(PRIO_PROCESS, 0, -10);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    mlockall(MCL_CURRENT);
    /* The C library leaves this one out on purpose; here it means what the system call means. */
    machine_real_time = syscall(SYS_sched_setscheduler, 0, SCHED_RR, &lowest) == 0;
    return true;
}

bool machine_be_victim(void) { return write_word("/proc/self/oom_score_adj", "1000"); }

void machine_thread_ordinary(void)
{
    struct sched_param none = {.sched_priority = 0};
    syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &none);
}

static void *drop(void *unused)
{
    struct memory_figures figures;
    int64_t began_ns = now_ns();
    uint64_t one = 1;
    machine_thread_ordinary();
    machine_figures(&figures);
    dropping.before_bytes = figures.cache_bytes;
    dropping.error = write_word("/proc/sys/vm/drop_caches", "1\n") ? 0 : errno;
    machine_figures(&figures);
    dropping.after_bytes = figures.cache_bytes;
    dropping.ns = now_ns() - began_ns;
    if (write(dropping.finished_fd, &one, sizeof one) < 0)
        say("eventfd: %m");
    return unused;
}

static void answer(void)
{
    struct failure failure;
    if (dropping.error != 0) {
        fail(&failure, dropping.error == EACCES ? DENIED : FAILED, "drop_caches: %s", strerror(dropping.error));
        reply_failure(dropping.id, &failure);
        return;
    }
    struct reply reply = reply_begin_for(11, dropping.id);
    reply_u64(&reply, dropping.before_bytes);
    reply_u64(&reply, dropping.after_bytes);
    reply_u64(&reply, (uint64_t)dropping.ns / 1000);
    reply_send(&reply);
}

static void finished(void *context, int fd, short events)
{
    uint64_t unused;
    (void)context, (void)events;
    if (read(fd, &unused, sizeof unused) < 0)
        return;
    pthread_join(dropping.thread, NULL);
    dropping.busy = false;
    if (dropping.wanted)
        answer();
}

void machine_prepare(struct wait *wait)
{
    if (dropping.busy)
        wait_fd(wait, dropping.finished_fd, POLLIN, finished, NULL);
}

bool machine_drop_caches(uint32_t id, struct failure *failure)
{
    if (dropping.busy)
        return fail(failure, BUSY, "the page cache is being dropped already");
    dropping.id = id;
    dropping.wanted = true;
    if (pthread_create(&dropping.thread, NULL, drop, NULL) != 0)
        return fail(failure, FAILED, "no thread could be made");
    dropping.busy = true;
    return true;
}

void machine_session_end(void) { dropping.wanted = false; }
