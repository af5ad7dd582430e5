/*
 * The port to the host. Usually a virtio-serial port, which is always there, whether or not anybody holds
 * its other end: while nobody does, reading gives nothing and poll says "hang-up" without waiting, so it
 * is looked at by a timer instead. For tests, and for guests of another kind, a unix socket, to connect to
 * or to listen on.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT_NAME "org.godwit.agent.0"
#define PORT_LINK "/dev/virtio-ports/" PORT_NAME
enum { QUEUE_BYTES_HIGH = 256 << 10, FRAMES_A_TURN = 32 };
static const int64_t away_ns = 100 * MS, retry_ns = 500 * MS, partial_ns = 500 * MS;

static struct port_options options;
static int fd = -1, listener = -1;
static bool is_device;
static bool away = true; /* the port is open, and nobody holds the other end */
static bool more_frames; /* in the reader, left for the next turn */
static int64_t next_try_ns, grown_ns;
static struct frame_reader reader;
static struct piece *queue, *queue_end;
static size_t queue_bytes;

static void clear_queue(void)
{
    while (queue != NULL) {
        struct piece *piece = queue;
        queue = piece->next;
        free(piece);
    }
    queue_end = NULL;
    queue_bytes = 0;
}

/* The host went away. What it left behind is undone; what was meant for it, or came from it, means nothing now. */
static void hang_up(const char *why)
{
    if (!away) {
        away = true;
        session_end(why);
    }
    clear_queue();
    reader.from = reader.to = 0;
    more_frames = false;
}

static void close_port(const char *why)
{
    hang_up(why);
    if (fd >= 0)
        close(fd);
    fd = -1;
    next_try_ns = now_ns() + retry_ns;
}

/* ---- opening ---- */

static bool socket_address(const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    return snprintf(address->sun_path, sizeof address->sun_path, "%s", path) < (int)sizeof address->sun_path;
}

/* The link is udev's work; without udev the port is found by what the kernel calls it. */
static bool find_port(char *path, size_t room)
{
    char name_path[320], name[64];
    bool found = false;
    DIR *directory = opendir("/sys/class/virtio-ports");
    if (directory == NULL)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(directory)) != NULL;) {
        snprintf(name_path, sizeof name_path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        if (read_file(name_path, name, sizeof name) < 0)
            continue;
        name[strcspn(name, "\n")] = 0;
        found = strcmp(name, PORT_NAME) == 0;
        if (found)
            snprintf(path, room, "/dev/%s", entry->d_name);
    }
    closedir(directory);
    return found;
}

static int connect_socket(const char *path)
{
    struct sockaddr_un address;
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection < 0 || !socket_address(path, &address) ||
        connect(connection, (struct sockaddr *)&address, sizeof address) != 0) {
        if (connection >= 0)
            close(connection);
        return -1;
    }
    return connection;
}

