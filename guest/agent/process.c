/* Processes as /proc tells of them. Everything is looked up anew each time: nothing here goes stale. */
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KERNEL_THREAD_FLAG = 0x00200000 }; /* PF_KTHREAD, see proc(5) and linux/sched.h */

/* The beginning of a file as a string; -1 if there is none. */
ssize_t read_file(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t length = 0;
    ssize_t got;
    while (length < room - 1 && (got = read(fd, text + length, room - 1 - length)) > 0)
        length += (size_t)got;
    close(fd);
    text[length] = 0;
    return (ssize_t)length;
}

/*
 * proc(5), /proc/PID/stat: the name stands in parentheses and may contain anything, so the fields are
 * counted from the last closing one. (3) state ... (9) flags ... (20) num_threads (22) starttime.
 */
bool task_stat_parse(const char *text, struct task_stat *stat)
{
    const char *end = strrchr(text, ')');
    unsigned long flags;
    unsigned long long start;
    if (end == NULL || sscanf(end + 1, " %c %*d %*d %*d %*d %*d %lu %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %u %*d %llu",
                              &stat->state, &flags, &stat->threads, &start) != 4)
        return false;
    stat->kernel = (flags & KERNEL_THREAD_FLAG) != 0;
    stat->start_ticks = start;
    return true;
}

bool task_stat_read(const char *path, struct task_stat *stat)
{
    char text[1024];
    return read_file(path, text, sizeof text) > 0 && task_stat_parse(text, stat);
}

bool process_stat(pid_t pid, struct task_stat *stat)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    return task_stat_read(path, stat);
}

bool process_start(pid_t pid, uint64_t *start_ticks)
{
    struct task_stat stat;
    if (!process_stat(pid, &stat))
        return false;
    *start_ticks = stat.start_ticks;
    return true;
}

bool process_check(struct process_id process, struct failure *failure)
{
    struct task_stat stat;
    if (process.pid <= 0)
        return fail(failure, BAD_REQUEST, "no process id");
    if (!process_stat(process.pid, &stat) || stat.state == 'Z' || stat.state == 'X')
        return fail(failure, GONE, "process %d is gone", process.pid);
    if (stat.start_ticks != process.start_ticks)
        return fail(failure, GONE, "process %d is another one now", process.pid);
    if (stat.kernel)
        return fail(failure, DENIED, "process %d is a kernel thread", process.pid);
    return true;
}

/* A number after `name` at the beginning of a line of /proc/PID/status; the last of the line if `last`. */
static long status_number(const char *status, const char *name, bool last)
{
    const char *line = strstr(status, name);
    if (line == NULL)
        return -1;
    line += strlen(name);
    long value = -1;
    for (;;) {
        char *end;
        while (*line == ' ' || *line == '\t')
            line++;
        if (!isdigit((unsigned char)*line))
            return value;
        value = strtol(line, &end, 10);
        line = end;
        if (!last)
            return value;
    }
}

static bool read_status(pid_t pid, char *status, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    return read_file(path, status, room) > 0;
}

bool process_uid(pid_t pid, uid_t *effective)
{
    char status[4096];
    unsigned uid;
    const char *line = read_status(pid, status, sizeof status) ? strstr(status, "\nUid:") : NULL;
    if (line == NULL || sscanf(line, "\nUid: %*u %u", &uid) != 1)
        return false;
    *effective = uid;
    return true;
}

bool process_check_stoppable(struct process_id process, struct failure *failure)
{
    char status[4096];
    if (!process_check(process, failure))
        return false;
    if (process.pid == 1)
        return fail(failure, DENIED, "process 1 is never stopped");
    if (process.pid == getpid())
        return fail(failure, DENIED, "process %d is the agent itself", process.pid);
    if (!read_status(process.pid, status, sizeof status))
        return fail(failure, GONE, "process %d is gone", process.pid);
    /* /proc/TID exists for every thread; a thread is stopped with its process or not at all. */
    if (status_number(status, "\nTgid:", false) != process.pid)
        return fail(failure, BAD_REQUEST, "%d is a thread, not a process", process.pid);
    if (status_number(status, "\nTracerPid:", false) != 0)
        return fail(failure, FAILED, "process %d is being traced by %ld", process.pid,
                    status_number(status, "\nTracerPid:", false));
    return true;
}

void process_comm(pid_t pid, char *comm, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    if (read_file(path, comm, room) < 0)
        comm[0] = 0;
    comm[strcspn(comm, "\n")] = 0;
    for (char *at = comm; *at != 0; at++)
        if (!isprint((unsigned char)*at))
            *at = '?';
}

struct search {
    const char *library;
    size_t length;
    bool found;
};

static bool is_library(void *context, const struct mapping *mapping)
{
    static const char deleted[] = " (deleted)"; /* replaced by an update while in use */
    struct search *search = context;
    const char *name = strrchr(mapping->path, '/');
    if (!mapping->executable || name == NULL || strncmp(name + 1, search->library, search->length) != 0)
        return true;
    const char *rest = name + 1 + search->length;
    search->found = *rest == 0 || strcmp(rest, deleted) == 0;
    return !search->found;
}

static void list_one(pid_t pid, struct reply *reply)
{
    struct task_stat stat;
    char status[4096], comm[64];
    if (!process_stat(pid, &stat) || !read_status(pid, status, sizeof status))
        return;
    process_comm(pid, comm, sizeof comm);
    reply_text(reply, "%d %llu %ld %ld %u %s\n", pid, (unsigned long long)stat.start_ticks,
               status_number(status, "\nNSpid:", true), status_number(status, "\nUid:", false), stat.threads, comm);
}

bool process_list(const char *library, struct reply *reply, struct failure *failure)
{
    DIR *directory = opendir("/proc");
    if (directory == NULL)
        return fail(failure, FAILED, "cannot read /proc: %m");
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        pid_t pid = atoi(entry->d_name);
        struct search search = {library, strlen(library), false};
        if (maps_each(pid, is_library, &search) && search.found)
            list_one(pid, reply);
    }
    closedir(directory);
    return true;
}
