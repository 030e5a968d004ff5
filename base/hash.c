#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"

enum { READ_BYTES = 1 << 20 };

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t crc, const unsigned char *p,
                                                               size_t bytes) {
    uint64_t c = crc;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
    }
    for (; bytes > 0; bytes--, p++) c = _mm_crc32_u8((uint32_t)c, *p);
    return (uint32_t)c;
}

static bool has_hardware(void) {
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t crc_hardware(uint32_t crc, const unsigned char *p, size_t bytes) {
    (void)p;
    (void)bytes;
    return crc;
}

static bool has_hardware(void) {
    return false;
}
#endif

/* Four bits at a time: small, and only for processors without the instruction. */
static uint32_t crc_table(uint32_t crc, const unsigned char *p, size_t bytes) {
    static const uint32_t table[16] = {0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u,
                                       0x417b1dbcu, 0x5125dad3u, 0x61c69362u, 0x7198540du,
                                       0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u,
                                       0xc38d26c4u, 0xd3d3e1abu, 0xe330a81au, 0xf36e6f75u};
    for (; bytes > 0; bytes--, p++) {
        crc ^= *p;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

uint32_t seo_crc32c_portable(uint32_t crc, const void *data, size_t bytes) {
    return ~crc_table(~crc, data, bytes);
}

uint32_t seo_crc32c(uint32_t crc, const void *data, size_t bytes) {
    return ~(has_hardware() ? crc_hardware(~crc, data, bytes) : crc_table(~crc, data, bytes));
}

uint64_t seo_hash64(const void *data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}

static void hash128_hex(XXH128_hash_t hash, char out[SEO_XXH128_HEX]) {
    snprintf(out, SEO_XXH128_HEX, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

void seo_xxh128_hex(const void *data, size_t bytes, char out[SEO_XXH128_HEX]) {
    hash128_hex(XXH3_128bits(data, bytes), out);
}

void seo_sha256_hex(const void *data, size_t bytes, char out[SEO_SHA256_HEX]) {
    seo_sha256 state;
    seo_sha256_init(&state);
    seo_sha256_add(&state, data, bytes);
    seo_sha256_end_hex(&state, out);
}

/* Feeds a file's bytes, a megabyte at a time, to `add`. */
static seo_err stream_file(const char *path,
                           void (*add)(void *state, const void *data, size_t bytes), void *state) {
    seo_err err = SEO_OK;
    char *buffer = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        const int reason = errno;
        return SEO_FAIL(reason == ENOENT ? SEO_ERR_MISSING : SEO_ERR_IO, "%s: cannot open it: %s",
                        path, strerror(reason));
    }
    buffer = malloc(READ_BYTES);
    if (!buffer) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "%s: a read buffer", path));
    for (;;) {
        const ssize_t n = read(fd, buffer, READ_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) SEO_TRY(SEO_FAIL(SEO_ERR_IO, "%s: cannot read it: %s", path, strerror(errno)));
        if (n == 0) break;
        add(state, buffer, (size_t)n);
    }
done:
    free(buffer);
    close(fd);
    return err;
}

static void add_sha256(void *state, const void *data, size_t bytes) {
    seo_sha256_add(state, data, bytes);
}

static void add_xxh(void *state, const void *data, size_t bytes) {
    XXH3_128bits_update(state, data, bytes);
}

seo_err seo_file_sha256_hex(const char *path, char out[SEO_SHA256_HEX]) {
    seo_sha256 state;
    seo_sha256_init(&state);
    const seo_err err = stream_file(path, add_sha256, &state);
    if (err == SEO_OK) seo_sha256_end_hex(&state, out);
    return err;
}

seo_err seo_file_xxh128_hex(const char *path, char out[SEO_XXH128_HEX]) {
    XXH3_state_t *state = XXH3_createState();
    if (!state) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a hash state", path);
    XXH3_128bits_reset(state);
    const seo_err err = stream_file(path, add_xxh, state);
    if (err == SEO_OK) hash128_hex(XXH3_128bits_digest(state), out);
    XXH3_freeState(state);
    return err;
}
