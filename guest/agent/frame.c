/*
 * Frames: see frame.h. The port is a byte pipe whose other end is exchanged by a migration, possibly in
 * the middle of a frame, in both directions. So nothing is taken for a frame but the magic with a header
 * whose checksum holds; and a body that is damaged costs the magic only, as a sound frame may have begun
 * inside what was taken for the body.
 */
#include "frame.h"

#include <string.h>

static const uint8_t magic[4] = {'G', 'W', 'A', '1'};

enum { SLICES = 8 };
static uint32_t crc_table[SLICES][256];

__attribute__((constructor)) static void make_crc_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        crc_table[0][byte] = crc;
    }
    for (int slice = 1; slice < SLICES; slice++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t before = crc_table[slice - 1][byte];
            crc_table[slice][byte] = before >> 8 ^ crc_table[0][before & 255];
        }
}

/* Eight bytes a step: replies of a megabyte are common, and byte by byte would be slower than the port. */
uint32_t crc32_more(uint32_t crc, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    crc = ~crc;
    for (; count >= SLICES; count -= SLICES, at += SLICES) {
        uint32_t low = get_u32(at) ^ crc, high = get_u32(at + 4);
        crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^
              crc_table[4][low >> 24] ^ crc_table[3][high & 255] ^ crc_table[2][high >> 8 & 255] ^
              crc_table[1][high >> 16 & 255] ^ crc_table[0][high >> 24];
    }
    while (count-- > 0)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *at++) & 255];
    return ~crc;
}

void frame_write_header(uint8_t header[FRAME_HEADER_BYTES], uint8_t type, uint8_t flags, uint32_t id,
                        const uint8_t *body, uint32_t body_bytes)
{
    memcpy(header, magic, sizeof magic);
    header[4] = type;
    header[5] = flags;
    put_u16(header + 6, 0);
    put_u32(header + 8, id);
    put_u32(header + 12, body_bytes);
    put_u32(header + 16, crc32_more(0, body, body_bytes));
    put_u32(header + 20, crc32_more(0, header, 20));
}

uint8_t *frame_reader_room(struct frame_reader *reader, size_t *room)
{
    if (reader->from > 0) {
        memmove(reader->bytes, reader->bytes + reader->from, reader->to - reader->from);
        reader->to -= reader->from;
        reader->from = 0;
    }
    *room = sizeof reader->bytes - reader->to;
    return reader->bytes + reader->to;
}

void frame_reader_fill(struct frame_reader *reader, size_t count) { reader->to += count; }

static void drop(struct frame_reader *reader, size_t count)
{
    reader->from += count;
    reader->dropped += count;
}

/* Goes on to the first place where a magic is, or where its beginning is the last that has come. */
static void seek_magic(struct frame_reader *reader)
{
    while (reader->from < reader->to) {
        const uint8_t *at = reader->bytes + reader->from;
        size_t left = reader->to - reader->from;
        const uint8_t *found = memchr(at, magic[0], left);
        drop(reader, found == NULL ? left : (size_t)(found - at));
        if (found == NULL)
            return;
        left = reader->to - reader->from;
        if (memcmp(found, magic, left < sizeof magic ? left : sizeof magic) == 0)
            return;
        drop(reader, 1);
    }
}

int frame_reader_next(struct frame_reader *reader, struct frame *frame)
{
    for (;;) {
        seek_magic(reader);
        size_t left = reader->to - reader->from;
        const uint8_t *at = reader->bytes + reader->from;
        if (left < FRAME_HEADER_BYTES)
            return 0;
        uint32_t body_bytes = get_u32(at + 12);
        if (get_u32(at + 20) != crc32_more(0, at, 20) || body_bytes > REQUEST_BODY_MAX) {
            drop(reader, sizeof magic);
            continue;
        }
        if (left < FRAME_HEADER_BYTES + body_bytes)
            return 0;
        if (get_u32(at + 16) != crc32_more(0, at + FRAME_HEADER_BYTES, body_bytes)) {
            drop(reader, sizeof magic);
            continue;
        }
        *frame = (struct frame){at[4], at[5], get_u32(at + 8), body_bytes, at + FRAME_HEADER_BYTES};
        reader->from += FRAME_HEADER_BYTES + body_bytes;
        return 1;
    }
}

void frame_reader_drop_partial(struct frame_reader *reader)
{
    if (reader->from < reader->to)
        drop(reader, 1);
}
