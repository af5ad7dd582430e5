/*
 * Frames on the port between host and agent: pure functions over bytes, compiled into the agent and into
 * the check of the golden frames. The layout is in docs/protocols/agent.md. All integers little-endian.
 */
#ifndef GODWIT_FRAME_H
#define GODWIT_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum {
    FRAME_HEADER_BYTES = 24,
    REQUEST_BODY_MAX = 4072,
    REPLY_BODY_MAX = 65512,
    FRAME_MORE = 1, /* flag: more frames of this reply follow */
    FRAME_REPLY = 0x80,
    FRAME_ERROR = 0x7f,
};

struct frame {
    uint8_t type;
    uint8_t flags;
    uint32_t id;
    uint32_t body_bytes;
    const uint8_t *body;
};

/* Finds frames in what arrives, whatever else arrives: see frame_reader_next. Zero it before use. */
struct frame_reader {
    size_t from, to;   /* what is not consumed yet: bytes[from, to) */
    uint64_t dropped;  /* bytes that belonged to no frame, since the beginning */
    uint8_t bytes[2 * (FRAME_HEADER_BYTES + REQUEST_BODY_MAX)];
};

/* zlib's CRC-32. `crc` is 0, or the result for the bytes before. */
uint32_t crc32_more(uint32_t crc, const void *bytes, size_t count);

void frame_write_header(uint8_t header[FRAME_HEADER_BYTES], uint8_t type, uint8_t flags, uint32_t id,
                        const uint8_t *body, uint32_t body_bytes);

/* Where to put bytes that arrive and how many; then tell how many there were. Never 0 after frame_reader_next. */
uint8_t *frame_reader_room(struct frame_reader *reader, size_t *room);
void frame_reader_fill(struct frame_reader *reader, size_t count);

/* 1: a sound frame, whose body stays valid until the next call with this reader. 0: more bytes are needed. */
int frame_reader_next(struct frame_reader *reader, struct frame *frame);

/* Gives up the frame whose rest does not come, and looks for others inside what has come of it. */
void frame_reader_drop_partial(struct frame_reader *reader);

static inline uint16_t get_u16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static inline uint32_t get_u32(const uint8_t *at) { return get_u16(at) | (uint32_t)get_u16(at + 2) << 16; }
static inline uint64_t get_u64(const uint8_t *at) { return get_u32(at) | (uint64_t)get_u32(at + 4) << 32; }

static inline void put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void put_u32(uint8_t *at, uint32_t value)
{
    put_u16(at, (uint16_t)value);
    put_u16(at + 2, (uint16_t)(value >> 16));
}

static inline void put_u64(uint8_t *at, uint64_t value)
{
    put_u32(at, (uint32_t)value);
    put_u32(at + 4, (uint32_t)(value >> 32));
}

#endif
