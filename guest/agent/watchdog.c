/*
 * The second line behind hold.c's own deadlines: a thread that sleeps while nothing is frozen, and thaws
 * what is overdue when the loop does not. The loop can be stuck: reading the memory of a process whose
 * page comes from a file server that hangs waits in the kernel, and no timer helps.
 *
 * The third line is a timer of the kernel's: where neither does it, because the whole agent has been
 * stopped, it ends the agent, and the next one thaws.
 */
#include "agent.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = HOLDS_MAX + 1 };
/* The loop gets that much time to do it itself, with all that belongs to it. */
static const int64_t grace_ns = 250 * MS;
/* And this thread has what is left of that: godwit asks for 9 s, and promises that all is over after 12. */
static const int64_t last_grace_ns = 1000 * MS;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static timer_t last_resort;
static struct {
    int pidfd;
    int64_t deadline_ns;
} guarded[SLOTS];

static int64_t earliest(void)
{
    int64_t ns = NEVER;
    for (int i = 0; i < SLOTS; i++)
        if (guarded[i].deadline_ns < ns)
            ns = guarded[i].deadline_ns;
    return ns;
}

static struct timespec at(int64_t ns) { return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}; }

static void set_last_resort(void)
{
    int64_t ns = earliest();
    struct itimerspec when = {0};
    if (ns != NEVER)
        when.it_value = at(ns + last_grace_ns);
    timer_settime(last_resort, TIMER_ABSTIME, &when, NULL);
}

static void thaw_overdue(int64_t now)
{
    zero_forbid();
    for (int i = 0; i < SLOTS; i++)
        if (guarded[i].deadline_ns <= now - grace_ns) {
            syscall(SYS_pidfd_send_signal, guarded[i].pidfd, SIGCONT, NULL, 0);
            guarded[i].deadline_ns = NEVER;
            say("watchdog: thawed a process; the agent itself is stuck");
        }
    set_last_resort();
}

static void *watch(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        int64_t ns = earliest(), now = now_ns();
        if (ns == NEVER) {
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        ns += grace_ns;
        if (now >= ns) {
            thaw_overdue(now);
            continue;
        }
        struct timespec until = at(ns);
        pthread_cond_timedwait(&changed, &lock, &until);
    }
    return NULL;
}

bool watchdog_setup(void)
{
    pthread_t thread;
    pthread_condattr_t attributes;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    for (int i = 0; i < SLOTS; i++)
        guarded[i].deadline_ns = NEVER;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    return timer_create(CLOCK_MONOTONIC, &event, &last_resort) == 0 && pthread_create(&thread, NULL, watch, NULL) == 0;
}

void watchdog_set(int slot, int pidfd, int64_t deadline_ns)
{
    pthread_mutex_lock(&lock);
    guarded[slot].pidfd = pidfd;
    guarded[slot].deadline_ns = deadline_ns;
    set_last_resort();
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}
