/*
 * The record of what an agent that dies leaves to its heir: `held` in the run directory. A line "PID STARTTIME"
 * for everything that is, may be, or is about to be frozen, from before SIGSTOP until after SIGCONT; and a
 * line "write PID STARTTIME ADDRESS OLD NEW" for every write that is to be put back, from before it is made.
 */
#include "agent.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FROZEN_MAX = HOLDS_MAX + 1 };
static char path[200];

static void thaw(struct process_id process)
{
    struct tasks tasks = {0};
    uint64_t start;
    if (process.pid <= 1 || !process_start(process.pid, &start) || start != process.start_ticks)
        return;
    if (tasks_look(process.pid, &tasks) == TASKS_STOPPED)
        putback_stopped(process, tasks.witness);
    kill(process.pid, SIGCONT);
    say("thawed process %d, which an agent before this one had frozen", process.pid);
}

/* Thaws what an agent before this one left frozen. What it left to be put back elsewhere is up to putback_run. */
bool record_setup(const char *run_directory)
{
    struct process_id frozen[FROZEN_MAX];
    unsigned long long start;
    char line[200];
    int pid, count = 0;
    if (snprintf(path, sizeof path, "%s/held", run_directory) >= (int)sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return true;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "%d %llu", &pid, &start) == 2 && count < FROZEN_MAX)
            frozen[count++] = (struct process_id){pid, start};
        else
            putback_adopt(line);
    fclose(file);
    for (int i = 0; i < count; i++)
        thaw(frozen[i]);
    record_update();
    return true;
}

/* Whole or not at all: the new file takes the old one's place. If that fails the watchdog is what is left. */
void record_update(void)
{
    struct process_id list[FROZEN_MAX];
    char fresh[sizeof path + 4];
    int count = hold_frozen(list);
    count += putback_frozen(&list[count]);
    if (count == 0 && putback_count() == 0) {
        unlink(path);
        return;
    }
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *file = fopen(fresh, "we");
    for (int i = 0; file != NULL && i < count; i++)
        fprintf(file, "%d %llu\n", list[i].pid, (unsigned long long)list[i].start_ticks);
    if (file != NULL)
        putback_save(file);
    if (file == NULL || fclose(file) != 0 || rename(fresh, path) != 0)
        say("cannot write %s: %m", path);
}
