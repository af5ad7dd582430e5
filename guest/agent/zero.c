/*
 * Zeroing memory of a held process, in pieces of 1 MiB, with threads: one job at a time.
 *
 * Only pages that are there are written: an absent page of private anonymous memory reads as zeros, and
 * writing it would take a frame for nothing. A page in swap is memory content like any other. The zeros
 * come from one mapping that was never written, which is 256 times the kernel's own page of zeros.
 *
 * Nothing is written into a process that runs: whoever thaws stops the job first and waits until no
 * thread writes any more. If a thread does not come back (its write waits in the kernel), the agent kills
 * itself, which ends that write for certain; the next agent thaws.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 8, PIECE_PAGES = 256, PIECE_BYTES = PIECE_PAGES * PAGE_BYTES, STACK_BYTES = 65536 };
static const int64_t stuck_ns = 2000 * MS;

static const uint8_t *zeros;
static int finished_fd;

/* The job that runs, as its threads see it. */
static struct {
    pid_t pid;
    const struct zero_job *job; /* NULL: none */
    int pagemap, witness;
    int64_t began_ns;
    pthread_mutex_t lock; /* of the cursor and the failure */
    uint32_t range;
    uint64_t done; /* bytes of that range that were given out */
    struct failure failure;
    atomic_bool stop;
    atomic_bool forbidden; /* by the watchdog, until the loop has caught up */
    atomic_int running;
    _Atomic uint64_t zeroed, absent;
    pthread_t threads[THREADS_MAX];
    uint32_t thread_count;
} work = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool zero_setup(void)
{
    zeros = mmap(NULL, PIECE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return zeros != MAP_FAILED && finished_fd >= 0;
}

int zero_fd(void) { return finished_fd; }
bool zero_begun(void) { return work.job != NULL; }
bool zero_over(void) { return work.running == 0; }

/* ---- in the threads ---- */

static void work_fails(enum error_code code, const char *what, uint64_t address)
{
    pthread_mutex_lock(&work.lock);
    if (work.failure.code == 0)
        fail(&work.failure, code, "process %d at 0x%llx: %s", work.pid, (unsigned long long)address, what);
    pthread_mutex_unlock(&work.lock);
    work.stop = true;
}

/* The next piece; all but the first of a range begin at a multiple of its size. */
static bool next_piece(struct range *piece)
{
    bool found = false;
    pthread_mutex_lock(&work.lock);
    while (!found && work.range < work.job->count) {
        struct range range = work.job->ranges[work.range];
        if (work.done == range.bytes) {
            work.range++;
            work.done = 0;
            continue;
        }
        piece->address = range.address + work.done;
        piece->bytes = PIECE_BYTES - piece->address % PIECE_BYTES;
        if (piece->bytes > range.bytes - work.done)
            piece->bytes = range.bytes - work.done;
        work.done += piece->bytes;
        found = true;
    }
    pthread_mutex_unlock(&work.lock);
    return found;
}

static bool is_stopped(void)
{
    char text[1024];
    struct task_stat stat;
    ssize_t length = pread(work.witness, text, sizeof text - 1, 0);
    if (length <= 0)
        return false;
    text[length] = 0;
    return task_stat_parse(text, &stat) && task_state_stopped(stat.state);
}

/* The parts of the piece that have to be written, neighbours together. */
static int parts_to_write(struct range piece, struct iovec *parts, size_t *bytes)
{
    uint64_t entries[PIECE_PAGES], first = piece.address / PAGE_BYTES;
    uint64_t end = piece.address + piece.bytes, pages = (end + PAGE_BYTES - 1) / PAGE_BYTES - first;
    int count = 0;
    *bytes = 0;
    ssize_t want = (ssize_t)(pages * sizeof entries[0]);
    if (pread(work.pagemap, entries, (size_t)want, (off_t)(first * sizeof entries[0])) != want)
        return -1;
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t from = (first + i) * PAGE_BYTES, to = from + PAGE_BYTES;
        if (!(entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) || pagemap_is_zero_page(entries[i])) {
            work.absent++;
            continue;
        }
        work.zeroed++;
        from = from < piece.address ? piece.address : from;
        to = to > end ? end : to;
        *bytes += to - from;
        if (count > 0 && (uint64_t)(uintptr_t)parts[count - 1].iov_base + parts[count - 1].iov_len == from)
            parts[count - 1].iov_len += to - from;
        else
            parts[count++] = (struct iovec){(void *)(uintptr_t)from, to - from};
    }
    return count;
}

