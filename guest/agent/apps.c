/*
 * The socket for applications: docs/protocols/assist.md. Lines of text, at most 256 bytes, both ways.
 *
 * Whoever connects is a stranger: may send anything, at any speed, and never read. An application names
 * only its own memory (the kernel tells who it is); what it sends costs the guest at most a tenth of one
 * CPU; one that does not read its answers is dropped.
 */
#include "apps.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { REST_FACTOR = 9 };

static struct app apps[APPS_MAX];
static int listener = -1;
static int64_t rest_until_ns; /* lines are read again from then on */

/* Who was told to prepare last, and what became of it. */
static struct {
    pid_t pid;
    struct app *app; /* NULL: gone */
} told[APPS_MAX];
static int told_count;
static struct {
    bool waits;
    uint32_t id;
    int64_t until_ns;
} awaited;

static void flush(struct app *app);

static void close_app(struct app *app)
{
    close(app->fd);
    app->fd = -1;
    areas_clear(&app->areas);
    for (int i = 0; i < told_count; i++)
        if (told[i].app == app)
            told[i].app = NULL;
}

void app_tell(struct app *app, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (app->fd < 0) {
        va_end(arguments);
        return;
    }
    size_t room = sizeof app->out - app->out_bytes;
    int length = vsnprintf(app->out + app->out_bytes, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room) {
        close_app(app);
        return;
    }
    app->out_bytes += (size_t)length;
    flush(app);
}

static void flush(struct app *app)
{
    while (app->fd >= 0 && app->out_bytes > 0) {
        ssize_t sent = send(app->fd, app->out, app->out_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent <= 0) {
            close_app(app);
            return;
        }
        app->out_bytes -= (size_t)sent;
        memmove(app->out, app->out + sent, app->out_bytes);
    }
}

/* ---- connections ---- */

/* Runs the complete lines of what has come; the beginning of one more may stay. */
static void run_lines(struct app *app)
{
    char *line = app->in, *end;
    while (app->fd >= 0 && (end = memchr(line, '\n', app->in_bytes - (size_t)(line - app->in))) != NULL) {
        *end = 0;
        if (app->too_long)
            app_tell(app, "error a line is longer than %d bytes\n", LINE_BYTES_MAX);
        else
            line_run(app, line);
        app->too_long = false;
        line = end + 1;
    }
    app->in_bytes -= (size_t)(line - app->in);
    memmove(app->in, line, app->in_bytes);
    if (app->in_bytes == sizeof app->in) {
        app->too_long = true;
        app->in_bytes = 0;
    }
}

static void app_event(void *context, int fd, short events)
{
    struct app *app = context;
    if (app->fd != fd)
        return;
    if (events & POLLOUT)
        flush(app);
    if (app->fd != fd || !(events & (POLLIN | POLLHUP | POLLERR)))
        return;
    int64_t began_ns = now_ns();
    ssize_t got = recv(app->fd, app->in + app->in_bytes, sizeof app->in - app->in_bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        close_app(app);
        return;
    }
    if (got < 0)
        return;
    app->in_bytes += (size_t)got;
    run_lines(app);
    int64_t now = now_ns();
    if (rest_until_ns < now)
        rest_until_ns = now;
    rest_until_ns += REST_FACTOR * (now - began_ns);
}

static void refuse(int fd, const char *why)
{
    if (send(fd, why, strlen(why), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        say("an application was refused: %s", why);
    close(fd);
}

/*
 * At once and never later: the process id is only good while the process that connected is alive. Its user
 * must be the connection's, so that a number given to a stranger's process meanwhile is of no use.
 */
static void app_connects(void *context, int fd, short events)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    uid_t uid;
    (void)context, (void)events;
    int connection = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection < 0)
        return;
    struct app *app = NULL;
    for (int i = APPS_MAX - 1; i >= 0; i--)
        if (apps[i].fd < 0)
            app = &apps[i];
    struct process_id process = {0};
    if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0 || peer.pid <= 0 ||
        !process_start(peer.pid, &process.start_ticks) || !process_uid(peer.pid, &uid) || uid != peer.uid) {
        refuse(connection, "error your process cannot be seen from here\n");
        return;
    }
    if (app == NULL) {
        refuse(connection, "error too many applications\n");
        return;
    }
    process.pid = peer.pid;
    *app = (struct app){.fd = connection, .process = process};
    process_comm(process.pid, app->name, sizeof app->name);
}

bool apps_setup(const char *run_directory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    for (int i = 0; i < APPS_MAX; i++)
        apps[i].fd = -1;
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/assist.sock", run_directory);
    if (length < 0 || (size_t)length >= sizeof address.sun_path)
        return false;
    unlink(address.sun_path); /* of an agent before this one: the lock says that it is gone */
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* Everybody may connect: the agent takes from each only what is its own. */
    return listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
           chmod(address.sun_path, 0666) == 0 && listen(listener, APPS_MAX) == 0;
}

