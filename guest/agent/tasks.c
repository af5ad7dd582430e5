/* The tasks of a process: whether all of them stand still. */
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static char task_state(pid_t pid, pid_t task, uint32_t *threads)
{
    struct task_stat stat;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, task);
    if (!task_stat_read(path, &stat))
        return 'X';
    *threads = stat.threads;
    return stat.state;
}

bool task_state_stopped(char state) { return state == 'T' || state == 't'; }
static bool is_dead(char state) { return state == 'Z' || state == 'X'; }

bool task_is_stopped(pid_t pid, pid_t task)
{
    uint32_t threads;
    return task_state_stopped(task_state(pid, task, &threads));
}

/*
 * Tasks that run may make new ones while we look, so that "all that I saw were stopped" counts only if as
 * many were seen as there are. One that was seen to run is looked at first the next time: mostly it is the
 * only one that still does, and a process may have a thousand.
 */
enum tasks_state tasks_look(pid_t pid, struct tasks *tasks)
{
    char path[64];
    uint32_t threads = 0, seen = 0;
    if (tasks->running != 0) {
        char state = task_state(pid, tasks->running, &threads);
        if (!task_state_stopped(state) && !is_dead(state))
            return TASKS_RUN;
        tasks->running = 0;
    }
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return TASKS_GONE;
    tasks->witness = 0;
    for (struct dirent *entry; tasks->running == 0 && (entry = readdir(directory)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        pid_t task = atoi(entry->d_name);
        char state = task_state(pid, task, &threads);
        seen++;
        if (task_state_stopped(state))
            tasks->witness = task;
        else if (!is_dead(state))
            tasks->running = task;
    }
    closedir(directory);
    tasks->count = seen;
    if (tasks->running != 0)
        return TASKS_RUN;
    if (tasks->witness == 0)
        return TASKS_GONE;
    return seen >= threads ? TASKS_STOPPED : TASKS_RUN;
}
