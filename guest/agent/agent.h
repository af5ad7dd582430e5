/*
 * godwit's guest agent: mechanism only, on behalf of the host. What the parts of it share.
 *
 *   main.c      options, the loop, signals
 *   loop.c      waiting for descriptors and for times
 *   port.c      the port to the host: opening, hang-up, frames in, replies out
 *   reply.c     building a reply of any length
 *   requests.c  the table of requests
 *   process.c   what /proc says about processes
 *   tasks.c     what it says about their threads
 *   maps.c      what /proc says about their mappings
 *   memory.c    reading, writing, frames
 *   hold.c      waiting for a moment, freezing, thawing
 *   putback.c   writes that are taken back when the host is gone
 *   record.c    the file that tells an agent's successor what is frozen and what is to be put back
 *   watchdog.c  thaws when the loop itself is stuck, and ends an agent that was stopped
 *   scrub.c     requests to zero memory of a held process
 *   zero.c      zeroing it, with threads
 *   areas.c     a set of address ranges
 *   apps.c      applications: connections, and what they are told
 *   lines.c     what applications say
 *   zerofree.c  having free memory zeroed, by a child process
 *   machine.c   the guest as a whole: memory figures, page cache, priority
 *
 * One thread does everything but scrubbing, dropping caches, zeroing free memory, and the watchdog. Nothing in it waits for
 * anybody: descriptors do not block, and what has to be waited for is looked at again by a timer.
 */
#ifndef GODWIT_AGENT_H
#define GODWIT_AGENT_H

#include "frame.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define AGENT_VERSION "0.1.0"
enum {
    PROTOCOL_VERSION = 1,
    PAGE_BYTES = 4096,
    HOLD_MS_MAX = 30000,
    HOLDS_MAX = 32,
    PUTBACKS_MAX = 64,
    PUTBACK_BYTES_MAX = 16,
    APPS_MAX = 64,
    WAITS_MAX = 16 + APPS_MAX + HOLDS_MAX + PUTBACKS_MAX,
    RANGES_MAX = (REQUEST_BODY_MAX - 24) / 16,
};
#define MS 1000000LL /* nanoseconds; all times are of CLOCK_MONOTONIC, which stands still with the VM */
#define NEVER INT64_MAX

/* ---- errors: a function that can fail returns false and says why ---- */

enum error_code {
    BAD_REQUEST = 1,
    GONE = 2,
    DENIED = 3,
    NOT_HELD = 4,
    TIMED_OUT = 5,
    CANCELLED = 6,
    FAILED = 7,
    BUSY = 8,
    UNREADABLE = 9,
};
struct failure {
    enum error_code code;
    char text[160];
};
__attribute__((format(printf, 3, 4))) bool fail(struct failure *failure, enum error_code code, const char *format, ...);
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
int64_t now_ns(void);

/* ---- loop.c ---- */

typedef void handler_fn(void *context, int fd, short events);
/* What to wait for: filled anew before every wait by each part's ..._prepare. */
struct wait {
    int count;
    int64_t until_ns;
    struct pollfd fds[WAITS_MAX];
    struct {
        handler_fn *run;
        void *context;
    } handlers[WAITS_MAX];
};
void wait_clear(struct wait *wait);
void wait_fd(struct wait *wait, int fd, short events, handler_fn *run, void *context);
void wait_until(struct wait *wait, int64_t ns);
void wait_run(struct wait *wait);

/* ---- reply.c ---- */

struct piece {
    struct piece *next;
    size_t capacity, bytes; /* of the body */
    size_t sent;            /* of header and body */
    uint8_t frame[];
};
/* Frames of one reply, in order. Belongs to whoever built it until reply_send or reply_discard. */
struct reply {
    uint8_t type;
    uint32_t id;
    struct piece *first, *last;
    bool failed; /* out of memory */
};
struct reply reply_begin(const struct frame *request);
struct reply reply_begin_for(uint8_t type, uint32_t id);
uint8_t *reply_space(struct reply *reply, size_t want, size_t *got); /* then reply_added; NULL: out of memory */
void reply_added(struct reply *reply, size_t count);
void reply_append(struct reply *reply, const void *bytes, size_t count);
void reply_u32(struct reply *reply, uint32_t value);
void reply_u64(struct reply *reply, uint64_t value);
__attribute__((format(printf, 2, 3))) void reply_text(struct reply *reply, const char *format, ...);
void reply_discard(struct reply *reply);
void reply_send(struct reply *reply);
void reply_failure(uint32_t id, const struct failure *failure);

/* ---- port.c ---- */

