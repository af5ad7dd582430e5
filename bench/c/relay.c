/*
 * What every program between two unmodified QEMUs has to do to compress a migration, and nothing else: take QEMU's stream,
 * compress it with zstd, send it, decompress it, hand it over. `npm run bench -- compress` has it as case `relay-c-zstd`, to
 * tell what godwit costs from what its place between two QEMUs costs. Pages are not even looked at.
 *
 *   relay compress UNIX_PATH HOST PORT      waits for QEMU's stream at UNIX_PATH, and sends it to HOST
 *   relay decompress HOST PORT UNIX_PATH    waits for that at HOST, and hands it to the QEMU that listens at UNIX_PATH
 *
 * Prints "ready" when it listens. Every chunk can be decompressed as soon as it is there: nothing waits for more to come.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Of libzstd, whose shared library every Debian has; its headers are a package of their own. */
typedef struct { const void *src; size_t size, pos; } zstd_in;
typedef struct { void *dst; size_t size, pos; } zstd_out;
extern void *ZSTD_createCCtx(void);
extern void *ZSTD_createDCtx(void);
extern size_t ZSTD_CCtx_setParameter(void *context, int parameter, int value);
extern size_t ZSTD_compressStream2(void *context, zstd_out *out, zstd_in *in, int directive);
extern size_t ZSTD_decompressStream(void *context, zstd_out *out, zstd_in *in);
extern unsigned ZSTD_isError(size_t code);
enum { LEVEL = 100, FLUSH = 1 };

enum { CHUNK = 1 << 20 };
static char raw[CHUNK], packed[2 * CHUNK];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void check(size_t code) {
  if (!ZSTD_isError(code)) return;
  fprintf(stderr, "relay: zstd\n");
  exit(1);
}

static struct sockaddr_un unix_address(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    fail(path);
  }
  strcpy(address.sun_path, path);
  return address;
}

static struct sockaddr_in tcp_address(const char *host, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) fail(host);
  return address;
}

static int accept_one(int family, const void *address, socklen_t length) {
  int listener = socket(family, SOCK_STREAM, 0);
  int one = 1;
  if (listener < 0) fail("socket");
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, address, length) != 0 || listen(listener, 1) != 0) fail("listen");
  puts("ready");
  fflush(stdout);
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) fail("accept");
  close(listener);
  return fd;
}

static int connect_to(int family, const void *address, socklen_t length) {
  int fd = socket(family, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, address, length) != 0) fail("connect");
  int one = 1;
  if (family == AF_INET) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static void write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t count = write(fd, bytes, length);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("write");
    bytes += count;
    length -= (size_t)count;
  }
}

/* As much as there is, up to a chunk; 0 at the end. */
static size_t read_some(int fd, char *bytes, size_t room) {
  size_t length = 0;
  while (length < room) {
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (length > 0 && poll(&ready, 1, 0) <= 0) break;
    ssize_t count = read(fd, bytes + length, room - length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read");
    if (count == 0) break;
    length += (size_t)count;
  }
  return length;
}

static void compress_all(int from, int to) {
  void *context = ZSTD_createCCtx();
  if (context == NULL) fail("zstd");
  check(ZSTD_CCtx_setParameter(context, LEVEL, 1));
  for (size_t length; (length = read_some(from, raw, sizeof raw)) > 0;) {
    zstd_in in = {raw, length, 0};
    size_t left = 1;
    while (left > 0) {
      zstd_out out = {packed, sizeof packed, 0};
      check(left = ZSTD_compressStream2(context, &out, &in, FLUSH));
      write_all(to, packed, out.pos);
    }
  }
}

static void decompress_all(int from, int to) {
  void *context = ZSTD_createDCtx();
  if (context == NULL) fail("zstd");
  for (size_t length; (length = read_some(from, packed, sizeof packed / 4)) > 0;) {
    zstd_in in = {packed, length, 0};
    zstd_out out;
    do {
      out = (zstd_out){raw, sizeof raw, 0};
      check(ZSTD_decompressStream(context, &out, &in));
      write_all(to, raw, out.pos);
    } while (in.pos < in.size || out.pos == out.size);
  }
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: relay compress UNIX_PATH HOST PORT | decompress HOST PORT UNIX_PATH\n");
    return 2;
  }
  int compresses = strcmp(argv[1], "compress") == 0;
  struct sockaddr_un local = unix_address(compresses ? argv[2] : argv[4]);
  struct sockaddr_in remote = tcp_address(argv[compresses ? 3 : 2], argv[compresses ? 4 : 3]);
  if (compresses) {
    int from = accept_one(AF_UNIX, &local, sizeof local);
    compress_all(from, connect_to(AF_INET, &remote, sizeof remote));
  } else {
    int from = accept_one(AF_INET, &remote, sizeof remote);
    decompress_all(from, connect_to(AF_UNIX, &local, sizeof local));
  }
  return 0;
}
