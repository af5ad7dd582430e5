/* Mappings of a process: /proc/PID/maps, parsed line by line from a small buffer. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_BYTES_MAX = 4 << 20, BUFFER_BYTES = 32 << 10 };

static int open_maps(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* `7f00-7f80 rw-p 00000000 00:00 0   [heap]`. The line ends in 0 and is not changed. */
static bool parse_line(const char *line, struct mapping *mapping)
{
    unsigned long long from, to, inode;
    char flags[5];
    unsigned major, minor;
    int path_at = 0;
    if (sscanf(line, "%llx-%llx %4s %*x %x:%x %llu %n", &from, &to, flags, &major, &minor, &inode, &path_at) != 6)
        return false;
    const char *path = line + path_at;
    *mapping = (struct mapping){
        .from = from,
        .to = to,
        .readable = flags[0] == 'r',
        .writable = flags[1] == 'w',
        .executable = flags[2] == 'x',
        .private = flags[3] == 'p',
        .path = path,
    };
    /* What the kernel keeps there itself ([stack], [vdso], [vvar]) is nobody's to touch. */
    mapping->anonymous = inode == 0 && major == 0 && minor == 0 &&
                         (path[0] == 0 || strcmp(path, "[heap]") == 0 || strncmp(path, "[anon:", 6) == 0);
    return true;
}

bool maps_each(pid_t pid, bool (*run)(void *context, const struct mapping *mapping), void *context)
{
    char buffer[BUFFER_BYTES];
    size_t length = 0, total = 0;
    int fd = open_maps(pid);
    if (fd < 0)
        return false;
    bool more = true;
    while (more && total < TEXT_BYTES_MAX) {
        ssize_t got = read(fd, buffer + length, sizeof buffer - 1 - length);
        if (got <= 0)
            break;
        length += (size_t)got;
        total += (size_t)got;
        buffer[length] = 0;
        char *line = buffer, *end;
        while (more && (end = strchr(line, '\n')) != NULL) {
            struct mapping mapping;
            *end = 0;
            if (parse_line(line, &mapping))
                more = run(context, &mapping);
            line = end + 1;
        }
        length -= (size_t)(line - buffer);
        memmove(buffer, line, length);
        if (length == sizeof buffer - 1)
            break; /* no path is that long */
    }
    close(fd);
    return true;
}

bool maps_reply(pid_t pid, struct reply *reply, struct failure *failure)
{
    int fd = open_maps(pid);
    if (fd < 0)
        return fail(failure, errno == ENOENT ? GONE : FAILED, "cannot read the maps of process %d: %m", pid);
    for (size_t left = TEXT_BYTES_MAX; left > 0;) {
        size_t room;
        uint8_t *space = reply_space(reply, left < REPLY_BODY_MAX ? left : REPLY_BODY_MAX, &room);
        ssize_t got = space == NULL ? 0 : read(fd, space, room);
        if (got <= 0)
            break;
        reply_added(reply, (size_t)got);
        left -= (size_t)got;
    }
    close(fd);
    return true;
}

struct cover {
    const struct range *ranges;
    uint32_t count, done;
    uint64_t *next; /* per range: up to where it is covered */
    enum mapping_kind kind;
};

/* Mappings come in ascending order, so a range is covered from its beginning on, without a gap, or not. */
static bool cover_by(void *context, const struct mapping *mapping)
{
    struct cover *cover = context;
    if (!mapping->private || !mapping->writable || (cover->kind == PRIVATE_ANONYMOUS_WRITABLE && !mapping->anonymous))
        return true;
    for (uint32_t i = 0; i < cover->count; i++) {
        uint64_t end = cover->ranges[i].address + cover->ranges[i].bytes;
        if (cover->next[i] == end || cover->next[i] < mapping->from || cover->next[i] >= mapping->to)
            continue;
        cover->next[i] = mapping->to < end ? mapping->to : end;
        if (cover->next[i] == end)
            cover->done++;
    }
    return cover->done < cover->count;
}

bool maps_cover(pid_t pid, const struct range *ranges, uint32_t count, enum mapping_kind kind, struct failure *failure)
{
    uint64_t next[RANGES_MAX];
    struct cover cover = {.ranges = ranges, .count = count, .next = next, .kind = kind};
    if (count > RANGES_MAX)
        return fail(failure, BAD_REQUEST, "%u ranges, at most %d", count, RANGES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (ranges[i].bytes == 0 || ranges[i].address + ranges[i].bytes < ranges[i].address)
            return fail(failure, BAD_REQUEST, "range %u is empty or too long", i);
        next[i] = ranges[i].address;
    }
    if (!maps_each(pid, cover_by, &cover))
        return fail(failure, GONE, "process %d is gone", pid);
    for (uint32_t i = 0; i < count; i++)
        if (next[i] != ranges[i].address + ranges[i].bytes)
            return fail(failure, DENIED, "range %u: 0x%llx is not in %s memory", i, (unsigned long long)next[i],
                        kind == PRIVATE_WRITABLE ? "private writable" : "private anonymous writable");
    return true;
}
