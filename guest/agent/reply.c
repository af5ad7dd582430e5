/*
 * Building replies: bytes are appended and land in frames of at most 64 KiB each. Checksums are made at
 * the end, so that the beginning of a reply may still be changed when its end is known (memory_frames).
 */
#include "agent.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL_BODY = 1000 };

struct reply reply_begin_for(uint8_t type, uint32_t id)
{
    return (struct reply){.type = (uint8_t)(type | FRAME_REPLY), .id = id};
}

struct reply reply_begin(const struct frame *request) { return reply_begin_for(request->type, request->id); }

/* Short replies, which are most, do not take 64 KiB. */
static struct piece *add_piece(struct reply *reply, size_t want)
{
    size_t capacity = reply->first == NULL && want <= SMALL_BODY ? SMALL_BODY : REPLY_BODY_MAX;
    struct piece *piece = malloc(sizeof *piece + FRAME_HEADER_BYTES + capacity);
    if (piece == NULL) {
        reply->failed = true;
        return NULL;
    }
    *piece = (struct piece){.capacity = capacity};
    if (reply->first == NULL)
        reply->first = piece;
    else
        reply->last->next = piece;
    reply->last = piece;
    return piece;
}

uint8_t *reply_space(struct reply *reply, size_t want, size_t *got)
{
    struct piece *piece = reply->last;
    if (reply->failed)
        return NULL;
    if (piece == NULL || piece->bytes == piece->capacity)
        piece = add_piece(reply, want);
    if (piece == NULL)
        return NULL;
    size_t room = piece->capacity - piece->bytes;
    *got = want < room ? want : room;
    return piece->frame + FRAME_HEADER_BYTES + piece->bytes;
}

void reply_added(struct reply *reply, size_t count) { reply->last->bytes += count; }

void reply_append(struct reply *reply, const void *bytes, size_t count)
{
    const uint8_t *from = bytes;
    while (count > 0) {
        size_t got;
        uint8_t *to = reply_space(reply, count, &got);
        if (to == NULL)
            return;
        memcpy(to, from, got);
        reply_added(reply, got);
        from += got;
        count -= got;
    }
}

void reply_u32(struct reply *reply, uint32_t value)
{
    uint8_t bytes[4];
    put_u32(bytes, value);
    reply_append(reply, bytes, sizeof bytes);
}

void reply_u64(struct reply *reply, uint64_t value)
{
    uint8_t bytes[8];
    put_u64(bytes, value);
    reply_append(reply, bytes, sizeof bytes);
}

void reply_text(struct reply *reply, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0)
        reply_append(reply, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

void reply_discard(struct reply *reply)
{
    while (reply->first != NULL) {
        struct piece *piece = reply->first;
        reply->first = piece->next;
        free(piece);
    }
    reply->last = NULL;
}

void reply_send(struct reply *reply)
{
    if (reply->first == NULL && !reply->failed)
        add_piece(reply, 0);
    if (reply->failed) {
        reply_discard(reply);
        struct failure failure = {FAILED, "the agent has no memory for the reply"};
        if (reply->type != FRAME_ERROR)
            reply_failure(reply->id, &failure);
        return;
    }
    for (struct piece *piece = reply->first; piece != NULL; piece = piece->next)
        frame_write_header(piece->frame, reply->type, piece->next != NULL ? FRAME_MORE : 0, reply->id,
                           piece->frame + FRAME_HEADER_BYTES, (uint32_t)piece->bytes);
    port_queue(reply->first);
    reply->first = reply->last = NULL;
}

void reply_failure(uint32_t id, const struct failure *failure)
{
    struct reply reply = {.type = FRAME_ERROR, .id = id};
    uint8_t head[4] = {0};
    put_u16(head, (uint16_t)failure->code);
    reply_append(&reply, head, sizeof head);
    reply_append(&reply, failure->text, strlen(failure->text));
    reply_send(&reply);
}
