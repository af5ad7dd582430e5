/*
 * Has the kernel zero memory that is free: a child process takes it as anonymous memory, which the kernel
 * zeroes page by page as it hands it out, and ends. Nothing else is ever written to these pages: neither by
 * the child nor by the kernel when it gets them back (but with page poisoning, a debugging aid, it does).
 *
 * The child is made for dying: first victim of memory shortage, last in line for the CPU, gone with the
 * agent, with the host, or after 10 s. It stops before the kernel would start to reclaim memory for it.
 */
#include "agent.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { STEP_BYTES = 4 << 20, FDS_MAX = 1024 };
static const uint64_t keep_bytes_min = 32ULL << 20, margin_bytes = 8ULL << 20;
static const int64_t longest_ns = 10000 * MS;

static struct {
    bool busy;
    bool wanted; /* the host that asked is still there */
    uint32_t id;
    pid_t child;
    int pidfd;
    int64_t began_ns, end_ns;
    _Atomic uint64_t *zeroed; /* shared with the child */
} work;

/*
 * What the kernel keeps for itself: below that it would begin to swap, and to give up page cache. For each
 * zone its highest watermark, and what it keeps for requests that no other zone can serve; but no more than
 * the zone has free. /proc/zoneinfo, see proc(5), in pages.
 */
static uint64_t reserve_bytes(void)
{
    char line[512];
    unsigned long long pages = 0, free_pages = 0, high = 0;
    FILE *file = fopen("/proc/zoneinfo", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *list = strstr(line, "protection: (");
        sscanf(line, " pages free %llu", &free_pages);
        sscanf(line, " high %llu", &high);
        if (list == NULL)
            continue;
        unsigned long long most = 0;
        for (list = strchr(list, '(') + 1; isdigit((unsigned char)*list); list += strspn(list, ", ")) {
            char *end;
            unsigned long long value = strtoull(list, &end, 10);
            most = value > most ? value : most;
            list = end;
        }
        pages += free_pages < high + most ? free_pages : high + most;
    }
    if (file != NULL)
        fclose(file);
    return pages * PAGE_BYTES;
}

static uint64_t keep_bytes(uint32_t keep_mib)
{
    uint64_t wanted = (uint64_t)keep_mib << 20, reserve = reserve_bytes() + margin_bytes;
    if (wanted < keep_bytes_min)
        wanted = keep_bytes_min;
    return wanted > reserve ? wanted : reserve;
}

/* ---- in the child: no allocation, no stdio, as behind any fork of a program with threads ---- */

/* Zeroes by being zeroed: a page that is there reads as it was handed out, and what is written is 0. */
static bool populate(uint8_t *memory, size_t bytes)
{
    if (madvise(memory, bytes, MADV_POPULATE_WRITE) == 0)
        return true;
    if (errno != EINVAL)
        return false;
    for (size_t at = 0; at < bytes; at += PAGE_BYTES)
        *(volatile uint8_t *)(memory + at) = 0;
    return true;
}

static void take(uint64_t keep)
{
    struct memory_figures figures;
    machine_figures(&figures);
    if (figures.free_bytes < keep + STEP_BYTES)
        return;
    uint64_t most = (figures.free_bytes - keep) / STEP_BYTES * STEP_BYTES;
    uint8_t *memory = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return;
    /* For huge pages the kernel would move others out of their way, and what is moved has to travel again. */
    madvise(memory, most, MADV_NOHUGEPAGE);
    for (uint64_t done = 0; done < most; done += STEP_BYTES) {
        machine_figures(&figures);
        if (figures.free_bytes < keep + STEP_BYTES || !populate(memory + done, STEP_BYTES))
            return;
        *work.zeroed = done + STEP_BYTES;
    }
}

/* Nothing of the agent's may outlive it here: a next agent needs the port and the directory for itself. */
static _Noreturn void child(pid_t parent, uint64_t keep)
{
    sigset_t none;
    for (int fd = 3; fd < FDS_MAX; fd++)
        close(fd);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    machine_thread_ordinary();
    setpriority(PRIO_PROCESS, 0, 10);
    if (getppid() == parent && machine_be_victim())
        take(keep);
    _exit(0);
}

/* ---- in the agent ---- */

static void kill_child(void) { syscall(SYS_pidfd_send_signal, work.pidfd, SIGKILL, NULL, 0); }

/* However the child ended: what it had taken was zeroed by then, and is free again. */
static void finished(void *context, int fd, short events)
{
    int status;
    (void)context, (void)events;
    if (!work.busy || fd != work.pidfd || waitpid(work.child, &status, WNOHANG) != work.child)
        return;
    close(work.pidfd);
    work.busy = false;
    if (!work.wanted)
        return;
    struct reply reply = reply_begin_for(17, work.id);
    reply_u64(&reply, *work.zeroed);
    reply_u64(&reply, (uint64_t)(now_ns() - work.began_ns) / 1000);
    reply_send(&reply);
}

void zerofree_prepare(struct wait *wait)
{
    if (!work.busy)
        return;
    wait_fd(wait, work.pidfd, POLLIN, finished, NULL);
    wait_until(wait, work.end_ns);
}

void zerofree_tick(int64_t now)
{
    if (!work.busy || now < work.end_ns)
        return;
    work.end_ns = NEVER;
    kill_child();
}

bool zerofree_start(uint32_t id, uint32_t keep_mib, struct failure *failure)
{
    if (work.busy)
        return fail(failure, BUSY, "free memory is being zeroed already");
    uint64_t keep = keep_bytes(keep_mib);
    pid_t parent = getpid();
    if (work.zeroed == NULL) {
        void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            return fail(failure, FAILED, "no memory");
        work.zeroed = page;
    }
    *work.zeroed = 0;
    work.child = fork();
    if (work.child == 0)
        child(parent, keep);
    if (work.child < 0)
        return fail(failure, FAILED, "no process could be made: %m");
    work.pidfd = (int)syscall(SYS_pidfd_open, work.child, 0);
    if (work.pidfd < 0) {
        int error = errno;
        kill(work.child, SIGKILL); /* not waited for yet: the number is still its own */
        waitpid(work.child, NULL, 0);
        return fail(failure, FAILED, "pidfd_open: %s", strerror(error));
    }
    work.busy = work.wanted = true;
    work.id = id;
    work.began_ns = now_ns();
    work.end_ns = work.began_ns + longest_ns;
    return true;
}

bool zerofree_cancel(uint32_t id)
{
    struct failure failure;
    if (!work.busy || !work.wanted || work.id != id)
        return false;
    work.wanted = false;
    kill_child();
    fail(&failure, CANCELLED, "cancelled");
    reply_failure(id, &failure);
    return true;
}

void zerofree_session_end(void)
{
    if (!work.busy)
        return;
    work.wanted = false;
    kill_child();
}

void zerofree_status(struct reply *reply)
{
    if (work.busy)
        reply_text(reply, "zeroing %d %llu\n", work.child, (unsigned long long)*work.zeroed);
}
