/*
 * Holding processes: waiting for a moment, freezing, thawing.
 *
 *            ┌──────────────── active again: thawed ────────────────┐
 *            ▼                                                      │
 *   start ─ WAITING ─ counter moved, not active: SIGSTOP ─▶ STOPPING ─ every task stopped ─▶ HELD
 *            │                                                │                               │
 *            └─ time-out, cancel, thaw, hang-up ──────────────┴───────── SIGCONT ◀────────────┘
 *
 * A process that is, or may be, frozen is in the state file from before SIGSTOP until after SIGCONT. If the
 * agent dies in between, the next one thaws it. Each has a time by which it runs again, whatever happens.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { POLL_US_DEFAULT = 500, POLL_US_MIN = 50, POLL_US_MAX = 1000000, STOP_POLL_US_MIN = 200, STOP_POLL_US_MAX = 1000 };
/* While it is active the end is near: looked at as often as that takes a sixteenth of a CPU. */
enum { ACTIVE_POLL_US_MIN = 200, ACTIVE_POLL_COSTS = 16 };
enum hold_state { FREE, WAITING, STOPPING, HELD };

struct hold {
    enum hold_state state;
    struct hold_request request;
    uint32_t id; /* of the request that waits for an answer */
    int pidfd;
    uint32_t retries, counter_now;
    bool expected;    /* active: about to be frozen, and recorded already */
    int64_t moved_ns; /* the counter was first seen to differ; 0: not yet */
    int64_t gc_ns;    /* from then until it was first seen not active; -1: not yet */
    struct tasks tasks;
    int64_t began_ns; /* the request came */
    int64_t next_ns;  /* to be looked at again */
    uint32_t stop_poll_us;
    int64_t stop_ns;  /* SIGSTOP was sent */
    int64_t held_ns;
    int64_t thaw_ns;  /* to be thawed at the latest */
};
static struct hold holds[HOLDS_MAX];
static uint64_t total_holds, total_retries;
static int64_t longest_ns;

static bool same(struct process_id a, struct process_id b) { return a.pid == b.pid && a.start_ticks == b.start_ticks; }

static bool is_recorded(const struct hold *hold) { return hold->state >= STOPPING || hold->expected; }

int hold_frozen(struct process_id list[HOLDS_MAX])
{
    int count = 0;
    for (int i = 0; i < HOLDS_MAX; i++)
        if (is_recorded(&holds[i]))
            list[count++] = holds[i].request.process;
    return count;
}

static void send_signal(const struct hold *hold, int signal)
{
    syscall(SYS_pidfd_send_signal, hold->pidfd, signal, NULL, 0);
}

static void release(struct hold *hold)
{
    watchdog_set((int)(hold - holds), -1, NEVER);
    close(hold->pidfd);
    bool recorded = is_recorded(hold);
    hold->state = FREE;
    hold->expected = false;
    if (recorded)
        record_update();
}

/* Runs again. A scrub that reads or writes there is over when this returns. */
static int64_t thaw(struct hold *hold, const char *why)
{
    int64_t held_ns = 0;
    if (hold->state >= STOPPING) {
        scrub_stop(hold->request.process, why);
        if (hold->state == HELD)
            putback_stopped(hold->request.process, hold->tasks.witness);
        send_signal(hold, SIGCONT);
        if (hold->state == HELD)
            held_ns = now_ns() - hold->held_ns;
        if (held_ns > longest_ns)
            longest_ns = held_ns;
    }
    release(hold);
    return held_ns;
}

static void give_up(struct hold *hold, enum error_code code, const char *why)
{
    struct failure failure;
    fail(&failure, code, "process %d: %s", hold->request.process.pid, why);
    uint32_t id = hold->id;
    thaw(hold, why);
    reply_failure(id, &failure);
}

/* ---- waiting and stopping ---- */

static bool is_active(const struct hold *hold, bool *active)
{
    uint8_t byte = 0;
    if (hold->request.active_address != 0 &&
        !memory_peek(hold->request.process.pid, hold->request.active_address, &byte, sizeof byte))
        return false;
    *active = byte != 0;
    return true;
}

