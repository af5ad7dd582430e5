/* The table of requests: docs/protocols/agent.md. Everything that comes from the host is checked here first. */
#include "agent.h"

#include <string.h>
#include <unistd.h>

enum outcome { ANSWER, LATER, FAILURE };
typedef enum outcome request_fn(const struct frame *request, struct reply *reply, struct failure *failure);

/* More than any machine gives a process; so that sums of addresses and lengths cannot overflow anywhere. */
static const uint64_t address_max = 1ULL << 60;

static bool greeted; /* by the host that is there now */

static struct process_id get_process(const uint8_t *at)
{
    return (struct process_id){(pid_t)(get_u32(at) & 0x7fffffff), get_u64(at + 8)};
}

static enum outcome done(bool good) { return good ? ANSWER : FAILURE; }
static enum outcome later(bool good) { return good ? LATER : FAILURE; }

/* A list of `count` ranges that ends with the body; `width` is that of the length, 4 bytes (and 4 of 0) or 8. */
static bool get_ranges(const struct frame *request, uint32_t at, uint32_t count, int width, struct range *ranges,
                       struct failure *failure)
{
    if (request->body_bytes < at || count != (request->body_bytes - at) / 16 || (request->body_bytes - at) % 16 != 0)
        return fail(failure, BAD_REQUEST, "%u ranges in a body of %u bytes", count, request->body_bytes);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *from = request->body + at + i * 16;
        ranges[i] = (struct range){get_u64(from), width == 4 ? get_u32(from + 8) : get_u64(from + 8)};
        if (ranges[i].address > address_max || ranges[i].bytes > address_max)
            return fail(failure, BAD_REQUEST, "range %u lies beyond what a process can have", i);
    }
    return true;
}

static enum outcome hello(const struct frame *request, struct reply *reply, struct failure *failure)
{
    struct memory_figures figures;
    if (get_u32(request->body) != PROTOCOL_VERSION)
        return done(fail(failure, BAD_REQUEST, "this agent speaks version %d only", PROTOCOL_VERSION));
    /* A hang-up can be too short to be seen, and a migration has none at all: hello always begins anew. */
    session_end("another host said hello");
    greeted = true;
    machine_figures(&figures);
    reply_u32(reply, PROTOCOL_VERSION);
    reply_u32(reply, (memory_sees_frames ? 1 : 0) | (machine_real_time ? 2 : 0));
    reply_append(reply, request->body + 8, 8);
    reply_u32(reply, PAGE_BYTES);
    reply_u32(reply, (uint32_t)sysconf(_SC_NPROCESSORS_ONLN));
    reply_u32(reply, HOLD_MS_MAX);
    reply_u32(reply, (uint32_t)getpid());
    reply_u64(reply, figures.total_bytes);
    reply_u64(reply, figures.free_bytes);
    reply_u64(reply, figures.cache_bytes);
    return ANSWER;
}

static enum outcome processes(const struct frame *request, struct reply *reply, struct failure *failure)
{
    char library[128];
    if (request->body_bytes == 0 || request->body_bytes >= sizeof library)
        return done(fail(failure, BAD_REQUEST, "a name of %u bytes", request->body_bytes));
    memcpy(library, request->body, request->body_bytes);
    library[request->body_bytes] = 0;
    if (strlen(library) != request->body_bytes || strchr(library, '/') != NULL)
        return done(fail(failure, BAD_REQUEST, "not the base name of a library"));
    return done(process_list(library, reply, failure));
}

static enum outcome maps(const struct frame *request, struct reply *reply, struct failure *failure)
{
    struct process_id process = get_process(request->body);
    return done(process_check(process, failure) && maps_reply(process.pid, reply, failure));
}

static enum outcome read_memory(const struct frame *request, struct reply *reply, struct failure *failure)
{
    struct range ranges[RANGES_MAX];
    struct process_id process = get_process(request->body);
    uint32_t count = get_u32(request->body + 16);
    return done(get_ranges(request, 24, count, 4, ranges, failure) && process_check(process, failure) &&
                memory_read(process.pid, ranges, count, reply, failure));
}

