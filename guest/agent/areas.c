/* Sets of address ranges, sorted and apart. They stay small: at most AREAS_MAX, kept in one array. */
#include "agent.h"

#include <stdlib.h>
#include <string.h>

static uint64_t end_of(struct range range) { return range.address + range.bytes; }

static bool make_room(struct areas *areas)
{
    if (areas->count < areas->capacity)
        return true;
    uint32_t capacity = areas->capacity == 0 ? 16 : areas->capacity * 2;
    struct range *ranges = realloc(areas->ranges, capacity * sizeof *ranges);
    if (ranges == NULL)
        return false;
    areas->ranges = ranges;
    areas->capacity = capacity;
    return true;
}

static void remove_at(struct areas *areas, uint32_t at, uint32_t count)
{
    memmove(areas->ranges + at, areas->ranges + at + count, (areas->count - at - count) * sizeof *areas->ranges);
    areas->count -= count;
}

static void insert_at(struct areas *areas, uint32_t at, struct range range)
{
    memmove(areas->ranges + at + 1, areas->ranges + at, (areas->count - at) * sizeof *areas->ranges);
    areas->ranges[at] = range;
    areas->count++;
}

/* What overlaps or touches the new range becomes one with it. */
bool areas_add(struct areas *areas, struct range range)
{
    uint32_t first = 0, last;
    while (first < areas->count && end_of(areas->ranges[first]) < range.address)
        first++;
    for (last = first; last < areas->count && areas->ranges[last].address <= end_of(range); last++)
        ;
    if (first == last && (areas->count == AREAS_MAX || !make_room(areas)))
        return false;
    if (first == last) {
        insert_at(areas, first, range);
        return true;
    }
    uint64_t from = areas->ranges[first].address, to = end_of(areas->ranges[last - 1]);
    from = from < range.address ? from : range.address;
    to = to > end_of(range) ? to : end_of(range);
    areas->ranges[first] = (struct range){from, to - from};
    remove_at(areas, first + 1, last - first - 1);
    return true;
}

/* Must not fail, as what is withdrawn is needed: if a split finds no room, its smaller part goes as well. */
void areas_drop(struct areas *areas, struct range range)
{
    for (uint32_t i = 0; i < areas->count;) {
        struct range *area = &areas->ranges[i];
        uint64_t from = area->address, to = end_of(*area), end = end_of(range);
        if (to <= range.address || from >= end) {
            i++;
            continue;
        }
        uint64_t before = from < range.address ? range.address - from : 0, after = to > end ? to - end : 0;
        if (before > 0 && after > 0 && (areas->count == AREAS_MAX || !make_room(areas))) {
            before = before >= after ? before : 0;
            after = before > 0 ? 0 : after;
        }
        area = &areas->ranges[i];
        if (before == 0 && after == 0) {
            remove_at(areas, i, 1);
            continue;
        }
        *area = before > 0 ? (struct range){from, before} : (struct range){end, after};
        i++;
        if (before > 0 && after > 0)
            insert_at(areas, i++, (struct range){end, after});
    }
}

void areas_clear(struct areas *areas)
{
    free(areas->ranges);
    *areas = (struct areas){0};
}