static void zero_piece(struct range piece)
{
    struct iovec parts[PIECE_PAGES / 2 + 1], local = {(void *)(uintptr_t)zeros, 0};
    if (!is_stopped()) {
        work_fails(FAILED, "it was continued by somebody else, or ended", piece.address);
        return;
    }
    int count = parts_to_write(piece, parts, &local.iov_len);
    if (count < 0) {
        work_fails(UNREADABLE, "no pagemap", piece.address);
        return;
    }
    if (count == 0 || work.stop)
        return;
    ssize_t written = process_vm_writev(work.pid, &local, 1, parts, (unsigned long)count, 0);
    if (written != (ssize_t)local.iov_len)
        work_fails(FAILED, written < 0 ? strerror(errno) : "not all of it can be written", piece.address);
}

static void tell_over(void)
{
    uint64_t one = 1;
    if (write(finished_fd, &one, sizeof one) < 0)
        say("eventfd: %m");
}

static void *zero_thread(void *unused)
{
    struct range piece;
    machine_thread_ordinary();
    while (!work.stop && !work.forbidden && next_piece(&piece))
        zero_piece(piece);
    if (work.forbidden)
        work_fails(CANCELLED, "stopped by the watchdog", 0);
    if (atomic_fetch_sub(&work.running, 1) == 1)
        tell_over();
    return unused;
}

/* ---- in the loop ---- */

static uint32_t thread_count(uint32_t asked)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t count = asked != 0 ? asked : (uint32_t)(cpus > 0 ? cpus : 1);
    return count > THREADS_MAX ? THREADS_MAX : count;
}

static bool open_files(const struct zero_job *job, struct failure *failure)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/pagemap", job->process.pid);
    work.pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (work.pagemap < 0)
        return fail(failure, FAILED, "%s: %m", path);
    work.witness = hold_witness(job->process);
    if (work.witness >= 0)
        return true;
    close(work.pagemap);
    return fail(failure, NOT_HELD, "process %d is not held", job->process.pid);
}

/*
 * Threads that cannot be made are counted out. If those that run have finished by then, or there are none,
 * nobody else tells that the job is over.
 */
static void start_threads(uint32_t wanted)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    work.running = (int)wanted;
    work.thread_count = 0;
    for (uint32_t i = 0; i < wanted; i++)
        if (pthread_create(&work.threads[work.thread_count], &attributes, zero_thread, NULL) == 0)
            work.thread_count++;
    pthread_attr_destroy(&attributes);
    if (work.thread_count == 0)
        work_fails(FAILED, "no thread could be made", 0);
    int missing = (int)(wanted - work.thread_count);
    if (missing > 0 && atomic_fetch_sub(&work.running, missing) == missing)
        tell_over();
}

bool zero_begin(const struct zero_job *job, struct failure *failure)
{
    if (!open_files(job, failure))
        return false;
    work.pid = job->process.pid;
    work.job = job;
    work.began_ns = now_ns();
    work.range = 0;
    work.done = 0;
    work.failure.code = 0;
    work.stop = false;
    work.zeroed = work.absent = 0;
    start_threads(thread_count(job->threads));
    return true;
}

static void wait_for_threads(void)
{
    int64_t end_ns = now_ns() + stuck_ns;
    while (work.running > 0) {
        struct timespec pause = {.tv_nsec = 100000};
        if (now_ns() > end_ns) {
            say("a scrub does not end: killing myself, so that what is held can be thawed");
            kill(getpid(), SIGKILL);
        }
        nanosleep(&pause, NULL);
    }
}

void zero_stop(void)
{
    work.stop = true;
    wait_for_threads();
}

/*
 * Sets its own word and then looks at `running`; start_threads sets `running` and then its threads look at
 * the word: so either they are waited for or they do nothing.
 */
void zero_forbid(void)
{
    work.forbidden = true;
    wait_for_threads();
}

void zero_allow(void) { work.forbidden = false; }

bool zero_end(struct zero_result *result, struct failure *failure)
{
    uint64_t unused;
    for (uint32_t i = 0; i < work.thread_count; i++)
        pthread_join(work.threads[i], NULL);
    if (read(finished_fd, &unused, sizeof unused) < 0 && errno != EAGAIN)
        say("eventfd: %m");
    close(work.pagemap);
    close(work.witness);
    work.job = NULL;
    *result = (struct zero_result){work.zeroed, work.absent, now_ns() - work.began_ns};
    *failure = work.failure;
    return failure->code == 0;
}
