/*
 * A program in a guest that takes part in migrations (docs/protocols/assist.md), soundly or not, and watches over its area.
 *
 *   assist-victim MODE [NUMBER]
 *
 *   sound    keeps the contract
 *   mute     never answers `prepare`
 *   eager    says ready without having been asked, and goes on using its area; never when it is asked
 *   stranger declares what is not its memory: the kernel's, its own text, and what lies at NUMBER, another process's
 *   huge     declares 64 GiB
 *   babbler  sends noise, and more of it each time that it is told something
 *   changer  says ready, and then has shared memory where its area was
 *   impostor has a library named like that of Java VMs
 *   trace    no area: traces process NUMBER, without stopping it
 *
 * Four times a second "godwit-guest area N ok", when all of the area was found as it should be, and a line for all that it is
 * told. "godwit-guest CORRUPT area ...", for ever, once a page holds neither what was written nor, if it had said ready, zeros, or
 * if the agent took what it had to refuse.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, PAGE_WORDS = 512, PAGES = 256, TICK_MS = 250, LOOK_MS = 10, NOISE_BYTES = 1 << 16 };
static const uint64_t huge_bytes = 64ull << 30;

static const char *mode, *number = "0";
static uint64_t *area;
static int agent = -1;
static int gave_up;    /* said ready: not used before it is over */
static int may_be_zero;
static char expected[64]; /* for each line that was sent and not answered yet: o(k), e(rror), or a(ny) */
static char corrupt[128];

static int is(const char *name) { return strcmp(mode, name) == 0; }

/* In one system call, so that lines of two programs do not mix. */
static void print(const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (write(STDOUT_FILENO, line, (size_t)bytes) != bytes)
        exit(1);
}

static uint64_t content(uint64_t page, uint64_t word) { return (page << 16 | word) * 0x9e3779b97f4a7c15u | 1; }

static void fill(uint64_t page)
{
    for (uint64_t word = 0; word < PAGE_WORDS; word++)
        area[page * PAGE_WORDS + word] = content(page, word);
}

static void look(void)
{
    static const char zeros[PAGE_BYTES];
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t *at = area + page * PAGE_WORDS, word = 0;
        while (word < PAGE_WORDS && at[word] == content(page, word))
            word++;
        if (word == PAGE_WORDS)
            continue;
        if (!may_be_zero || memcmp(at, zeros, PAGE_BYTES) != 0)
            snprintf(corrupt, sizeof corrupt, "page %llu", (unsigned long long)page);
        fill(page);
    }
    may_be_zero = 0;
}

static void tell(char answer, const char *format, ...)
{
    char line[128];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    size_t waiting = strlen(expected);
    if (waiting + 1 < sizeof expected)
        expected[waiting] = answer, expected[waiting + 1] = 0;
    if (send(agent, line, (size_t)bytes, MSG_NOSIGNAL) < 0)
        print("godwit-guest area cannot tell: %s\n", strerror(errno));
}

static void babble(void)
{
    static unsigned char noise[NOISE_BYTES];
    static uint32_t state = 1;
    for (int i = 0; i < NOISE_BYTES; i++)
        noise[i] = (unsigned char)((state = state * 1103515245u + 12345u) >> 24);
    if (send(agent, noise, sizeof noise, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        print("godwit-guest area babbles no more: %s\n", strerror(errno));
}

static void declare(void *address, uint64_t bytes, char answer)
{
    tell(answer, "area 0x%llx 0x%llx\n", (unsigned long long)(uintptr_t)address, (unsigned long long)bytes);
}

/* The agent may have been killed and started again: the area is declared anew. */
static void join(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/godwit/assist.sock"};
    agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (agent < 0 || connect(agent, (struct sockaddr *)&address, sizeof address) != 0) {
        close(agent);
        agent = -1;
        return;
    }
    expected[0] = 0;
    declare(area, PAGES * PAGE_BYTES, 'o');
    if (is("eager"))
        tell('e', "ready\n"), tell('e', "ready\n");
    if (is("stranger")) {
        declare((void *)(uintptr_t)0xffffffff81000000u, 1 << 20, 'e');
        declare((void *)((uintptr_t)join & ~(uintptr_t)(PAGE_BYTES - 1)), PAGE_BYTES, 'e');
        declare((void *)(uintptr_t)strtoull(number, NULL, 0), 1 << 20, 'e');
    }
    if (is("huge"))
        declare(mmap(NULL, huge_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                huge_bytes, 'o');
    if (is("babbler"))
        babble();
}

static void prepare(void)
{
    if (is("mute") || is("eager"))
        return;
    gave_up = may_be_zero = 1;
    /* Too late, if we were stopped meanwhile. */
    tell('a', "ready\n");
    if (!is("changer"))
        return;
    void *shared = mmap(area, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (shared == MAP_FAILED)
        exit(1);
    for (uint64_t page = 0; page < PAGES; page++)
        fill(page);
    may_be_zero = 0;
}

static void heard(const char *line)
{
    if (strncmp(line, "ok", 2) == 0 || strncmp(line, "error", 5) == 0) {
        if (expected[0] != line[0] && expected[0] != 'a' && !is("babbler"))
            snprintf(corrupt, sizeof corrupt, "the agent answers %.60s", line);
        memmove(expected, expected + 1, sizeof expected - 1);
        return;
    }
    print("godwit-guest area told %s\n", line);
    if (is("babbler"))
        babble();
    if (strncmp(line, "prepare", 7) == 0)
        prepare();
    else if (strncmp(line, "begin", 5) != 0)
        gave_up = 0;
}

static void listen_for(int ms)
{
    static char text[1024];
    static size_t bytes;
    struct timeval patience = {.tv_usec = ms * 1000};
    setsockopt(agent, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t got = recv(agent, text + bytes, sizeof text - bytes, 0);
    /* Who waits with a time-out is interrupted also by being stopped. */
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        /* As good as `abort`. */
        close(agent);
        agent = -1;
        gave_up = 0;
        bytes = 0;
        return;
    }
    bytes += (size_t)got;
    char *line = text, *end;
    while ((end = memchr(line, '\n', bytes - (size_t)(line - text))) != NULL) {
        *end = 0;
        heard(line);
        line = end + 1;
    }
    bytes -= (size_t)(line - text);
    memmove(text, line, bytes);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void look_like_a_jvm(void)
{
    int file = open("/tmp/libjvm.so", O_RDWR | O_CREAT | O_CLOEXEC, 0755);
    if (ftruncate(file, PAGE_BYTES) != 0 ||
        mmap(NULL, PAGE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED)
        exit(1);
    close(file);
}

int main(int count, char **arguments)
{
    mode = count > 1 ? arguments[1] : "sound";
    number = count > 2 ? arguments[2] : number;
    if (is("trace")) {
        if (ptrace(PTRACE_SEIZE, atoi(number), NULL, NULL) != 0)
            return 1;
        for (;;)
            pause();
    }
    if (is("impostor"))
        look_like_a_jvm();
    area = mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return 1;
    for (uint64_t page = 0; page < PAGES; page++)
        fill(page);
    int64_t due_ms = now_ms();
    for (unsigned tick = 1;;) {
        if (agent < 0)
            join();
        if (agent >= 0)
            listen_for(LOOK_MS);
        else
            usleep(LOOK_MS * 1000);
        if (gave_up || now_ms() < due_ms)
            continue;
        due_ms = now_ms() + TICK_MS;
        look();
        if (corrupt[0] != 0)
            print("godwit-guest CORRUPT area %s\n", corrupt);
        else
            print("godwit-guest area %u ok %s\n", tick++, mode);
    }
}
