/*
 * godwit-writer: dirties memory at a set rate and proves, all the time, that none of it is lost or stale.
 *
 * Every page of the region has an entry in a table that says what was written to it last. A page is
 * checked against its entry before it is written again, and a sweep over the whole region checks all
 * of them every few seconds. What can go wrong in a migration is caught thus:
 *
 *   a page's newest content is lost        page and entry differ
 *   a page of the table is stale           page and entry differ, the other way round
 *   both are stale in a matching way       the table's generations no longer add up to `writes`
 *   a byte is damaged anywhere             page content or the entry's own checksum is wrong
 *
 * Arguments, name=value:
 *   mb       size of the region, MiB (64)          hot     part of it that is written, MiB (all)
 *   rate     MB of pages written a second (0: only check; "max": as fast as it goes)
 *   mode     full | touch: rewrite whole pages, or one word of each
 *   order    seq | random: which page is next
 *   content  random | compressible
 *   sweep    MB checked a second (a fourth of mb, at least 8)
 *   tickms   time between lines, ms (250)
 *   plant    after 3 s: 1 flip one byte, 2 put back an old copy of a page, 3 of a page and its entry
 *
 * Prints `godwit-guest tick N ok pages-written W sweeps S`, or, from the first error on and for ever,
 * `godwit-guest CORRUPT ...`.
 */
#include "pattern.h"

#include <sys/mman.h>

enum { SLICE_NS = 5000000, MAX_SLICES_BEHIND = 10, PLANT_AFTER_MS = 3000 };

/* What a page holds. `check` covers the rest, so that a damaged table is told from a damaged page. */
struct entry {
    uint32_t generation;
    uint32_t touch;
    uint64_t check;
};
_Static_assert(sizeof(struct entry) == 16, "256 entries a page");

/* fixed after start */
static unsigned char *region;
static struct entry *table;
static uint64_t pages, hot_pages;
static int touch_mode, random_order, compressible;

/* state */
static uint64_t writes;       /* since the first fill; equals the sum of what the table says */
static uint64_t sweeps;       /* full passes over region and table */
static uint64_t next_checked; /* page the sweep is at */
static char corrupt[160]; /* the first error found; empty while all is well */

static uint64_t entry_check(uint64_t page, uint32_t generation, uint32_t touch)
{
    return mix(page ^ 0x5bd1e995u, (uint64_t)generation << 32 | touch);
}

static void set_entry(uint64_t page, uint32_t generation, uint32_t touch)
{
    table[page] = (struct entry){generation, touch, entry_check(page, generation, touch)};
}

static unsigned char *page_at(uint64_t page) { return region + page * BLOCK_BYTES; }

/* Keeps the first error only: what comes later is often a consequence of it. */
#define CORRUPT(...)                                          \
    do {                                                      \
        if (corrupt[0] == 0)                                  \
            snprintf(corrupt, sizeof corrupt, __VA_ARGS__);   \
    } while (0)

static void report_page(uint64_t page, struct entry want)
{
    struct block_header found = *(struct block_header *)page_at(page);
    int sound = found.magic == BLOCK_MAGIC && found.index == page;
    CORRUPT("page %llu expected generation %u.%u found generation %llu.%llu%s", (unsigned long long)page,
            want.generation, want.touch, (unsigned long long)found.generation, (unsigned long long)found.touch,
            !sound ? " (header damaged)" : found.generation == want.generation ? " (content damaged)" : "");
}

/* Checks the whole page, or in touch mode (`quick`) its header only, against its entry. */
static void check_page(uint64_t page, int quick)
{
    struct entry want = table[page];
    if (want.check != entry_check(page, want.generation, want.touch)) {
        CORRUPT("page %llu expected a sound table entry found %u.%u with a wrong check", (unsigned long long)page,
                want.generation, want.touch);
        return;
    }
    struct block_header header = {BLOCK_MAGIC, page, want.generation, want.touch};
    if (quick ? memcmp(page_at(page), &header, sizeof header) != 0
              : !block_holds(page_at(page), page, want.generation, want.touch, compressible))
        report_page(page, want);
}

/* Every write adds one to an entry, so the entries add up to the writes. */
static void check_total(void)
{
    uint64_t total = 0;
    for (uint64_t page = 0; page < pages; page++)
        total += (uint64_t)table[page].generation - 1 + table[page].touch;
    if (total != writes)
        CORRUPT("page table expected %llu writes found %llu", (unsigned long long)writes, (unsigned long long)total);
}

static void write_next_page(void)
{
    uint64_t page = (random_order ? mix(writes, 1) : writes) % hot_pages;
    struct entry old = table[page];
    check_page(page, touch_mode);
    if (touch_mode) {
        ((struct block_header *)page_at(page))->touch = old.touch + 1;
        set_entry(page, old.generation, old.touch + 1);
    } else {
        block_write(page_at(page), page, old.generation + 1, old.touch, compressible);
        set_entry(page, old.generation + 1, old.touch);
    }
    writes++;
}

static void sweep_next_page(void)
{
    check_page(next_checked, 0);
    next_checked++;
    if (next_checked < pages)
        return;
    next_checked = 0;
    check_total();
    sweeps++;
}

