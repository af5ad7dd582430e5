/*
 * What the workload writes and how it recognises it: blocks of 4 KiB whose every byte is a function
 * of (block index, generation), shared by writer.c (memory) and disk.c (block device).
 */
#ifndef GODWIT_PATTERN_H
#define GODWIT_PATTERN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_BYTES = 4096, BLOCK_WORDS = BLOCK_BYTES / 8, LANES = 8 };

static const uint64_t BLOCK_MAGIC = 0x746977646f677021u; /* "!pgodwit" */

/* First 32 bytes of a block. `touch` is the only word that touch mode changes. */
struct block_header {
    uint64_t magic;
    uint64_t index;
    uint64_t generation;
    uint64_t touch;
};
enum { HEADER_WORDS = sizeof(struct block_header) / 8 };
_Static_assert(HEADER_WORDS == 4, "content starts at a lane boundary");

/* splitmix64: a well-mixed word from any two numbers. */
static inline uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/*
 * Eight independent xorshift64 streams, one after the other through the block: cheap without
 * multiplication, wide enough for vector instructions, and incompressible. Compressible content
 * repeats the first row instead.
 */
typedef uint64_t lanes_t __attribute__((vector_size(LANES * 8), may_alias));

static inline void first_row(lanes_t *row, uint64_t index, uint64_t generation)
{
    for (int lane = 0; lane < LANES; lane++)
        (*row)[lane] = mix(index * LANES + (uint64_t)lane, generation) | 1;
}

static inline void next_row(lanes_t *row)
{
    *row ^= *row << 13;
    *row ^= *row >> 7;
    *row ^= *row << 17;
}

/* Fills a block. The header takes the place of the first half of the first row. */
static inline void block_write(void *block, uint64_t index, uint64_t generation, uint64_t touch, int compressible)
{
    lanes_t *rows = block;
    lanes_t row;
    first_row(&row, index, generation);
    for (int i = 0; i < BLOCK_WORDS / LANES; i++) {
        rows[i] = row;
        if (!compressible)
            next_row(&row);
    }
    *(struct block_header *)block = (struct block_header){BLOCK_MAGIC, index, generation, touch};
}

/* 1 if every bit of the block is what block_write with these arguments leaves, else 0. */
static inline int block_holds(const void *block, uint64_t index, uint64_t generation, uint64_t touch, int compressible)
{
    const lanes_t *rows = block;
    struct block_header want = {BLOCK_MAGIC, index, generation, touch};
    lanes_t row;
    first_row(&row, index, generation);
    lanes_t differences = rows[0] ^ row;
    for (int lane = 0; lane < HEADER_WORDS; lane++)
        differences[lane] = 0;
    for (int i = 1; i < BLOCK_WORDS / LANES; i++) {
        if (!compressible)
            next_row(&row);
        differences |= rows[i] ^ row;
    }
    uint64_t any = 0;
    for (int lane = 0; lane < LANES; lane++)
        any |= differences[lane];
    return any == 0 && memcmp(block, &want, sizeof want) == 0;
}

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void sleep_until_ns(uint64_t when)
{
    struct timespec at = {(time_t)(when / 1000000000u), (long)(when % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
        ;
}

/* Prints one whole line in one system call, so that lines of two programs do not mix. */
static inline void print_line(const char *line, int bytes)
{
    while (bytes > 0) {
        ssize_t done = write(STDOUT_FILENO, line, (size_t)bytes);
        if (done <= 0)
            exit(1);
        line += done;
        bytes -= (int)done;
    }
}

#define SAY(...)                                                         \
    do {                                                                 \
        char line_[256];                                                 \
        print_line(line_, snprintf(line_, sizeof line_, __VA_ARGS__));   \
    } while (0)

/* The text after `name=` among the arguments, or `fallback`. */
static inline const char *option(char **arguments, const char *name, const char *fallback)
{
    size_t bytes = strlen(name);
    for (char **a = arguments + 1; *a != NULL; a++)
        if (strncmp(*a, name, bytes) == 0 && (*a)[bytes] == '=')
            return *a + bytes + 1;
    return fallback;
}

#endif
