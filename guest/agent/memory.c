/* Memory of other processes: reading, writing, and the frames behind it. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_BYTES_MAX = 1 << 20, ENTRIES = 8192, RUN_PAGES_MAX = 65535 };
/* Bounds the reply (2 MiB when every other page is there) and the time for which nothing else is done. */
static const uint64_t frames_bytes_max = 1ULL << 30;

bool memory_sees_frames;
static uint64_t zero_frame;

static int open_pagemap(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Reads a page of its own that was never written to: what the kernel maps there is its page of zeros. */
void memory_setup(void)
{
    volatile uint8_t *page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open_pagemap(getpid());
    uint64_t entry = 0;
    if (page != MAP_FAILED && page[0] == 0 && fd >= 0 &&
        pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)page / PAGE_BYTES * sizeof entry)) == sizeof entry &&
        (entry & PAGEMAP_PRESENT))
        zero_frame = entry & PAGEMAP_FRAME; /* 0 without CAP_SYS_ADMIN */
    memory_sees_frames = zero_frame != 0;
    if (fd >= 0)
        close(fd);
    if (page != MAP_FAILED)
        munmap((void *)page, PAGE_BYTES);
}

bool pagemap_is_zero_page(uint64_t entry)
{
    return zero_frame != 0 && (entry & PAGEMAP_PRESENT) && (entry & PAGEMAP_FRAME) == zero_frame;
}

bool memory_peek(pid_t pid, uint64_t address, void *bytes, size_t count)
{
    struct iovec local = {bytes, count}, remote = {(void *)(uintptr_t)address, count};
    return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)count;
}

static bool read_range(pid_t pid, struct range range, struct reply *reply)
{
    while (range.bytes > 0) {
        size_t room;
        uint8_t *space = reply_space(reply, range.bytes, &room);
        if (space == NULL)
            return true; /* reply_send tells */
        if (!memory_peek(pid, range.address, space, room))
            return false;
        reply_added(reply, room);
        range.address += room;
        range.bytes -= room;
    }
    return true;
}

bool memory_read(pid_t pid, const struct range *ranges, uint32_t count, struct reply *reply, struct failure *failure)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += ranges[i].bytes;
    if (total > READ_BYTES_MAX)
        return fail(failure, BAD_REQUEST, "%llu bytes to read, at most %d", (unsigned long long)total, READ_BYTES_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (!read_range(pid, ranges[i], reply)) {
            int error = errno;
            return fail(failure, error == ESRCH ? GONE : UNREADABLE, "range %u: %llu bytes at 0x%llx: %s", i,
                        (unsigned long long)ranges[i].bytes, (unsigned long long)ranges[i].address, strerror(error));
        }
    return true;
}

/* Adjacent frames as runs, in the order of the pages. */
struct runs {
    struct reply *reply;
    uint64_t first, pages; /* the run that is not written yet */
    uint64_t digest, present, absent;
};

static void runs_flush(struct runs *runs)
{
    uint8_t bytes[8];
    if (runs->pages == 0)
        return;
    put_u32(bytes, (uint32_t)runs->first);
    put_u16(bytes + 4, (uint16_t)(runs->first >> 32));
    put_u16(bytes + 6, (uint16_t)runs->pages);
    reply_append(runs->reply, bytes, sizeof bytes);
    runs->digest = (runs->digest ^ get_u64(bytes)) * 0x9e3779b97f4a7c15u;
    runs->digest ^= runs->digest >> 29;
    runs->pages = 0;
}

static void runs_add(struct runs *runs, uint64_t entry)
{
    uint64_t frame = entry & PAGEMAP_FRAME;
    if (!(entry & PAGEMAP_PRESENT) || pagemap_is_zero_page(entry)) {
        runs->absent++;
        return;
    }
    runs->present++;
    if (runs->pages > 0 && (frame != runs->first + runs->pages || runs->pages == RUN_PAGES_MAX))
        runs_flush(runs);
    if (runs->pages == 0)
        runs->first = frame;
    runs->pages++;
}

/* Only pages that lie in the range with all their bytes: what shares a page with them is still needed. */
static bool frames_of_range(int fd, struct range range, struct runs *runs)
{
    static uint64_t entries[ENTRIES];
    uint64_t page = (range.address + PAGE_BYTES - 1) / PAGE_BYTES, end = (range.address + range.bytes) / PAGE_BYTES;
    while (page < end) {
        uint64_t count = end - page < ENTRIES ? end - page : ENTRIES;
        ssize_t got = pread(fd, entries, count * sizeof entries[0], (off_t)(page * sizeof entries[0]));
        if (got < 0)
            return false;
        if (got == 0) { /* past the end of what a process can have */
            runs->absent += end - page;
            return true;
        }
        count = (uint64_t)got / sizeof entries[0];
        for (uint64_t i = 0; i < count; i++)
            runs_add(runs, entries[i]);
        page += count;
    }
    return true;
}

bool memory_frames(pid_t pid, uint64_t known_digest, const struct range *ranges, uint32_t count, struct reply *reply,
                   struct failure *failure)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ranges[i].address + ranges[i].bytes < ranges[i].address || ranges[i].bytes > frames_bytes_max)
            return fail(failure, BAD_REQUEST, "range %u is too long", i);
        total += ranges[i].bytes;
    }
    if (total > frames_bytes_max)
        return fail(failure, BAD_REQUEST, "%llu bytes, at most %llu", (unsigned long long)total,
                    (unsigned long long)frames_bytes_max);
    if (!memory_sees_frames)
        return fail(failure, DENIED, "the agent may not see frames: it needs CAP_SYS_ADMIN");
    int fd = open_pagemap(pid);
    if (fd < 0)
        return fail(failure, errno == ENOENT ? GONE : DENIED, "pagemap of process %d: %m", pid);
    struct runs runs = {.reply = reply, .digest = 0x6c62272e07bb0142u};
    for (int i = 0; i < 3; i++)
        reply_u64(reply, 0);
    bool good = true;
    for (uint32_t i = 0; good && i < count; i++)
        good = frames_of_range(fd, ranges[i], &runs);
    int error = errno;
    close(fd);
    if (!good)
        return fail(failure, UNREADABLE, "pagemap of process %d: %s", pid, strerror(error));
    runs_flush(&runs);
    runs.digest = (runs.digest ^ runs.present << 32 ^ runs.absent) | 1; /* never 0: that is "none known" */
    if (reply->failed)
        return true;
    if (runs.digest == known_digest) {
        reply_discard(reply);
        for (int i = 0; i < 3; i++)
            reply_u64(reply, 0);
    }
    uint8_t *head = reply->first->frame + FRAME_HEADER_BYTES;
    put_u64(head, runs.digest);
    put_u64(head + 8, runs.present);
    put_u64(head + 16, runs.absent);
    return true;
}

bool memory_write(pid_t pid, uint64_t address, const uint8_t *bytes, uint32_t count, struct failure *failure)
{
    struct range range = {address, count};
    struct iovec local = {(void *)(uintptr_t)bytes, count}, remote = {(void *)(uintptr_t)address, count};
    if (!maps_cover(pid, &range, 1, PRIVATE_WRITABLE, failure))
        return false;
    ssize_t done = process_vm_writev(pid, &local, 1, &remote, 1, 0);
    if (done != (ssize_t)count)
        return fail(failure, FAILED, "wrote %zd of %u bytes at 0x%llx: %m", done, count, (unsigned long long)address);
    return true;
}
