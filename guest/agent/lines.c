/* What applications say: docs/protocols/assist.md. Every line is answered with one line. */
#include "apps.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two numbers, hexadecimal with 0x or decimal, and nothing else. */
static bool parse_range(const char *text, struct range *range)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    range->address = strtoull(text, &end, 0);
    if (*end != ' ' || !isdigit((unsigned char)end[1]))
        return false;
    range->bytes = strtoull(end + 1, &end, 0);
    return errno == 0 && *end == 0 && range->bytes > 0 && range->address + range->bytes > range->address;
}

static void line_area(struct app *app, const char *text)
{
    struct range range;
    struct failure failure;
    if (!parse_range(text, &range)) {
        app_tell(app, "error area ADDRESS LENGTH\n");
        return;
    }
    uint64_t from = (range.address + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    uint64_t to = (range.address + range.bytes) / PAGE_BYTES * PAGE_BYTES;
    if (from >= to) {
        app_tell(app, "error no whole page in it\n");
        return;
    }
    range = (struct range){from, to - from};
    if (!process_check(app->process, &failure) ||
        !maps_cover(app->process.pid, &range, 1, PRIVATE_ANONYMOUS_WRITABLE, &failure))
        app_tell(app, "error not private anonymous writable memory of process %d\n", app->process.pid);
    else if (!areas_add(&app->areas, range))
        app_tell(app, "error more than %d areas\n", AREAS_MAX);
    else
        app_tell(app, "ok\n");
}

/* Outwards to whole pages: the whole page is needed when a byte of it is. */
static void line_drop(struct app *app, const char *text)
{
    struct range range;
    if (!parse_range(text, &range)) {
        app_tell(app, "error drop ADDRESS LENGTH\n");
        return;
    }
    uint64_t from = range.address / PAGE_BYTES * PAGE_BYTES, end = range.address + range.bytes;
    uint64_t to = end > UINT64_MAX - PAGE_BYTES ? end : (end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    areas_drop(&app->areas, (struct range){from, to - from});
    app_tell(app, "ok\n");
}

static void line_name(struct app *app, const char *text)
{
    snprintf(app->name, sizeof app->name, "%s", text);
    for (char *at = app->name; *at != 0; at++)
        if (!isprint((unsigned char)*at))
            *at = '?';
    app_tell(app, "ok\n");
}

void line_run(struct app *app, const char *line)
{
    if (strncmp(line, "area ", 5) == 0)
        line_area(app, line + 5);
    else if (strncmp(line, "drop ", 5) == 0)
        line_drop(app, line + 5);
    else if (strcmp(line, "drop") == 0) {
        areas_clear(&app->areas);
        app_tell(app, "ok\n");
    } else if (strncmp(line, "name ", 5) == 0)
        line_name(app, line + 5);
    else if (strcmp(line, "ready") != 0)
        app_tell(app, "error no such line; there are: name, area, drop, ready\n");
    else if (app->state != PREPARING)
        app_tell(app, "error not asked to prepare\n");
    else {
        app->state = READY;
        app_tell(app, "ok\n");
    }
}
