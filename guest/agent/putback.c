/*
 * Writes that are taken back: what a host has changed for a while (a flag of a virtual machine, say) and can
 * no longer put back itself when it has gone. Each is in the record (record.c) from before it is made, so
 * that the next agent does it if this one is killed.
 *
 * An entry lasts until the host writes there without asking for this, the process ends, or it is put back.
 * It is *due* when the host has gone, or the time of a hold of the process was up. Then it is done while
 * the process stands still: in the thaw of its hold, or else in a stop of its own. Only if what was written
 * is still there: otherwise somebody else has changed it since, and it is theirs.
 */
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_US = 200 };
/* A task that waits in the kernel does not stop; then another time. */
static const int64_t retry_ns = 1000 * MS, retry_budget_ns = 50 * MS;

struct entry {
    bool used, due;
    struct process_id process;
    int pidfd;
    uint64_t address;
    uint32_t count;
    uint8_t old[PUTBACK_BYTES_MAX], written[PUTBACK_BYTES_MAX];
};
static struct entry entries[PUTBACKS_MAX];
static struct process_id frozen; /* stopped here, for a moment; pid 0: none */
static int64_t next_try_ns;

static bool belongs(const struct entry *entry, struct process_id process)
{
    return entry->used && entry->process.pid == process.pid && entry->process.start_ticks == process.start_ticks;
}

static bool overlaps(const struct entry *entry, uint64_t address, uint32_t count)
{
    return address < entry->address + entry->count && entry->address < address + count;
}

static void drop(struct entry *entry)
{
    close(entry->pidfd);
    entry->used = false;
}

static bool add(struct process_id process, uint64_t address, uint32_t count, const uint8_t *old,
                const uint8_t *written, struct failure *failure)
{
    struct entry *entry = entries;
    while (entry < entries + PUTBACKS_MAX && entry->used)
        entry++;
    if (entry == entries + PUTBACKS_MAX)
        return fail(failure, BUSY, "%d writes are to be put back already", PUTBACKS_MAX);
    int pidfd = (int)syscall(SYS_pidfd_open, process.pid, 0);
    if (pidfd < 0)
        return fail(failure, errno == ESRCH ? GONE : FAILED, "process %d: pidfd_open: %m", process.pid);
    if (!process_check(process, failure)) {
        close(pidfd);
        return false;
    }
    *entry = (struct entry){.used = true, .process = process, .pidfd = pidfd, .address = address, .count = count};
    memcpy(entry->old, old, count);
    memcpy(entry->written, written, count);
    return true;
}

/* Written once more: what was there first is what is put back, unless somebody else has changed it in between. */
static bool add_again(struct entry *entry, const uint8_t *now, const uint8_t *written)
{
    if (memcmp(now, entry->written, entry->count) != 0)
        memcpy(entry->old, now, entry->count);
    memcpy(entry->written, written, entry->count);
    entry->due = false;
    return true;
}

bool putback_remember(struct process_id process, uint64_t address, const uint8_t *bytes, uint32_t count,
                      struct failure *failure)
{
    struct range range = {address, count};
    uint8_t now[PUTBACK_BYTES_MAX];
    bool again = false;
    if (count > PUTBACK_BYTES_MAX)
        return fail(failure, BAD_REQUEST, "%u bytes to be put back, at most %d", count, PUTBACK_BYTES_MAX);
    if (!maps_cover(process.pid, &range, 1, PRIVATE_WRITABLE, failure))
        return false;
    if (!memory_peek(process.pid, address, now, count))
        return fail(failure, UNREADABLE, "%u bytes at 0x%llx: %m", count, (unsigned long long)address);
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++)
        if (belongs(entry, process) && entry->address == address && entry->count == count)
            again = add_again(entry, now, bytes);
        else if (belongs(entry, process) && overlaps(entry, address, count))
            return fail(failure, BAD_REQUEST, "0x%llx: %u other bytes there are to be put back",
                        (unsigned long long)address, entry->count);
    if (!again && !add(process, address, count, now, bytes, failure))
        return false;
    record_update();
    return true;
}

void putback_overwritten(struct process_id process, uint64_t address, uint32_t count)
{
    bool changed = false;
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++)
        if (belongs(entry, process) && overlaps(entry, address, count)) {
            drop(entry);
            changed = true;
        }
    if (changed)
        record_update();
}

void putback_want(struct process_id process)
{
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++)
        if (entry->used && (process.pid == 0 || belongs(entry, process)))
            entry->due = true;
    next_try_ns = 0;
}

/* ---- putting back ---- */

static void put_back(struct entry *entry)
{
    uint8_t now[PUTBACK_BYTES_MAX];
    struct failure failure;
    pid_t pid = entry->process.pid;
    unsigned long long address = entry->address;
    if (!memory_peek(pid, entry->address, now, entry->count))
        say("process %d at 0x%llx: cannot be put back: %m", pid, address);
    else if (memcmp(now, entry->written, entry->count) != 0)
        say("process %d at 0x%llx: not put back: changed since by somebody else", pid, address);
    else if (!memory_write(pid, entry->address, entry->old, entry->count, &failure))
        say("process %d at 0x%llx: cannot be put back: %s", pid, address, failure.text);
    else
        say("process %d at 0x%llx: put %u bytes back", pid, address, entry->count);
    drop(entry);
}

