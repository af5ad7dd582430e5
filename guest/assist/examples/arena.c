/*
 * The least that a C program does to assist, with the helper thread. cache-server.c is the same with an event loop and a use.
 *
 *   gcc -O2 -pthread -o arena guest/assist/examples/arena.c && ./arena
 *
 * It keeps results of a slow computation in an arena. A slot that is zero is one that is not computed yet, so memory that has become
 * zero is slow, never wrong. A lock keeps the arena still between `prepare` and the end of the migration.
 */
#define _GNU_SOURCE
#define GODWIT_ASSIST_IMPLEMENTATION
#define GODWIT_ASSIST_THREADS
#include "../c/godwit-assist.h"

#include <sys/mman.h>

enum { SLOTS = 8 << 20 };

static uint64_t *arena;
static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER;
static int kept_still; /* the helper thread's: it holds the lock */

/* Never 0, and the same for the same number at any time. */
static uint64_t compute(uint64_t number)
{
    for (int i = 0; i < 1000; i++)
        number = number * 6364136223846793005u + 1442695040888963407u;
    return number | 1;
}

static uint64_t lookup(uint64_t number)
{
    pthread_mutex_lock(&in_use);
    uint64_t *slot = &arena[number % SLOTS];
    if (*slot == 0)
        *slot = compute(number % SLOTS);
    uint64_t result = *slot;
    pthread_mutex_unlock(&in_use);
    return result;
}

/* The helper thread takes the lock and keeps it: lookup() waits meanwhile. */
static int prepare(unsigned deadline_ms, void *user)
{
    (void)user;
    printf("prepare within %u ms\n", deadline_ms);
    if (!kept_still)
        pthread_mutex_lock(&in_use);
    kept_still = 1;
    return GODWIT_ASSIST_READY;
}

/* May come without `prepare`, if the migration ends before that. */
static void end(void *user)
{
    (void)user;
    if (kept_still)
        pthread_mutex_unlock(&in_use);
    kept_still = 0;
    puts("goes on");
}

static void trouble(const char *text, void *user) { (void)user, fprintf(stderr, "assistance: %s\n", text); }

int main(void)
{
    struct godwit_assist_callbacks callbacks = {NULL, prepare, end, end, trouble};
    setvbuf(stdout, NULL, _IOLBF, 0);
    arena = mmap(NULL, SLOTS * sizeof *arena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED)
        return 1;
    struct godwit_assist *assist = godwit_assist_open("arena-c", &callbacks, NULL);
    if (assist == NULL || godwit_assist_area(assist, arena, SLOTS * sizeof *arena) != 0 ||
        godwit_assist_start_thread(assist) != 0)
        return 1;
    for (uint64_t number = 0;; number += 7919) {
        if (lookup(number) != compute(number % SLOTS)) {
            puts("WRONG");
            return 1;
        }
        if (number % 101 == 0)
            usleep(1000);
    }
}
