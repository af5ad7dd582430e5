/* An application that has connected: shared by apps.c and lines.c. */
#ifndef GODWIT_APPS_H
#define GODWIT_APPS_H

#include "agent.h"

enum { LINE_BYTES_MAX = 256, OUT_BYTES = 1024, NAME_BYTES = 64 };
enum app_state { IDLE, BEGUN, PREPARING, READY };

struct app {
    int fd; /* -1: a free place */
    struct process_id process;
    enum app_state state;
    char name[NAME_BYTES];
    struct areas areas;
    char in[LINE_BYTES_MAX + 1];
    size_t in_bytes;
    bool too_long; /* the rest of this line is thrown away */
    char out[OUT_BYTES];
    size_t out_bytes;
};

/* Sends a line. If the application does not read, it is closed: look at `fd` afterwards. */
__attribute__((format(printf, 2, 3))) void app_tell(struct app *app, const char *format, ...);

/* One line, without its end; answered with one line. */
void line_run(struct app *app, const char *line);

#endif