void putback_stopped(struct process_id process, pid_t witness)
{
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++)
        if (belongs(entry, process) && entry->due && task_is_stopped(process.pid, witness))
            put_back(entry);
}

static bool wait_stopped(pid_t pid, struct tasks *tasks, int64_t end_ns)
{
    *tasks = (struct tasks){0};
    for (;;) {
        struct timespec pause = {.tv_nsec = LOOK_US * 1000};
        enum tasks_state state = tasks_look(pid, tasks);
        if (state != TASKS_RUN || now_ns() >= end_ns)
            return state == TASKS_STOPPED;
        nanosleep(&pause, NULL);
    }
}

/* Recorded and guarded like any hold. `entry` may be gone afterwards, so its descriptor is another one here. */
static void stop_and_put_back(const struct entry *entry, int64_t end_ns)
{
    struct tasks tasks;
    int pidfd = dup(entry->pidfd);
    frozen = entry->process;
    record_update();
    watchdog_set(HOLDS_MAX, pidfd, end_ns);
    if (pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, SIGSTOP, NULL, 0) == 0) {
        if (wait_stopped(frozen.pid, &tasks, end_ns))
            putback_stopped(frozen, tasks.witness);
        syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, NULL, 0);
    }
    watchdog_set(HOLDS_MAX, -1, NEVER);
    frozen.pid = 0;
    if (pidfd >= 0)
        close(pidfd);
    record_update();
}

static void put_back_process(struct entry *entry, int64_t end_ns)
{
    struct tasks tasks = {0};
    struct failure failure;
    struct process_id process = entry->process;
    if (!process_check_stoppable(process, &failure)) {
        if (failure.code == GONE) {
            drop(entry);
            record_update();
        }
        return;
    }
    if (tasks_look(process.pid, &tasks) != TASKS_STOPPED) {
        stop_and_put_back(entry, end_ns);
        return;
    }
    /* Stopped by somebody else, who will continue it. */
    putback_stopped(process, tasks.witness);
    record_update();
}

void putback_run(int64_t budget_ns)
{
    int64_t end_ns = now_ns() + budget_ns;
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++)
        if (entry->used && entry->due && !hold_exists(entry->process) && now_ns() < end_ns)
            put_back_process(entry, end_ns);
    next_try_ns = now_ns() + retry_ns;
}

/* ---- the loop ---- */

static void ended(void *context, int fd, short events)
{
    struct entry *entry = context;
    (void)events;
    if (!entry->used || entry->pidfd != fd)
        return;
    drop(entry);
    record_update();
}

void putback_prepare(struct wait *wait)
{
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++) {
        if (!entry->used)
            continue;
        wait_fd(wait, entry->pidfd, POLLIN, ended, entry);
        if (entry->due)
            wait_until(wait, next_try_ns);
    }
}

void putback_tick(int64_t now)
{
    bool due = false;
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++)
        due = due || (entry->used && entry->due);
    if (due && now >= next_try_ns)
        putback_run(retry_budget_ns);
}

/* ---- the record ---- */

static void print_bytes(FILE *file, const uint8_t *bytes, uint32_t count)
{
    fputc(' ', file);
    for (uint32_t i = 0; i < count; i++)
        fprintf(file, "%02x", bytes[i]);
}

bool putback_frozen(struct process_id *process)
{
    *process = frozen;
    return frozen.pid != 0;
}

uint32_t putback_count(void)
{
    uint32_t count = 0;
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++)
        count += entry->used;
    return count;
}

void putback_save(FILE *file)
{
    for (struct entry *entry = entries; entry < entries + PUTBACKS_MAX; entry++) {
        if (!entry->used)
            continue;
        fprintf(file, "write %d %llu 0x%llx", entry->process.pid, (unsigned long long)entry->process.start_ticks,
                (unsigned long long)entry->address);
        print_bytes(file, entry->old, entry->count);
        print_bytes(file, entry->written, entry->count);
        fputc('\n', file);
    }
}

static uint32_t parse_bytes(const char *text, uint8_t *bytes)
{
    uint32_t count = 0;
    unsigned byte;
    for (; count < PUTBACK_BYTES_MAX && sscanf(text + 2 * count, "%2x", &byte) == 1; count++)
        bytes[count] = (uint8_t)byte;
    return count;
}

/* A line of putback_save, of an agent before this one. */
void putback_adopt(const char *line)
{
    int pid;
    unsigned long long start, address;
    char old_text[2 * PUTBACK_BYTES_MAX + 1], written_text[sizeof old_text];
    uint8_t old[PUTBACK_BYTES_MAX], written[PUTBACK_BYTES_MAX];
    struct failure failure;
    if (sscanf(line, "write %d %llu %llx %32s %32s", &pid, &start, &address, old_text, written_text) != 5 || pid <= 1)
        return;
    uint32_t count = parse_bytes(old_text, old);
    struct process_id process = {pid, start};
    if (count > 0 && count == parse_bytes(written_text, written) &&
        add(process, address, count, old, written, &failure))
        putback_want(process);
}
