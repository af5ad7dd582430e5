/*
 * The C side of `npm run bench -- stream`.
 *
 *   stream source PATH MEGABYTES   connects to PATH and writes a migration stream of about that length
 *   stream copy PATH               listens, reads one stream, copies each page into a page store: the limit
 *   stream discard PATH            listens, reads one connection to its end and forgets it
 *
 * `copy` prints one line of JSON when done. Everything exits non-zero with a message when a call fails.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MEMORY_PAGES = 65536, SECTION_BYTES = 64 << 20, READ_BYTES = 1 << 20 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static uint8_t *put32(uint8_t *at, uint32_t value) {
  value = __builtin_bswap32(value);
  memcpy(at, &value, 4);
  return at + 4;
}

static uint8_t *put64(uint8_t *at, uint64_t value) {
  value = __builtin_bswap64(value);
  memcpy(at, &value, 8);
  return at + 8;
}

static uint64_t get64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, 8);
  return __builtin_bswap64(value);
}

static uint8_t *put_text(uint8_t *at, const char *text) {
  *at++ = (uint8_t)strlen(text);
  memcpy(at, text, strlen(text));
  return at + strlen(text);
}

static uint8_t *put_section_end(uint8_t *at) {
  at = put64(at, 0x10);
  *at++ = 0x7e;
  return put32(at, 2);
}

static uint32_t chance_state = 1;
static uint32_t chance(void) {
  chance_state ^= chance_state << 13;
  chance_state ^= chance_state >> 17;
  chance_state ^= chance_state << 5;
  return chance_state;
}

static struct sockaddr_un address_of(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return address;
}

static int accept_one(const char *path) {
  struct sockaddr_un address = address_of(path);
  int server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (server < 0 || bind(server, (void *)&address, sizeof address) < 0 || listen(server, 1) < 0) fail(path);
  puts("ready");
  fflush(stdout);
  int fd = accept(server, NULL, NULL);
  if (fd < 0) fail("accept");
  return fd;
}

static void write_all(int fd, const uint8_t *from, size_t count) {
  while (count > 0) {
    ssize_t done = write(fd, from, count < 262144 ? count : 262144);
    if (done < 0) fail("write");
    from += done;
    count -= (size_t)done;
  }
}

/*
 * One PART section of 64 MiB over a guest of 256 MiB: stretches of 1-128 full pages and, for about one page in five,
 * of 1-32 zero pages; each stretch starts at a random page. Contents are not compressible, so that nothing is free.
 */
static uint8_t *make_section(size_t *count) {
  uint8_t *start = malloc(SECTION_BYTES + (1 << 20));
  if (start == NULL) fail("malloc");
  uint8_t *at = start;
  *at++ = 2;
  at = put32(at, 2);
  uint64_t named = 0;
  while (at - start < SECTION_BYTES) {
    int zero = chance() % 2;
    uint32_t length = 1 + chance() % (zero ? 32 : 128);
    uint64_t page = chance() % (MEMORY_PAGES - 128);
    for (uint32_t i = 0; i < length; i++, page++) {
      at = put64(at, page * PAGE | (zero ? 2u : 8u) | (named ? 0x20u : 0u));
      if (!named) at = put_text(at, "pc.ram");
      named = 1;
      if (zero) {
        *at++ = 0;
        continue;
      }
      for (int word = 0; word < PAGE; word += 4) {
        uint32_t value = chance();
        memcpy(at + word, &value, 4);
      }
      at += PAGE;
    }
  }
  at = put_section_end(at);
  *count = (size_t)(at - start);
  return start;
}

