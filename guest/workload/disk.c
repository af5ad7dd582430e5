/*
 * godwit-disk: writes blocks to a block device past the page cache and reads them back with a check.
 * A process of its own, so that a slow or held disk does not stop the memory writer's ticks.
 *
 * Uses the first `mb` MiB (8) of `device` (/dev/vda) in chunks of 64 KiB. Every `tickms` (250) writes
 * the next chunk, reads one written earlier, and prints
 *   `godwit-guest disk N ok writes W reads R ms T` (T: how long write and read took) or for ever after
 *   `godwit-guest CORRUPT disk chunk C expected generation G`.
 * With sync=1 each write is followed by fdatasync.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include "pattern.h"

#include <fcntl.h>

enum { CHUNK_BYTES = 65536, CHUNK_BLOCKS = CHUNK_BYTES / BLOCK_BYTES, CHUNKS_MAX = 65536 };

static unsigned char buffer[CHUNK_BYTES] __attribute__((aligned(BLOCK_BYTES)));
static uint32_t generations[CHUNKS_MAX]; /* what each chunk holds; 0: not written by us yet */

static int fail(const char *what)
{
    SAY("godwit-guest FAILED disk: %s: %m\n", what);
    return 2;
}

static int chunk_write(int disk, uint64_t chunk, int sync)
{
    uint32_t generation = ++generations[chunk];
    for (uint64_t i = 0; i < CHUNK_BLOCKS; i++)
        block_write(buffer + i * BLOCK_BYTES, chunk * CHUNK_BLOCKS + i, generation, 0, 0);
    if (pwrite(disk, buffer, CHUNK_BYTES, (off_t)(chunk * CHUNK_BYTES)) != CHUNK_BYTES)
        return fail("write");
    return sync && fdatasync(disk) != 0 ? fail("fdatasync") : 0;
}

/* 0: holds what was written; 1: does not; 2: cannot read. */
static int chunk_check(int disk, uint64_t chunk)
{
    memset(buffer, 0, sizeof buffer);
    if (pread(disk, buffer, CHUNK_BYTES, (off_t)(chunk * CHUNK_BYTES)) != CHUNK_BYTES)
        return fail("read");
    for (uint64_t i = 0; i < CHUNK_BLOCKS; i++)
        if (!block_holds(buffer + i * BLOCK_BYTES, chunk * CHUNK_BLOCKS + i, generations[chunk], 0, 0))
            return 1;
    return 0;
}

int main(int count, char **arguments)
{
    (void)count;
    uint64_t tick_ns = strtoull(option(arguments, "tickms", "250"), NULL, 10) * 1000000;
    uint64_t chunks = strtoull(option(arguments, "mb", "8"), NULL, 10) * 1048576 / CHUNK_BYTES;
    int sync = atoi(option(arguments, "sync", "0"));
    int disk = open(option(arguments, "device", "/dev/vda"), O_RDWR | O_DIRECT);
    if (disk < 0)
        return fail("open");
    if (chunks == 0 || chunks > CHUNKS_MAX)
        chunks = 128;
    uint64_t next = now_ns(), bad = 0;
    for (uint64_t tick = 1;; tick++) {
        uint64_t begin = now_ns(), chunk = tick % chunks, read_chunk = mix(tick, 1) % chunks;
        if (chunk_write(disk, chunk, sync) != 0)
            return 2;
        if (generations[read_chunk] == 0)
            read_chunk = chunk;
        int result = bad != 0 ? 1 : chunk_check(disk, read_chunk);
        if (result == 2)
            return 2;
        if (result == 1 && bad == 0)
            bad = read_chunk + 1;
        if (bad != 0)
            SAY("godwit-guest CORRUPT disk chunk %llu expected generation %u\n", (unsigned long long)(bad - 1),
                generations[bad - 1]);
        else
            SAY("godwit-guest disk %llu ok writes %llu reads %llu ms %llu\n", (unsigned long long)tick,
                (unsigned long long)tick, (unsigned long long)tick,
                (unsigned long long)((now_ns() - begin) / 1000000));
        next += tick_ns;
        if (next < now_ns())
            next = now_ns();
        sleep_until_ns(next);
    }
}
