/*
 * Checks the agent's side of the golden frames: guest/agent/frame.c against frames.txt (argument 1). Prints
 * how many lines it has checked, or the first one that differs.
 */
#include "../../../guest/agent/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_MAX = 1 << 16 };

static size_t from_hex(const char *text, uint8_t *bytes)
{
    size_t count = 0;
    unsigned byte;
    if (strcmp(text, "-") == 0)
        return 0;
    for (; sscanf(text + 2 * count, "%2x", &byte) == 1; count++)
        bytes[count] = (uint8_t)byte;
    return count;
}

static void check(int good, const char *name, const char *what)
{
    if (good)
        return;
    printf("%s: %s\n", name, what);
    exit(1);
}

static void check_frame(const char *name, unsigned type, unsigned flags, unsigned id, const char *body_hex,
                        const char *frame_hex)
{
    static uint8_t body[BYTES_MAX], frame[BYTES_MAX], header[FRAME_HEADER_BYTES];
    static struct frame_reader reader;
    struct frame found;
    size_t body_bytes = from_hex(body_hex, body), bytes = from_hex(frame_hex, frame), room;
    check(bytes == FRAME_HEADER_BYTES + body_bytes, name, "length");
    frame_write_header(header, (uint8_t)type, (uint8_t)flags, id, body, (uint32_t)body_bytes);
    check(memcmp(header, frame, sizeof header) == 0, name, "written header");
    memset(&reader, 0, sizeof reader);
    memcpy(frame_reader_room(&reader, &room), frame, bytes);
    frame_reader_fill(&reader, bytes);
    check(frame_reader_next(&reader, &found) == 1, name, "not found");
    check(found.type == type && found.flags == flags && found.id == id && found.body_bytes == body_bytes, name, "fields");
    check(memcmp(found.body, body, body_bytes) == 0, name, "body");
    check(frame_reader_next(&reader, &found) == 0 && reader.dropped == 0, name, "something is left");
}

/* Frames found when `step` bytes come at a time; then a frame that is left half is given up. */
static void check_stream(const char *name, const char *hex, const char *expected, size_t step)
{
    static uint8_t bytes[BYTES_MAX];
    static struct frame_reader reader;
    struct frame frame;
    char found[256] = "";
    size_t count = from_hex(hex, bytes);
    memset(&reader, 0, sizeof reader);
    for (size_t at = 0; at < count;) {
        size_t room, part = step < count - at ? step : count - at;
        uint8_t *space = frame_reader_room(&reader, &room);
        check(room > 0, name, "no room");
        part = part < room ? part : room;
        memcpy(space, bytes + at, part);
        frame_reader_fill(&reader, part);
        at += part;
        while (frame_reader_next(&reader, &frame))
            sprintf(found + strlen(found), "%s%u:%u", found[0] ? "," : "", frame.type, frame.id);
    }
    while (reader.from < reader.to) {
        frame_reader_drop_partial(&reader);
        while (frame_reader_next(&reader, &frame))
            sprintf(found + strlen(found), "%s%u:%u", found[0] ? "," : "", frame.type, frame.id);
    }
    check(strcmp(found[0] ? found : "-", expected) == 0, name, found);
}

int main(int count, char **arguments)
{
    static char line[4 * BYTES_MAX], name[200], first[2 * BYTES_MAX], second[2 * BYTES_MAX];
    unsigned type, flags, id;
    int lines = 0;
    FILE *file = count == 2 ? fopen(arguments[1], "r") : NULL;
    check(file != NULL, "usage", "check FRAMES.TXT");
    for (; fgets(line, sizeof line, file) != NULL; lines++) {
        if (sscanf(line, "frame %199s %u %u %u %s %s", name, &type, &flags, &id, first, second) == 6)
            check_frame(name, type, flags, id, first, second);
        else if (sscanf(line, "stream %199s %s %s", name, first, second) == 3)
            for (size_t step = 1; step <= 8192; step = step * 3 + 1)
                check_stream(name, first, second, step);
        else
            check(0, "line", line);
    }
    fclose(file);
    printf("%d lines\n", lines);
    return 0;
}