/* Damages the region on purpose: the test of the test. Called once a tick. */
static void plant(int kind, uint64_t elapsed_ms)
{
    static unsigned char old_page[BLOCK_BYTES];
    static struct entry old_entry;
    static int kept, done;
    uint64_t page = hot_pages / 2;
    if (kind == 0 || done || elapsed_ms < PLANT_AFTER_MS)
        return;
    if (kind == 1) {
        page_at(page)[1234] ^= 1;
        done = 1;
    } else if (!kept) {
        memcpy(old_page, page_at(page), BLOCK_BYTES);
        old_entry = table[page];
        kept = 1;
    } else if (table[page].check != old_entry.check) {
        memcpy(page_at(page), old_page, BLOCK_BYTES);
        if (kind == 3)
            table[page] = old_entry;
        done = 1;
    }
}

static void print_tick(void)
{
    static unsigned long long tick;
    tick++;
    if (corrupt[0] != 0)
        SAY("godwit-guest CORRUPT %s (tick %llu)\n", corrupt, tick);
    else
        SAY("godwit-guest tick %llu ok pages-written %llu sweeps %llu\n", tick, (unsigned long long)writes,
            (unsigned long long)sweeps);
}

/*
 * Pages due since the last slice, at `bytes_per_second`; what a slice cannot finish is carried over in
 * `debt`, but a long stop (the VM was paused) is forgotten rather than made up for in one burst.
 */
static uint64_t pages_due(uint64_t *debt, uint64_t elapsed_ns, uint64_t bytes_per_second)
{
    if (elapsed_ns > (uint64_t)SLICE_NS * MAX_SLICES_BEHIND)
        elapsed_ns = (uint64_t)SLICE_NS * MAX_SLICES_BEHIND;
    *debt += elapsed_ns * (bytes_per_second / 1000) / 1000000;
    uint64_t due = *debt / BLOCK_BYTES;
    *debt %= BLOCK_BYTES;
    return due;
}

static void *reserve(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        SAY("godwit-guest FAILED no memory for %llu bytes: choose godwit.mb well below the VM's memory\n",
            (unsigned long long)bytes);
        exit(2);
    }
    return memory;
}

static void run(uint64_t write_rate, int flat_out, uint64_t sweep_rate, uint64_t tick_ns, int planted)
{
    uint64_t start = now_ns(), last = start, slice = start, tick = start + tick_ns;
    uint64_t write_debt = 0, sweep_debt = 0;
    for (;;) {
        uint64_t now = now_ns(), elapsed = now - last;
        last = now;
        for (uint64_t due = pages_due(&write_debt, elapsed, write_rate); due > 0; due--)
            write_next_page();
        for (uint64_t due = pages_due(&sweep_debt, elapsed, sweep_rate); due > 0; due--)
            sweep_next_page();
        while (flat_out && now_ns() < now + SLICE_NS)
            for (int i = 0; i < 16; i++)
                write_next_page();
        if (now >= tick) {
            plant(planted, (now - start) / 1000000);
            print_tick();
            tick += tick_ns;
            if (tick <= now)
                tick = now + tick_ns;
        }
        slice = slice + (uint64_t)SLICE_NS * MAX_SLICES_BEHIND < now ? now : slice + SLICE_NS;
        if (!flat_out)
            sleep_until_ns(slice);
    }
}

int main(int count, char **arguments)
{
    (void)count;
    uint64_t mb = strtoull(option(arguments, "mb", "64"), NULL, 10);
    uint64_t hot = strtoull(option(arguments, "hot", "0"), NULL, 10);
    const char *rate = option(arguments, "rate", "0");
    uint64_t sweep = strtoull(option(arguments, "sweep", "0"), NULL, 10);
    uint64_t tick_ms = strtoull(option(arguments, "tickms", "250"), NULL, 10);
    int planted = atoi(option(arguments, "plant", "0"));
    touch_mode = strcmp(option(arguments, "mode", "full"), "touch") == 0;
    random_order = strcmp(option(arguments, "order", "seq"), "random") == 0;
    compressible = strcmp(option(arguments, "content", "random"), "compressible") == 0;
    mb = mb == 0 ? 1 : mb;
    sweep = sweep != 0 ? sweep : mb / 4 > 8 ? mb / 4 : 8;
    pages = mb * 1048576 / BLOCK_BYTES;
    hot_pages = hot == 0 || hot > mb ? pages : hot * 1048576 / BLOCK_BYTES;
    region = reserve(pages * BLOCK_BYTES);
    table = reserve(pages * sizeof *table);
    uint64_t begin = now_ns();
    for (uint64_t page = 0; page < pages; page++) {
        block_write(page_at(page), page, 1, 0, compressible);
        set_entry(page, 1, 0);
    }
    SAY("godwit-guest writer mb %llu rate %s filled in %llu ms\n", (unsigned long long)mb, rate,
        (unsigned long long)((now_ns() - begin) / 1000000));
    tick_ms = tick_ms == 0 ? 250 : tick_ms;
    run(strtoull(rate, NULL, 10) * 1000000, strcmp(rate, "max") == 0, sweep * 1000000, tick_ms * 1000000, planted);
}