static void unreadable(struct hold *hold)
{
    int error = errno;
    give_up(hold, error == ESRCH ? GONE : UNREADABLE, error == ESRCH ? "gone" : "the words cannot be read");
}

static void stop(struct hold *hold, int64_t now)
{
    hold->state = STOPPING;
    hold->tasks = (struct tasks){0};
    hold->stop_ns = now;
    hold->stop_poll_us = STOP_POLL_US_MIN;
    hold->next_ns = now + hold->stop_poll_us * 1000LL;
    hold->thaw_ns = now + hold->request.hold_ms * MS;
    if (!hold->expected)
        record_update();
    watchdog_set((int)(hold - holds), hold->pidfd, hold->thaw_ns);
    send_signal(hold, SIGSTOP);
}

/* The stop comes as soon as it is not active any more: what can be done before that is done now. */
static void expect(struct hold *hold, int64_t now, int64_t cost_ns)
{
    int64_t poll_ns = hold->request.poll_us * 1000LL, soon_ns = cost_ns * ACTIVE_POLL_COSTS;
    if (soon_ns < ACTIVE_POLL_US_MIN * 1000LL)
        soon_ns = ACTIVE_POLL_US_MIN * 1000LL;
    hold->next_ns = now + (soon_ns < poll_ns ? soon_ns : poll_ns);
    if (hold->expected)
        return;
    hold->expected = true;
    record_update();
}

static void look_waiting(struct hold *hold, int64_t now)
{
    bool active, moved = true;
    int64_t began_ns = now_ns();
    hold->next_ns = now + hold->request.poll_us * 1000LL;
    if (hold->request.counter_address != 0) {
        if (!memory_peek(hold->request.process.pid, hold->request.counter_address, &hold->counter_now, 4)) {
            unreadable(hold);
            return;
        }
        moved = hold->counter_now != hold->request.counter_value;
    }
    if (!is_active(hold, &active)) {
        unreadable(hold);
        return;
    }
    if (!moved)
        return;
    int64_t seen_ns = now_ns();
    if (hold->moved_ns == 0)
        hold->moved_ns = seen_ns;
    if (active) {
        expect(hold, seen_ns, seen_ns - began_ns);
        return;
    }
    if (hold->gc_ns < 0)
        hold->gc_ns = seen_ns - hold->moved_ns;
    stop(hold, seen_ns);
}