void apps_prepare(struct wait *wait)
{
    bool rests = now_ns() < rest_until_ns;
    wait_fd(wait, listener, POLLIN, app_connects, NULL);
    for (int i = 0; i < APPS_MAX; i++)
        if (apps[i].fd >= 0) {
            short events = (short)((rests ? 0 : POLLIN) | (apps[i].out_bytes > 0 ? POLLOUT : 0));
            /* A descriptor with POLLHUP would wake us at once: not looked at while resting. */
            if (events != 0)
                wait_fd(wait, apps[i].fd, events, app_event, &apps[i]);
        }
    if (rests)
        wait_until(wait, rest_until_ns);
    if (awaited.waits)
        wait_until(wait, awaited.until_ns);
}

/* ---- requests ---- */

static void answer_awaited(void)
{
    struct reply reply = reply_begin_for(14, awaited.id);
    for (int i = 0; i < told_count; i++)
        reply_text(&reply, "%d %s\n", told[i].pid,
                   told[i].app == NULL ? "gone" : told[i].app->state == READY ? "ready" : "late");
    awaited.waits = false;
    reply_send(&reply);
}

void apps_tick(int64_t now)
{
    if (!awaited.waits)
        return;
    bool pending = false;
    for (int i = 0; i < told_count; i++)
        pending = pending || (told[i].app != NULL && told[i].app->state == PREPARING);
    if (!pending || now >= awaited.until_ns)
        answer_awaited();
}

static bool is_told(const struct app *app, uint32_t event)
{
    return app->fd >= 0 && (event == EVENT_BEGIN || event == EVENT_PREPARE || app->state != IDLE);
}

uint32_t apps_announce(uint32_t event, uint32_t deadline_ms)
{
    static const char *const words[] = {[EVENT_BEGIN] = "begin", [EVENT_RESUME] = "resume", [EVENT_ABORT] = "abort"};
    uint32_t count = 0;
    if (event == EVENT_PREPARE)
        told_count = 0;
    for (int i = 0; i < APPS_MAX; i++) {
        struct app *app = &apps[i];
        if (!is_told(app, event))
            continue;
        app->state = event == EVENT_BEGIN ? BEGUN : event == EVENT_PREPARE ? PREPARING : IDLE;
        if (event != EVENT_PREPARE)
            app_tell(app, "%s\n", words[event]);
        else {
            app_tell(app, "prepare %u\n", deadline_ms);
            told[told_count].pid = app->process.pid;
            told[told_count++].app = app->fd >= 0 ? app : NULL;
        }
        count += app->fd >= 0;
    }
    return count;
}

void apps_list(struct reply *reply)
{
    static const char *const states[] = {[IDLE] = "idle", [BEGUN] = "begun", [PREPARING] = "preparing", [READY] = "ready"};
    for (int i = 0; i < APPS_MAX; i++) {
        const struct app *app = &apps[i];
        if (app->fd < 0)
            continue;
        reply_text(reply, "app %d %llu %s %s\n", app->process.pid, (unsigned long long)app->process.start_ticks,
                   states[app->state], app->name);
        for (uint32_t j = 0; j < app->areas.count; j++)
            reply_text(reply, "area 0x%llx 0x%llx\n", (unsigned long long)app->areas.ranges[j].address,
                       (unsigned long long)app->areas.ranges[j].bytes);
    }
}

bool apps_await(uint32_t id, uint32_t timeout_ms, struct failure *failure)
{
    if (awaited.waits)
        return fail(failure, BUSY, "waiting for applications already");
    awaited.waits = true;
    awaited.id = id;
    awaited.until_ns = now_ns() + timeout_ms * MS;
    return true;
}

bool apps_cancel(uint32_t id)
{
    struct failure failure = {CANCELLED, "cancelled"};
    if (!awaited.waits || awaited.id != id)
        return false;
    awaited.waits = false;
    reply_failure(id, &failure);
    return true;
}

/* Who was told of a beginning is told of its end; the others have not been asked for anything. */
void apps_session_end(void)
{
    awaited.waits = false;
    told_count = 0;
    for (int i = 0; i < APPS_MAX; i++) {
        if (apps[i].fd >= 0 && apps[i].state != IDLE)
            app_tell(&apps[i], "resume\n");
        apps[i].state = IDLE;
    }
}

uint32_t apps_count(void)
{
    uint32_t count = 0;
    for (int i = 0; i < APPS_MAX; i++)
        count += apps[i].fd >= 0;
    return count;
}
