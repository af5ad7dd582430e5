/* Waiting: see struct wait in agent.h. Also time, words for people, and failures. */
#include "agent.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("godwit-agent: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

bool fail(struct failure *failure, enum error_code code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    failure->code = code;
    vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    return false;
}

void wait_clear(struct wait *wait)
{
    wait->count = 0;
    wait->until_ns = NEVER;
}

void wait_fd(struct wait *wait, int fd, short events, handler_fn *run, void *context)
{
    int at = wait->count;
    if (fd < 0 || at == (int)(sizeof wait->fds / sizeof wait->fds[0]))
        return;
    wait->fds[at] = (struct pollfd){.fd = fd, .events = events};
    wait->handlers[at].run = run;
    wait->handlers[at].context = context;
    wait->count++;
}

void wait_until(struct wait *wait, int64_t ns)
{
    if (ns < wait->until_ns)
        wait->until_ns = ns;
}

void wait_run(struct wait *wait)
{
    struct timespec timeout, *limit = NULL;
    if (wait->until_ns != NEVER) {
        int64_t ns = wait->until_ns - now_ns();
        if (ns < 0)
            ns = 0;
        timeout = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
        limit = &timeout;
    }
    if (ppoll(wait->fds, (nfds_t)wait->count, limit, NULL) <= 0)
        return;
    for (int i = 0; i < wait->count; i++)
        if (wait->fds[i].revents != 0)
            wait->handlers[i].run(wait->handlers[i].context, wait->fds[i].fd, wait->fds[i].revents);
}
