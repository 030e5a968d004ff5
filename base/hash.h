/* Checksums and hashes. CRC-32C guards blocks read on the fly, XXH3-128 guards whole files of ours,
 * SHA-256 names content across machines (sources, shards, tokenizers). Not for secrets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* CRC-32C (Castagnoli) of data, continuing from `crc` (0 to begin). crc32c("123456789") =
 * 0xe3069283. */
uint32_t seo_crc32c(uint32_t crc, const void *data, size_t bytes);
/* The same without the processor's instruction: its oracle in tests. */
uint32_t seo_crc32c_portable(uint32_t crc, const void *data, size_t bytes);

/* XXH3 64-bit, seed 0: document identity inside a corpus. */
uint64_t seo_hash64(const void *data, size_t bytes);

enum { SEO_XXH128_HEX = 33, SEO_SHA256_HEX = 65 }; /* characters with the closing NUL */

/* Lower-case hexadecimal. */
void seo_xxh128_hex(const void *data, size_t bytes, char out[SEO_XXH128_HEX]);
void seo_sha256_hex(const void *data, size_t bytes, char out[SEO_SHA256_HEX]);

/* The same over a file's bytes; the file is streamed. */
seo_err seo_file_xxh128_hex(const char *path, char out[SEO_XXH128_HEX]);
seo_err seo_file_sha256_hex(const char *path, char out[SEO_SHA256_HEX]);

/* SHA-256 in pieces. */
typedef struct seo_sha256 {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
    bool hardware; /* the processor has the instructions; false takes the portable way */
} seo_sha256;
void seo_sha256_init(seo_sha256 *s);
void seo_sha256_add(seo_sha256 *s, const void *data, size_t bytes);
void seo_sha256_end_hex(seo_sha256 *s, char out[SEO_SHA256_HEX]);

#ifdef __cplusplus
}
#endif
