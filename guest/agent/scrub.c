/* Requests to scrub: checked, queued, answered. What zeroes is zero.c. */
#include "agent.h"

#include <stdlib.h>
#include <string.h>

enum { JOBS_MAX = 16 };

struct job {
    struct job *next;
    uint32_t id;
    struct zero_job zero;
};
static struct job *jobs; /* the first one runs */
static uint32_t job_count;
static uint64_t total_pages;

uint64_t scrub_total_pages(void) { return total_pages; }

static void remove_job(struct job **link)
{
    struct job *job = *link;
    *link = job->next;
    job_count--;
    free(job);
}

static bool check(const struct zero_job *zero, struct failure *failure)
{
    return hold_check(zero->process, failure) &&
           maps_cover(zero->process.pid, zero->ranges, zero->count, PRIVATE_ANONYMOUS_WRITABLE, failure);
}

/* Starts the first job; those that cannot be started are answered at once. Checked again: it may have waited. */
static void begin_next(void)
{
    struct failure failure;
    while (jobs != NULL && !zero_begun() && !(check(&jobs->zero, &failure) && zero_begin(&jobs->zero, &failure))) {
        reply_failure(jobs->id, &failure);
        remove_job(&jobs);
    }
}

static void finished(void *context, int fd, short events)
{
    struct failure failure;
    struct zero_result result;
    (void)context, (void)fd, (void)events;
    if (!zero_begun() || !zero_over())
        return;
    uint32_t id = jobs->id;
    bool good = zero_end(&result, &failure);
    remove_job(&jobs);
    total_pages += result.zeroed_pages;
    if (!good)
        reply_failure(id, &failure);
    else {
        struct reply reply = reply_begin_for(10, id);
        reply_u64(&reply, result.zeroed_pages);
        reply_u64(&reply, result.absent_pages);
        reply_u64(&reply, (uint64_t)result.ns / 1000);
        reply_u64(&reply, 0);
        reply_send(&reply);
    }
    begin_next();
}

void scrub_prepare(struct wait *wait) { wait_fd(wait, zero_fd(), POLLIN, finished, NULL); }

bool scrub_start(uint32_t id, struct process_id process, uint32_t threads, const struct range *ranges, uint32_t count,
                 struct failure *failure)
{
    if (count == 0 || count > RANGES_MAX)
        return fail(failure, BAD_REQUEST, "%u ranges, 1 to %d", count, RANGES_MAX);
    if (job_count == JOBS_MAX)
        return fail(failure, BUSY, "%d scrubs are waiting already", JOBS_MAX);
    struct job *job = malloc(sizeof *job), **end = &jobs;
    if (job == NULL)
        return fail(failure, FAILED, "no memory");
    *job = (struct job){.id = id, .zero = {.process = process, .threads = threads, .count = count}};
    memcpy(job->zero.ranges, ranges, count * sizeof *ranges);
    if (!check(&job->zero, failure)) {
        free(job);
        return false;
    }
    while (*end != NULL)
        end = &(*end)->next;
    *end = job;
    job_count++;
    begin_next();
    return true;
}

static void end_job(struct job **link, const char *why)
{
    struct failure failure;
    struct zero_result result;
    uint32_t id = (*link)->id;
    if (*link == jobs && zero_begun()) {
        zero_stop();
        zero_end(&result, &failure);
        total_pages += result.zeroed_pages;
    }
    remove_job(link);
    fail(&failure, CANCELLED, "%s", why);
    reply_failure(id, &failure);
}

void scrub_stop(struct process_id process, const char *why)
{
    for (struct job **link = &jobs; *link != NULL;)
        if (process.pid == 0 || (*link)->zero.process.pid == process.pid)
            end_job(link, why);
        else
            link = &(*link)->next;
    begin_next();
}

bool scrub_cancel(uint32_t id)
{
    for (struct job **link = &jobs; *link != NULL; link = &(*link)->next)
        if ((*link)->id == id) {
            end_job(link, "cancelled");
            begin_next();
            return true;
        }
    return false;
}