static uint32_t gc_us(const struct hold *hold)
{
    int64_t us = hold->request.counter_address == 0 ? 0 : hold->gc_ns / 1000;
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static void held(struct hold *hold, int64_t now)
{
    hold->state = HELD;
    hold->held_ns = now;
    hold->thaw_ns = now + hold->request.hold_ms * MS;
    watchdog_set((int)(hold - holds), hold->pidfd, hold->thaw_ns);
    total_holds++;
    struct reply reply = reply_begin_for(7, hold->id);
    reply_u32(&reply, hold->counter_now);
    reply_u32(&reply, hold->tasks.count);
    reply_u64(&reply, (uint64_t)(hold->stop_ns - hold->began_ns) / 1000);
    reply_u64(&reply, (uint64_t)(now - hold->stop_ns) / 1000);
    reply_u32(&reply, hold->retries);
    reply_u32(&reply, gc_us(hold));
    reply_send(&reply);
}

/* It became active between the look and the stop: that moment was missed, so wait for the next one. */
static void try_again(struct hold *hold, int64_t now)
{
    send_signal(hold, SIGCONT);
    watchdog_set((int)(hold - holds), -1, NEVER);
    hold->state = WAITING;
    hold->expected = true; /* it is active: it stays recorded */
    hold->next_ns = now + hold->request.poll_us * 1000LL;
    hold->retries++;
    total_retries++;
}

static void look_stopping(struct hold *hold, int64_t now)
{
    bool active;
    /* Less and less often: looking takes the CPU that the tasks need to come to their stop. */
    hold->stop_poll_us = hold->stop_poll_us * 2 < STOP_POLL_US_MAX ? hold->stop_poll_us * 2 : STOP_POLL_US_MAX;
    switch (tasks_look(hold->request.process.pid, &hold->tasks)) {
    case TASKS_GONE:
        give_up(hold, GONE, "gone");
        return;
    case TASKS_RUN:
        hold->next_ns = now_ns() + hold->stop_poll_us * 1000LL;
        return;
    case TASKS_STOPPED:
        break;
    }
    if (hold->request.counter_address != 0 &&
        !memory_peek(hold->request.process.pid, hold->request.counter_address, &hold->counter_now, 4))
        unreadable(hold);
    else if (!is_active(hold, &active))
        unreadable(hold);
    else if (active)
        try_again(hold, now);
    else
        held(hold, now_ns());
}

static void look(struct hold *hold, int64_t now)
{
    int64_t end_ns = hold->began_ns + hold->request.timeout_ms * MS;
    if (hold->state == HELD) {
        if (now >= hold->thaw_ns) {
            say("thawed process %d: its time was up", hold->request.process.pid);
            putback_want(hold->request.process);
            thaw(hold, "the time of the hold was up");
        }
        return;
    }
    if (now >= hold->next_ns) {
        if (hold->state == WAITING)
            look_waiting(hold, now);
        else
            look_stopping(hold, now);
    }
    bool waits = hold->state == WAITING || hold->state == STOPPING;
    if (waits && (now >= end_ns || (hold->state == STOPPING && now >= hold->thaw_ns)))
        give_up(hold, TIMED_OUT, hold->state == WAITING ? "its moment did not come" : "not all of its tasks stopped");
}

void hold_tick(int64_t now)
{
    for (int i = 0; i < HOLDS_MAX; i++)
        if (holds[i].state != FREE)
            look(&holds[i], now);
    zero_allow();
}

static void ended(void *context, int fd, short events)
{
    struct hold *hold = context;
    (void)events;
    if (hold->state == FREE || hold->pidfd != fd)
        return;
    if (hold->state == HELD)
        thaw(hold, "the process ended");
    else
        give_up(hold, GONE, "gone");
}

void hold_prepare(struct wait *wait)
{
    for (int i = 0; i < HOLDS_MAX; i++) {
        struct hold *hold = &holds[i];
        if (hold->state == FREE)
            continue;
        wait_fd(wait, hold->pidfd, POLLIN, ended, hold);
        if (hold->state == HELD) {
            wait_until(wait, hold->thaw_ns);
            continue;
        }
        wait_until(wait, hold->next_ns);
        wait_until(wait, hold->began_ns + hold->request.timeout_ms * MS);
    }
}

/* ---- requests ---- */

static struct hold *find(struct process_id process)
{
    for (int i = 0; i < HOLDS_MAX; i++)
        if (holds[i].state != FREE && same(holds[i].request.process, process))
            return &holds[i];
    return NULL;
}

bool hold_exists(struct process_id process) { return find(process) != NULL; }

static bool check_request(const struct hold_request *request, struct failure *failure)
{
    struct tasks tasks = {0};
    pid_t pid = request->process.pid;
    if (request->hold_ms == 0 || request->hold_ms > HOLD_MS_MAX)
        return fail(failure, BAD_REQUEST, "hold for %u ms: 1 to %d", request->hold_ms, HOLD_MS_MAX);
    if (request->timeout_ms == 0)
        return fail(failure, BAD_REQUEST, "a time-out of 0 ms");
    if (!process_check_stoppable(request->process, failure))
        return false;
    if (find(request->process) != NULL)
        return fail(failure, BUSY, "process %d is held, or waited for, already", pid);
    if (tasks_look(pid, &tasks) == TASKS_STOPPED || task_is_stopped(pid, pid))
        return fail(failure, FAILED, "process %d is already stopped", pid);
    return true;
}

bool hold_start(uint32_t id, const struct hold_request *request, struct failure *failure)
{
    struct hold *hold = NULL;
    if (!check_request(request, failure))
        return false;
    for (int i = HOLDS_MAX - 1; i >= 0; i--)
        if (holds[i].state == FREE)
            hold = &holds[i];
    if (hold == NULL)
        return fail(failure, BUSY, "%d processes are held or waited for already", HOLDS_MAX);
    int pidfd = (int)syscall(SYS_pidfd_open, request->process.pid, 0);
    if (pidfd < 0)
        return fail(failure, errno == ESRCH ? GONE : FAILED, "process %d: pidfd_open: %m", request->process.pid);
    /* The descriptor means one process for ever; that it is the right one is known only now. */
    if (!process_check(request->process, failure)) {
        close(pidfd);
        return false;
    }
    int64_t now = now_ns();
    *hold = (struct hold){
        .state = WAITING, .request = *request, .id = id, .pidfd = pidfd, .gc_ns = -1, .began_ns = now, .next_ns = now};
    uint32_t poll_us = request->poll_us == 0 ? POLL_US_DEFAULT : request->poll_us;
    hold->request.poll_us = poll_us < POLL_US_MIN ? POLL_US_MIN : poll_us > POLL_US_MAX ? POLL_US_MAX : poll_us;
    look(hold, now);
    return true;
}

bool hold_cancel(uint32_t id)
{
    for (int i = 0; i < HOLDS_MAX; i++)
        if ((holds[i].state == WAITING || holds[i].state == STOPPING) && holds[i].id == id) {
            give_up(&holds[i], CANCELLED, "cancelled");
            return true;
        }
    return false;
}

uint32_t hold_thaw(struct process_id process, int64_t *longest)
{
    uint32_t count = 0;
    *longest = 0;
    /* All at once: first nothing is written any more, then they run again, without a wait in between. */
    scrub_stop(process, "thawed");
    for (int i = 0; i < HOLDS_MAX; i++) {
        struct hold *hold = &holds[i];
        if (hold->state == FREE || (process.pid != 0 && !same(hold->request.process, process)))
            continue;
        if (hold->state != HELD) {
            give_up(hold, CANCELLED, "thawed before it was held");
            continue;
        }
        int64_t held_ns = thaw(hold, "thawed");
        if (held_ns > *longest)
            *longest = held_ns;
        count++;
    }
    return count;
}

uint32_t hold_extend(uint32_t hold_ms)
{
    uint32_t count = 0;
    for (int i = 0; i < HOLDS_MAX; i++)
        if (holds[i].state == HELD) {
            holds[i].thaw_ns = now_ns() + hold_ms * MS;
            watchdog_set(i, holds[i].pidfd, holds[i].thaw_ns);
            count++;
        }
    return count;
}

bool hold_check(struct process_id process, struct failure *failure)
{
    struct hold *hold = find(process);
    if (hold == NULL || hold->state != HELD)
        return fail(failure, NOT_HELD, "process %d is not held", process.pid);
    if (!task_is_stopped(process.pid, hold->tasks.witness))
        return fail(failure, FAILED, "process %d was continued by somebody else", process.pid);
    return true;
}

int hold_witness(struct process_id process)
{
    char path[64];
    struct hold *hold = find(process);
    if (hold == NULL || hold->state != HELD)
        return -1;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process.pid, hold->tasks.witness);
    return open(path, O_RDONLY | O_CLOEXEC);
}

void hold_status(struct reply *reply)
{
    static const char *const names[] = {[WAITING] = "waiting", [STOPPING] = "stopping", [HELD] = "held"};
    int64_t now = now_ns();
    for (int i = 0; i < HOLDS_MAX; i++)
        if (holds[i].state != FREE)
            reply_text(reply, "%s %d %lld\n", names[holds[i].state], holds[i].request.process.pid,
                       (long long)((now - (holds[i].state == HELD ? holds[i].held_ns : holds[i].began_ns)) / MS));
    reply_text(reply, "holds %llu\nretries %llu\nlongest-hold-us %lld\n", (unsigned long long)total_holds,
               (unsigned long long)total_retries, (long long)longest_ns / 1000);
}