static int open_port(void)
{
    struct stat status;
    char found[300];
    const char *path = options.port_path;
    if (stat(path, &status) != 0) {
        if (strcmp(path, PORT_LINK) != 0 || !find_port(found, sizeof found) || stat(found, &status) != 0)
            return -1;
        path = found;
    }
    if (S_ISSOCK(status.st_mode))
        return connect_socket(path);
    is_device = true;
    return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

static void try_open(int64_t now)
{
    static bool told;
    next_try_ns = now + retry_ns;
    is_device = false;
    fd = open_port();
    if (fd < 0 && !told)
        say("waiting for the port %s: %m", options.port_path);
    told = fd < 0;
    if (fd < 0)
        return;
    away = is_device;
    next_try_ns = now;
}

static void host_connects(void *context, int at, short events)
{
    (void)context, (void)events;
    fd = accept4(at, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        away = false;
}

bool port_setup(const struct port_options *wanted)
{
    struct sockaddr_un address;
    options = *wanted;
    if (options.port_path == NULL)
        options.port_path = PORT_LINK;
    if (options.listen_path == NULL)
        return true;
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || !socket_address(options.listen_path, &address))
        return false;
    unlink(options.listen_path);
    return bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
           chmod(options.listen_path, 0600) == 0 && listen(listener, 4) == 0;
}

/* ---- reading and writing ---- */

static void run_frames(void)
{
    struct frame frame;
    for (int i = 0; i < FRAMES_A_TURN && queue_bytes < QUEUE_BYTES_HIGH; i++) {
        more_frames = false;
        if (!frame_reader_next(&reader, &frame))
            return;
        request_run(&frame);
        more_frames = true;
    }
}

static void read_port(void)
{
    size_t room;
    uint8_t *space = frame_reader_room(&reader, &room);
    ssize_t got = read(fd, space, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got == 0 && is_device) {
        hang_up("the host closed the port");
        next_try_ns = now_ns() + away_ns;
    } else if (got <= 0)
        close_port(got == 0 ? "the host closed the port" : "the port failed");
    else {
        grown_ns = now_ns();
        frame_reader_fill(&reader, (size_t)got);
        run_frames();
    }
}

static void write_port(void)
{
    while (queue != NULL && fd >= 0 && !away) {
        size_t bytes = FRAME_HEADER_BYTES + queue->bytes;
        ssize_t done = write(fd, queue->frame + queue->sent, bytes - queue->sent);
        if (done < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (done <= 0) {
            if (is_device)
                return; /* reading tells what is wrong */
            close_port("the host closed the port");
            return;
        }
        queue->sent += (size_t)done;
        queue_bytes -= (size_t)done;
        if (queue->sent < bytes)
            continue;
        struct piece *piece = queue;
        queue = piece->next;
        if (queue == NULL)
            queue_end = NULL;
        free(piece);
    }
}

static void port_event(void *context, int at, short events)
{
    (void)context;
    if (fd != at)
        return;
    if (events & POLLOUT)
        write_port();
    /* With a hang-up, what was sent before it is read first; then reading gives 0. */
    if (fd == at && (events & (POLLIN | POLLHUP | POLLERR)))
        read_port();
}

void port_queue(struct piece *first)
{
    if (queue == NULL)
        queue = first;
    else
        queue_end->next = first;
    for (struct piece *piece = first; piece != NULL; piece = piece->next) {
        queue_bytes += FRAME_HEADER_BYTES + piece->bytes;
        queue_end = piece;
    }
    if (fd < 0 || away)
        clear_queue();
}

void port_prepare(struct wait *wait)
{
    write_port(); /* what the round has brought; most of it goes at once */
    if (fd < 0 && listener >= 0)
        wait_fd(wait, listener, POLLIN, host_connects, NULL);
    else if (fd < 0 || away)
        wait_until(wait, next_try_ns);
    if (fd < 0 || away)
        return;
    bool full = queue_bytes >= QUEUE_BYTES_HIGH;
    wait_fd(wait, fd, (short)((full || more_frames ? 0 : POLLIN) | (queue != NULL ? POLLOUT : 0)), port_event, NULL);
    if (more_frames && !full)
        wait_until(wait, 0);
    else if (reader.from < reader.to)
        wait_until(wait, grown_ns + partial_ns);
}

/* Whether somebody holds the other end now. */
static void look_for_host(int64_t now)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};
    next_try_ns = now + away_ns;
    if (poll(&look, 1, 0) < 0 || (look.revents & (POLLERR | POLLNVAL))) {
        close_port("the port failed");
        return;
    }
    if (look.revents & POLLHUP) {
        /* Unplugged ports say the same; only reading tells. */
        uint8_t byte;
        if (read(fd, &byte, 1) < 0 && errno != EAGAIN)
            close_port("the port was unplugged");
        return;
    }
    away = false;
}

void port_tick(int64_t now)
{
    if (fd < 0 && listener < 0 && now >= next_try_ns)
        try_open(now);
    if (fd >= 0 && away && now >= next_try_ns)
        look_for_host(now);
    if (fd < 0 || away)
        return;
    if (more_frames)
        run_frames();
    else if (reader.from < reader.to && now >= grown_ns + partial_ns && queue_bytes < QUEUE_BYTES_HIGH) {
        frame_reader_drop_partial(&reader);
        grown_ns = now;
        run_frames();
    }
}