static enum outcome frames(const struct frame *request, struct reply *reply, struct failure *failure)
{
    struct range ranges[RANGES_MAX];
    struct process_id process = get_process(request->body);
    uint32_t count = get_u32(request->body + 24);
    return done(get_ranges(request, 32, count, 8, ranges, failure) && process_check(process, failure) &&
                memory_frames(process.pid, get_u64(request->body + 16), ranges, count, reply, failure));
}

enum { WRITE_PUT_BACK = 1 };

static enum outcome write_memory(const struct frame *request, struct reply *reply, struct failure *failure)
{
    struct process_id process = get_process(request->body);
    uint64_t address = get_u64(request->body + 16);
    uint32_t bytes = get_u32(request->body + 24), flags = get_u32(request->body + 28);
    bool put_back = (flags & WRITE_PUT_BACK) != 0;
    (void)reply;
    if ((flags & ~(uint32_t)WRITE_PUT_BACK) != 0)
        return done(fail(failure, BAD_REQUEST, "flags 0x%x", flags));
    if (bytes == 0 || bytes != request->body_bytes - 32)
        return done(fail(failure, BAD_REQUEST, "%u bytes in a body of %u", bytes, request->body_bytes));
    if (!hold_check(process, failure) ||
        (put_back && !putback_remember(process, address, request->body + 32, bytes, failure)) ||
        !memory_write(process.pid, address, request->body + 32, bytes, failure))
        return FAILURE;
    if (!put_back)
        putback_overwritten(process, address, bytes);
    return ANSWER;
}

static enum outcome hold(const struct frame *request, struct reply *reply, struct failure *failure)
{
    const uint8_t *body = request->body;
    struct hold_request wanted = {
        .process = get_process(body),
        .active_address = get_u64(body + 16),
        .counter_address = get_u64(body + 24),
        .counter_value = get_u32(body + 32),
        .timeout_ms = get_u32(body + 36),
        .hold_ms = get_u32(body + 40),
        .poll_us = get_u32(body + 44),
    };
    (void)reply;
    return later(hold_start(request->id, &wanted, failure));
}

static enum outcome thaw(const struct frame *request, struct reply *reply, struct failure *failure)
{
    int64_t longest_ns;
    (void)failure;
    reply_u32(reply, hold_thaw(get_process(request->body), &longest_ns));
    reply_u32(reply, 0);
    reply_u64(reply, (uint64_t)longest_ns / 1000);
    return ANSWER;
}

static enum outcome extend(const struct frame *request, struct reply *reply, struct failure *failure)
{
    uint32_t hold_ms = get_u32(request->body);
    if (hold_ms == 0 || hold_ms > HOLD_MS_MAX)
        return done(fail(failure, BAD_REQUEST, "hold for %u ms: 1 to %d", hold_ms, HOLD_MS_MAX));
    reply_u32(reply, hold_extend(hold_ms));
    reply_u32(reply, 0);
    return ANSWER;
}

static enum outcome scrub(const struct frame *request, struct reply *reply, struct failure *failure)
{
    struct range ranges[RANGES_MAX];
    struct process_id process = get_process(request->body);
    uint32_t threads = get_u32(request->body + 16), count = get_u32(request->body + 20);
    (void)reply;
    return later(get_ranges(request, 24, count, 8, ranges, failure) && process_check(process, failure) &&
                 scrub_start(request->id, process, threads, ranges, count, failure));
}

static enum outcome drop_caches(const struct frame *request, struct reply *reply, struct failure *failure)
{
    (void)reply;
    if (get_u32(request->body) != 1)
        return done(fail(failure, BAD_REQUEST, "what to drop: 1, the page cache"));
    return later(machine_drop_caches(request->id, failure));
}

static enum outcome free_memory(const struct frame *request, struct reply *reply, struct failure *failure)
{
    (void)reply;
    return later(zerofree_start(request->id, get_u32(request->body), failure));
}

