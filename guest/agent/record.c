/*
 * The record of what is, or may be, frozen: `held` in the run directory, a line "PID STARTTIME" each. It is
 * written before SIGSTOP and again after SIGCONT, so that an agent that died in between has a heir.
 */
#include "agent.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static char path[200];

/* Thaws what an agent before this one left frozen. */
bool record_setup(const char *run_directory)
{
    unsigned long long start;
    int pid;
    if (snprintf(path, sizeof path, "%s/held", run_directory) >= (int)sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return true;
    while (fscanf(file, "%d %llu", &pid, &start) == 2) {
        uint64_t now;
        if (pid <= 1 || !process_start(pid, &now) || now != start)
            continue;
        kill(pid, SIGCONT);
        say("thawed process %d, which an agent before this one had frozen", pid);
    }
    fclose(file);
    unlink(path);
    return true;
}

/* Whole or not at all: the new file takes the old one's place. If that fails the watchdog is what is left. */
void record_write(const struct process_id *list, int count)
{
    char fresh[sizeof path + 4];
    if (count == 0) {
        unlink(path);
        return;
    }
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *file = fopen(fresh, "we");
    for (int i = 0; file != NULL && i < count; i++)
        fprintf(file, "%d %llu\n", list[i].pid, (unsigned long long)list[i].start_ticks);
    if (file == NULL || fclose(file) != 0 || rename(fresh, path) != 0)
        say("cannot write %s: %m", path);
}