struct port_options {
    const char *port_path;   /* device, or a unix socket that somebody listens on */
    const char *listen_path; /* unix socket to listen on instead; NULL: none */
};
bool port_setup(const struct port_options *options);
void port_prepare(struct wait *wait);
void port_tick(int64_t now);
void port_queue(struct piece *first);

/* ---- requests.c ---- */

void request_run(const struct frame *request);
/* The host went away, or another one came: undoes whatever the session left behind. */
void session_end(const char *why);

/* ---- process.c ---- */

/* A process, not just a number that may be given to another one later. */
struct process_id {
    pid_t pid;
    uint64_t start_ticks;
};
struct task_stat {
    char state;
    bool kernel;
    uint32_t threads;
    uint64_t start_ticks;
};
bool task_stat_read(const char *path, struct task_stat *stat);
bool task_stat_parse(const char *text, struct task_stat *stat);
bool process_stat(pid_t pid, struct task_stat *stat);
bool process_start(pid_t pid, uint64_t *start_ticks);
/* The process is the one that was meant, and has memory of its own. */
bool process_check(struct process_id process, struct failure *failure);
/* In addition: it may be stopped. Not init, not this agent, not a kernel thread. */
bool process_check_stoppable(struct process_id process, struct failure *failure);
bool process_uid(pid_t pid, uid_t *effective);
void process_comm(pid_t pid, char *comm, size_t room);
bool process_list(const char *library, struct reply *reply, struct failure *failure);
ssize_t read_file(const char *path, char *text, size_t room);

/* ---- tasks.c ---- */

struct tasks {
    uint32_t count;
    pid_t running; /* one that ran when it was looked at last; 0: none */
    pid_t witness; /* one that is stopped: its state tells whether the process still is */
};
enum tasks_state { TASKS_STOPPED, TASKS_RUN, TASKS_GONE };
enum tasks_state tasks_look(pid_t pid, struct tasks *tasks);
bool task_is_stopped(pid_t pid, pid_t task);
bool task_state_stopped(char state);

/* ---- maps.c ---- */

struct range {
    uint64_t address;
    uint64_t bytes;
};
struct mapping {
    uint64_t from, to;
    bool readable, writable, executable, private, anonymous;
    const char *path; /* "" for none */
};
/* Calls for each mapping, ascending, until it returns false. */
bool maps_each(pid_t pid, bool (*run)(void *context, const struct mapping *mapping), void *context);
bool maps_reply(pid_t pid, struct reply *reply, struct failure *failure);
enum mapping_kind { PRIVATE_WRITABLE, PRIVATE_ANONYMOUS_WRITABLE };
/* Every byte of every range lies in mappings of that kind. */
bool maps_cover(pid_t pid, const struct range *ranges, uint32_t count, enum mapping_kind kind,
                struct failure *failure);

/* ---- memory.c ---- */

#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_SWAPPED (1ULL << 62)
#define PAGEMAP_FRAME ((1ULL << 55) - 1)
void memory_setup(void);
extern bool memory_sees_frames;
/* Whether the entry is the kernel's one page of zeros: present, but nobody's memory. */
bool pagemap_is_zero_page(uint64_t entry);
bool memory_peek(pid_t pid, uint64_t address, void *bytes, size_t count);
bool memory_read(pid_t pid, const struct range *ranges, uint32_t count, struct reply *reply, struct failure *failure);
bool memory_frames(pid_t pid, uint64_t known_digest, const struct range *ranges, uint32_t count, struct reply *reply,
                   struct failure *failure);
bool memory_write(pid_t pid, uint64_t address, const uint8_t *bytes, uint32_t count, struct failure *failure);

/* ---- hold.c ---- */

struct hold_request {
    struct process_id process;
    uint64_t active_address, counter_address;
    uint32_t counter_value, timeout_ms, hold_ms, poll_us;
};
void hold_prepare(struct wait *wait);
void hold_tick(int64_t now);
bool hold_start(uint32_t id, const struct hold_request *request, struct failure *failure);
bool hold_cancel(uint32_t id);
/* Thaws the process, or all of them with pid 0, and ends waits for it. Stops its scrub first. */
uint32_t hold_thaw(struct process_id process, int64_t *longest_ns);
uint32_t hold_extend(uint32_t hold_ms);
/* Held, and still stopped: somebody else may have continued it. */
bool hold_check(struct process_id process, struct failure *failure);
/* A descriptor that tells, read at offset 0, the state of one of its tasks; the caller closes it. */
int hold_witness(struct process_id process);
void hold_status(struct reply *reply);
/* Held, or waited for. */
bool hold_exists(struct process_id process);
int hold_frozen(struct process_id list[HOLDS_MAX]);

