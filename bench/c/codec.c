/*
 * The native limit of `npm run bench -- codec`: differences by 64-bit words between pages and their previous versions, as the
 * codec's kernels make them, with nothing around them: no wire format, no hashes, no look-up of the previous version.
 *
 *   codec FILE PASSES    FILE: pairs of pages (4096 bytes as it was, 4096 bytes as it is)
 *
 * A page becomes a byte (zero, difference or whole), and for a difference 64 bytes of mask and the words that changed.
 * Prints one line of JSON: the shortest of all passes. Exits non-zero when a page does not come back as it was.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 4096, WORDS = PAGE / 8, MASKS = WORDS / 64, WORDS_MAX = 384, RECORD = PAGE + 8 };
enum { ZERO, DIFFERENCE, WHOLE };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double cpu_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int is_zero(const uint64_t *page) {
  for (int i = 0; i < WORDS; i += 8) {
    uint64_t any = 0;
    for (int j = 0; j < 8; j++) any |= page[i + j];
    if (any != 0) return 0;
  }
  return 1;
}

static uint8_t *encode(uint8_t *out, const uint64_t *before, const uint64_t *now) {
  if (is_zero(now)) {
    *out++ = ZERO;
    return out;
  }
  uint64_t mask[MASKS];
  int count = 0;
  for (int m = 0; m < MASKS; m++) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++) bits |= (uint64_t)(before[m * 64 + i] != now[m * 64 + i]) << i;
    mask[m] = bits;
    count += __builtin_popcountll(bits);
  }
  if (count > WORDS_MAX) {
    *out++ = WHOLE;
    memcpy(out, now, PAGE);
    return out + PAGE;
  }
  *out++ = DIFFERENCE;
  memcpy(out, mask, sizeof mask);
  out += sizeof mask;
  for (int m = 0; m < MASKS; m++) {
    for (uint64_t bits = mask[m]; bits != 0; bits &= bits - 1) {
      memcpy(out, &now[m * 64 + __builtin_ctzll(bits)], 8);
      out += 8;
    }
  }
  return out;
}

/* `page` holds the previous version and becomes the new one. */
static const uint8_t *decode(const uint8_t *in, uint64_t *page) {
  switch (*in++) {
  case ZERO:
    memset(page, 0, PAGE);
    return in;
  case WHOLE:
    memcpy(page, in, PAGE);
    return in + PAGE;
  default: {
    uint64_t mask[MASKS];
    memcpy(mask, in, sizeof mask);
    in += sizeof mask;
    for (int m = 0; m < MASKS; m++) {
      for (uint64_t bits = mask[m]; bits != 0; bits &= bits - 1) {
        memcpy(&page[m * 64 + __builtin_ctzll(bits)], in, 8);
        in += 8;
      }
    }
    return in;
  }
  }
}

static uint8_t *read_all(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail(path);
  *bytes = (size_t)ftell(file);
  rewind(file);
  uint8_t *all = aligned_alloc(PAGE, *bytes + PAGE - *bytes % PAGE);
  if (all == NULL || fread(all, 1, *bytes, file) != *bytes) fail(path);
  fclose(file);
  return all;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: codec FILE PASSES\n");
    return 2;
  }
  size_t bytes = 0;
  uint8_t *pairs = read_all(argv[1], &bytes);
  size_t count = bytes / (2 * PAGE);
  uint8_t *out = malloc(count * (PAGE + 1) + 1);
  uint8_t *pages = aligned_alloc(PAGE, count * PAGE + PAGE);
  if (out == NULL || pages == NULL) fail("memory");
  /* Touched once, so that no pass pays for the kernel's zeroing. */
  memset(out, 1, count * (PAGE + 1) + 1);
  double encode_ms = 1e18, decode_ms = 1e18;
  size_t encoded = 0;
  for (int pass = 0; pass < atoi(argv[2]); pass++) {
    double began = cpu_ms();
    uint8_t *end = out;
    for (size_t i = 0; i < count; i++) {
      const uint8_t *pair = pairs + i * 2 * PAGE;
      end = encode(end, (const uint64_t *)pair, (const uint64_t *)(pair + PAGE));
    }
    double took = cpu_ms() - began;
    if (took < encode_ms) encode_ms = took;
    encoded = (size_t)(end - out);
    for (size_t i = 0; i < count; i++) memcpy(pages + i * PAGE, pairs + i * 2 * PAGE, PAGE);
    began = cpu_ms();
    const uint8_t *in = out;
    for (size_t i = 0; i < count; i++) in = decode(in, (uint64_t *)(pages + i * PAGE));
    took = cpu_ms() - began;
    if (took < decode_ms) decode_ms = took;
    for (size_t i = 0; i < count; i++) {
      if (memcmp(pages + i * PAGE, pairs + i * 2 * PAGE + PAGE, PAGE) == 0) continue;
      fprintf(stderr, "page %zu does not come back as it was\n", i);
      return 1;
    }
  }
  printf("{\"rawBytes\":%zu,\"encodedBytes\":%zu,\"encodeMs\":%.3f,\"decodeMs\":%.3f}\n", count * RECORD, encoded, encode_ms,
         decode_ms);
  return 0;
}