static int source(const char *path, const char *megabytes) {
  size_t count;
  uint8_t *section = make_section(&count);
  uint8_t head[256];
  uint8_t *at = put32(head, 0x5145564d);
  at = put32(at, 3);
  *at++ = 7;
  at = put32(at, 11);
  memcpy(at, "pc-q35-10.0", 11);
  at += 11;
  *at++ = 1;
  at = put32(at, 2);
  at = put_text(at, "ram");
  at = put32(at, 0);
  at = put32(at, 4);
  at = put64(at, (uint64_t)MEMORY_PAGES * PAGE | 4);
  at = put_text(at, "pc.ram");
  at = put64(at, (uint64_t)MEMORY_PAGES * PAGE);
  at = put_section_end(at);

  struct sockaddr_un address = address_of(path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (void *)&address, sizeof address) < 0) fail(path);
  write_all(fd, head, (size_t)(at - head));
  for (long sent = 0; sent < atol(megabytes) * 1000000; sent += (long)count) write_all(fd, section, count);
  uint8_t end[64];
  end[0] = 3;
  at = put_section_end(put32(end + 1, 2));
  *at++ = 0;
  write_all(fd, end, (size_t)(at - end));
  return 0;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Parses what is complete and copies its pages; answers how far it came. Trusts its input: it is our own source. */
static size_t copy_pages(uint8_t *bytes, size_t count, uint8_t *store, int *in_records) {
  size_t at = 0;
  for (;;) {
    if (!*in_records) {
      if (count - at < 5) return at;
      if (bytes[at] == 'Q') { /* the head: skip to behind the footer of START */
        if (count - at < 256) return at;
        at += 8 + 5 + 11 + 1 + 4 + 4 + 8 + 8 + 7 + 8 + 13;
        continue;
      }
      if (bytes[at] == 0) return at + 1;
      *in_records = bytes[at] != 0x7e;
      at += 5;
      continue;
    }
    if (count - at < 8) return at;
    uint64_t word = get64(bytes + at);
    if (word == 0x10) {
      at += 8;
      *in_records = 0;
      continue;
    }
    size_t data = 8;
    if (!(word & 0x20)) {
      if (count - at < 9) return at;
      data += 1 + bytes[at + 8];
    }
    uint64_t address = word & ~(uint64_t)0xfff;
    if (address >= (uint64_t)MEMORY_PAGES * PAGE) exit(3);
    if (word & 8) {
      if (count - at < data + PAGE) return at;
      memcpy(store + address, bytes + at + data, PAGE);
      at += data + PAGE;
    } else {
      if (count - at < data + 1) return at;
      memset(store + address, 0, PAGE);
      at += data + 1;
    }
  }
}

static int copy(const char *path) {
  uint8_t *store = malloc((size_t)MEMORY_PAGES * PAGE);
  uint8_t *buffer = malloc(READ_BYTES);
  if (store == NULL || buffer == NULL) fail("malloc");
  memset(store, 1, (size_t)MEMORY_PAGES * PAGE);
  int fd = accept_one(path);
  double wall = 0, cpu = 0;
  size_t held = 0, total = 0;
  int in_records = 0;
  for (;;) {
    ssize_t got = read(fd, buffer + held, READ_BYTES - held);
    if (got < 0) fail("read");
    if (got == 0) break;
    if (total == 0) {
      wall = seconds();
      cpu = cpu_seconds();
    }
    total += (size_t)got;
    held += (size_t)got;
    size_t used = copy_pages(buffer, held, store, &in_records);
    memmove(buffer, buffer + used, held - used);
    held -= used;
  }
  printf("{\"bytes\":%zu,\"wallMs\":%.3f,\"cpuMs\":%.3f}\n", total, (seconds() - wall) * 1e3, (cpu_seconds() - cpu) * 1e3);
  return held == 0 ? 0 : 4;
}

static int discard(const char *path) {
  static uint8_t buffer[READ_BYTES];
  int fd = accept_one(path);
  while (read(fd, buffer, sizeof buffer) > 0) {
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "source") == 0) return source(argv[2], argv[3]);
  if (argc == 3 && strcmp(argv[1], "copy") == 0) return copy(argv[2]);
  if (argc == 3 && strcmp(argv[1], "discard") == 0) return discard(argv[2]);
  fputs("usage: stream source PATH MEGABYTES | copy PATH | discard PATH\n", stderr);
  return 2;
}
