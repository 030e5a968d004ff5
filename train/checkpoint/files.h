/* Whole files of a checkpoint: written once and synced, read once and digested.
 *
 * A digest is the XXH3-128 of the whole file and the XXH3-64 of each block of it, so that damage is
 * not only found but placed. Everything goes through read(2) and write(2): a bad sector is an error
 * here, where a memory map would end the process. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_CKPT_BLOCK_BYTES = 1 << 20, SEO_CKPT_BLOCK_HEX = 16 };

typedef struct seo_ckpt_digest {
    int64_t bytes;
    char hash[SEO_XXH128_HEX];
    char *blocks; /* 16 hexadecimal digits a block, NUL-terminated; freed by seo_ckpt_digest_free */
} seo_ckpt_digest;

/* Reads a regular file once. */
seo_err seo_ckpt_digest_file(const char *path, seo_ckpt_digest *out);
void seo_ckpt_digest_free(seo_ckpt_digest *digest);

/* SEO_ERR_FORMAT naming `path` and the first place where it is not what `saved` says. */
seo_err seo_ckpt_digest_check(const char *path, const seo_ckpt_digest *saved);

/* Creates `path` (it must not exist), writes, syncs and closes it, each checked. */
seo_err seo_ckpt_write_file(const char *path, const void *data, int64_t bytes);

/* Opens for reading and refuses what is no regular file. The caller closes *fd. */
seo_err seo_ckpt_open_file(const char *path, int *fd, int64_t *bytes);

/* Syncs and closes a file that was written; it is closed whatever fails, and both errors count. */
seo_err seo_ckpt_close_written(const char *path, int fd);

#ifdef __cplusplus
}
#endif