static enum outcome applications(const struct frame *request, struct reply *reply, struct failure *failure)
{
    (void)request, (void)failure;
    apps_list(reply);
    return ANSWER;
}

static enum outcome announce(const struct frame *request, struct reply *reply, struct failure *failure)
{
    uint32_t event = get_u32(request->body);
    if (event < EVENT_BEGIN || event > EVENT_ABORT)
        return done(fail(failure, BAD_REQUEST, "event %u", event));
    reply_u32(reply, apps_announce(event, get_u32(request->body + 4)));
    reply_u32(reply, 0);
    return ANSWER;
}

static enum outcome await_ready(const struct frame *request, struct reply *reply, struct failure *failure)
{
    (void)reply;
    return later(apps_await(request->id, get_u32(request->body), failure));
}

/* Answered whether or not there was something: the request may just have been answered itself. */
static enum outcome cancel(const struct frame *request, struct reply *reply, struct failure *failure)
{
    uint32_t id = get_u32(request->body);
    (void)reply, (void)failure;
    if (!hold_cancel(id) && !apps_cancel(id) && !zerofree_cancel(id))
        scrub_cancel(id);
    return ANSWER;
}

static enum outcome status(const struct frame *request, struct reply *reply, struct failure *failure)
{
    (void)request, (void)failure;
    reply_text(reply, "version %s\n", AGENT_VERSION);
    hold_status(reply);
    zerofree_status(reply);
    reply_text(reply, "applications %u\nto-put-back %u\nscrubbed-pages %llu\n", apps_count(), putback_count(),
               (unsigned long long)scrub_total_pages());
    return ANSWER;
}

enum { ANY = 1 }; /* at least that many bytes, instead of exactly */
static const struct {
    request_fn *run;
    uint32_t body_bytes;
    int how;
} requests[] = {
    [1] = {hello, 16, 0},       [2] = {processes, 1, ANY},     [3] = {maps, 16, 0},
    [4] = {read_memory, 24, ANY}, [5] = {frames, 32, ANY},     [6] = {write_memory, 32, ANY},
    [7] = {hold, 48, 0},        [8] = {thaw, 16, 0},           [9] = {extend, 8, 0},
    [10] = {scrub, 24, ANY},    [11] = {drop_caches, 8, 0},    [12] = {applications, 0, 0},
    [13] = {announce, 8, 0},    [14] = {await_ready, 8, 0},    [15] = {cancel, 8, 0},
    [16] = {status, 0, 0},      [17] = {free_memory, 8, 0},
};

static enum outcome run(const struct frame *request, struct reply *reply, struct failure *failure)
{
    uint8_t type = request->type;
    if (type >= sizeof requests / sizeof requests[0] || requests[type].run == NULL)
        return done(fail(failure, BAD_REQUEST, "no request of type %u", type));
    if (!greeted && type != 1)
        return done(fail(failure, BAD_REQUEST, "say hello first"));
    uint32_t want = requests[type].body_bytes;
    if (requests[type].how == ANY ? request->body_bytes < want : request->body_bytes != want)
        return done(fail(failure, BAD_REQUEST, "a body of %u bytes in a request of type %u", request->body_bytes, type));
    return requests[type].run(request, reply, failure);
}

void request_run(const struct frame *request)
{
    struct failure failure = {0};
    struct reply reply = reply_begin(request);
    switch (run(request, &reply, &failure)) {
    case ANSWER:
        reply_send(&reply);
        return;
    case FAILURE:
        reply_discard(&reply);
        reply_failure(request->id, &failure);
        return;
    case LATER:
        return;
    }
}

void session_end(const char *why)
{
    int64_t longest_ns;
    greeted = false;
    putback_want((struct process_id){0});
    uint32_t count = hold_thaw((struct process_id){0}, &longest_ns);
    if (count > 0)
        say("thawed %u: %s", count, why);
    apps_session_end();
    machine_session_end();
    zerofree_session_end();
    /* Of what was not held: it has to be stopped for a moment. All others run by now. */
    putback_run(PUTBACK_NS);
}