/* ---- record.c ---- */

bool record_setup(const char *run_directory);
void record_update(void);

/* ---- putback.c ---- */

/* Before the write itself, whose process is held. */
bool putback_remember(struct process_id process, uint64_t address, const uint8_t *bytes, uint32_t count,
                      struct failure *failure);
/* Written to since, for good. */
void putback_overwritten(struct process_id process, uint64_t address, uint32_t count);
/* What was written there, or anywhere with pid 0, is to be put back now: due. */
void putback_want(struct process_id process);
/* The process stands still now, as that task of it tells: puts back what is due. The record is the caller's. */
void putback_stopped(struct process_id process, pid_t witness);
/* Puts back what is due, stops processes for it, and takes no longer than that. What is left is tried again. */
#define PUTBACK_NS (250 * MS)
void putback_run(int64_t budget_ns);
void putback_prepare(struct wait *wait);
void putback_tick(int64_t now);
uint32_t putback_count(void);
bool putback_frozen(struct process_id *process);
void putback_save(FILE *file);
void putback_adopt(const char *line);

/* ---- watchdog.c ---- */

bool watchdog_setup(void);
/* The process behind pidfd is to run again at that time at the latest; NEVER: forget it. Slot HOLDS_MAX is putback.c's. */
void watchdog_set(int slot, int pidfd, int64_t deadline_ns);

/* ---- scrub.c ---- */

void scrub_prepare(struct wait *wait);
bool scrub_start(uint32_t id, struct process_id process, uint32_t threads, const struct range *ranges, uint32_t count,
                 struct failure *failure);
bool scrub_cancel(uint32_t id);
/* Ends scrubs of that process, or all with pid 0. When it returns nothing is written any more. */
void scrub_stop(struct process_id process, const char *why);
uint64_t scrub_total_pages(void);

/* ---- zero.c ---- */

struct zero_job {
    struct process_id process;
    uint32_t threads; /* 0: one for each CPU */
    uint32_t count;
    struct range ranges[RANGES_MAX];
};
struct zero_result {
    uint64_t zeroed_pages, absent_pages;
    int64_t ns;
};
bool zero_setup(void);
bool zero_begin(const struct zero_job *job, struct failure *failure); /* the job stays the caller's */
int zero_fd(void);     /* readable when the job is over */
bool zero_begun(void); /* and not ended by zero_end */
bool zero_over(void);
void zero_stop(void); /* then it is over */
bool zero_end(struct zero_result *result, struct failure *failure);
/* For the watchdog's thread: stops, and nothing is written any more until the loop allows it again. */
void zero_forbid(void);
void zero_allow(void);

/* ---- areas.c ---- */

enum { AREAS_MAX = 1024 };
/* Ascending, apart from each other. */
struct areas {
    uint32_t count, capacity;
    struct range *ranges;
};
bool areas_add(struct areas *areas, struct range range); /* false: too many, nothing changed */
void areas_drop(struct areas *areas, struct range range);
void areas_clear(struct areas *areas);

/* ---- apps.c ---- */

bool apps_setup(const char *run_directory);
void apps_prepare(struct wait *wait);
void apps_tick(int64_t now);
enum { EVENT_BEGIN = 1, EVENT_PREPARE = 2, EVENT_RESUME = 3, EVENT_ABORT = 4 };
uint32_t apps_announce(uint32_t event, uint32_t deadline_ms);
void apps_list(struct reply *reply);
bool apps_await(uint32_t id, uint32_t timeout_ms, struct failure *failure);
bool apps_cancel(uint32_t id);
void apps_session_end(void);
uint32_t apps_count(void);

/* ---- machine.c ---- */

struct memory_figures {
    uint64_t total_bytes, free_bytes, cache_bytes;
};
void machine_figures(struct memory_figures *figures);
bool machine_setup(void);
extern bool machine_real_time;
void machine_thread_ordinary(void); /* the calling thread gives the raised priority up */
/* For a process of its own: the first one to go when memory is short. */
bool machine_be_victim(void);
void machine_prepare(struct wait *wait);
bool machine_drop_caches(uint32_t id, struct failure *failure);
void machine_session_end(void);

/* ---- zerofree.c ---- */

void zerofree_prepare(struct wait *wait);
void zerofree_tick(int64_t now);
bool zerofree_start(uint32_t id, uint32_t keep_mib, struct failure *failure);
bool zerofree_cancel(uint32_t id);
void zerofree_session_end(void);
void zerofree_status(struct reply *reply);

#endif
