/*
 * A process for the agent's tests to look at, freeze and scrub. Prints where its things are, then obeys the
 * lines of its standard input, one answer a line:
 *
 *   fill OFFSET BYTES VALUE      sets bytes of the region; touch: reads them instead (one a page)
 *   active VALUE, count VALUE    sets the two words
 *   cycle ACTIVEUS IDLEUS        a thread that raises the count and is active, then idle, for ever
 *   threads N                    N more threads that do nothing
 *   watch                        a thread that writes all pages and checks them, for ever; asked again: the
 *                                number of passes, and of pages that lost what was written
 *   stuck                        a page that can never be read: its address
 *   app PATH                     connects to the agent's socket for applications
 *   say LINE                     sends the line there: the answer
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };
static volatile struct {
    uint32_t count;
    uint8_t active;
} words __attribute__((aligned(64)));
static volatile uint64_t beat;
static volatile uint8_t *region;
static size_t region_bytes;
static atomic_ulong passes, lost;
static unsigned active_us, idle_us;
static int watching;

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void *beats(void *unused)
{
    for (;;) {
        beat++;
        usleep(500);
    }
    return unused;
}

/* Without sleeping: what sleeps is frozen at once. */
static void spin(unsigned us)
{
    for (uint64_t began = now_us(); now_us() - began < us;)
        ;
}

static void *cycles(void *unused)
{
    for (;;) {
        words.active = 1;
        words.count++;
        spin(active_us);
        words.active = 0;
        spin(idle_us);
    }
    return unused;
}

static void *sleeps(void *unused)
{
    for (;;)
        pause();
    return unused;
}

/*
 * A pass that took long was frozen in its middle, when pages may be zeroed: it is not judged. All others
 * must find what they have written.
 */
static void *watches(void *unused)
{
    for (uint64_t mark = 1;; mark++) {
        uint64_t began = now_us(), missing = 0;
        for (size_t at = 0; at < region_bytes; at += PAGE)
            *(volatile uint64_t *)(region + at) = mark;
        for (size_t at = 0; at < region_bytes; at += PAGE)
            missing += *(volatile uint64_t *)(region + at) != mark;
        if (now_us() - began < 90000)
            lost += missing;
        passes++;
    }
    return unused;
}

static void start(void *(*run)(void *))
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    if (pthread_create(&thread, &attributes, run, NULL) != 0)
        exit(3);
}

/* A page whose faults go to a descriptor that nobody serves. */
static void *stuck_page(void)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register area = {.range = {(uintptr_t)page, PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0 || ioctl(fd, UFFDIO_REGISTER, &area) != 0)
        return NULL;
    return page;
}

static int app_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

static void app_say(int fd, const char *line)
{
    char answer[300];
    if (write(fd, line, strlen(line)) < 0)
        return;
    ssize_t length = read(fd, answer, sizeof answer - 1);
    answer[length < 0 ? 0 : length] = 0;
    fputs(answer, stdout);
}

static void obey(const char *line)
{
    static int app = -1;
    char path[120];
    size_t offset, bytes;
    unsigned value, other;
    if (sscanf(line, "fill %zu %zu %u", &offset, &bytes, &value) == 3)
        memset((void *)(region + offset), (int)value, bytes);
    else if (sscanf(line, "touch %zu %zu", &offset, &bytes) == 2)
        for (size_t at = 0; at < bytes; at += PAGE)
            (void)region[offset + at];
    else if (sscanf(line, "active %u", &value) == 1)
        words.active = (uint8_t)value;
    else if (sscanf(line, "count %u", &value) == 1)
        words.count = value;
    else if (sscanf(line, "cycle %u %u", &active_us, &idle_us) == 2)
        start(cycles);
    else if (sscanf(line, "threads %u", &other) == 1)
        for (; other > 0; other--)
            start(sleeps);
    else if (strcmp(line, "watch\n") == 0) {
        if (!watching)
            start(watches);
        watching = 1;
        printf("%lu %lu\n", (unsigned long)passes, (unsigned long)lost);
        return;
    } else if (strcmp(line, "stuck\n") == 0) {
        printf("%llu\n", (unsigned long long)(uintptr_t)stuck_page());
        return;
    } else if (sscanf(line, "app %119s", path) == 1)
        app = app_connect(path);
    else if (strncmp(line, "say ", 4) == 0) {
        app_say(app, line + 4);
        return;
    } else
        printf("? ");
    puts("ok");
}

int main(int count, char **arguments)
{
    char line[200];
    region_bytes = count > 1 ? strtoull(arguments[1], NULL, 10) : 64 * PAGE;
    region = mmap(NULL, region_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *fixed = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY), 0);
    madvise((void *)region, region_bytes, MADV_NOHUGEPAGE);
    setvbuf(stdout, NULL, _IOLBF, 0);
    start(beats);
    printf("%llu %llu %llu %llu %llu %llu %llu\n", (unsigned long long)(uintptr_t)region,
           (unsigned long long)(uintptr_t)&words.active, (unsigned long long)(uintptr_t)&words.count,
           (unsigned long long)(uintptr_t)&beat, (unsigned long long)(uintptr_t)shared,
           (unsigned long long)(uintptr_t)fixed, (unsigned long long)(uintptr_t)file);
    while (fgets(line, sizeof line, stdin) != NULL)
        obey(line);
    return 0;
}
