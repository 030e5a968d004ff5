#include "train/checkpoint/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/check.h"

seo_err seo_ckpt_open_file(const char *path, int *fd, int64_t *bytes) {
    *fd = -1;
    *bytes = 0;
    /* O_NONBLOCK: a named pipe put in the place of a file must not hang the run. */
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0) {
        return SEO_FAIL(errno == ENOENT ? SEO_ERR_MISSING : SEO_ERR_IO, "%s: cannot open: %s", path,
                        strerror(errno));
    }
    struct stat info;
    seo_err err = SEO_OK;
    if (fstat(opened, &info) != 0) {
        err = SEO_FAIL(SEO_ERR_IO, "%s: cannot look at it: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: not a regular file", path);
    }
    if (err != SEO_OK) {
        close(opened);
        return err;
    }
    *fd = opened;
    *bytes = info.st_size;
    return SEO_OK;
}

seo_err seo_ckpt_close_written(const char *path, int fd) {
    if (fsync(fd) != 0) {
        const int reason = errno;
        close(fd);
        return SEO_FAIL(SEO_ERR_IO, "%s: cannot sync: %s", path, strerror(reason));
    }
    if (close(fd) != 0) {
        return SEO_FAIL(SEO_ERR_IO, "%s: cannot close: %s", path, strerror(errno));
    }
    return SEO_OK;
}

/* Fills `block` as far as the file goes; *got < capacity only at its end. */
static seo_err block_read(const char *path, int fd, char *block, size_t capacity, size_t *got) {
    *got = 0;
    while (*got < capacity) {
        ssize_t n = read(fd, block + *got, capacity - *got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            return SEO_FAIL(SEO_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        if (n == 0) break;
        *got += (size_t)n;
    }
    return SEO_OK;
}

static seo_err digest_stream(const char *path, int fd, XXH3_state_t *whole, char *block,
                             seo_ckpt_digest *out) {
    int64_t capacity = seo_div_up(out->bytes, SEO_CKPT_BLOCK_BYTES);
    int64_t expected = out->bytes;
    out->bytes = 0;
    XXH3_128bits_reset(whole);
    for (int64_t i = 0; i < capacity; i++) {
        size_t got;
        seo_err err = block_read(path, fd, block, SEO_CKPT_BLOCK_BYTES, &got);
        if (err != SEO_OK) return err;
        XXH3_128bits_update(whole, block, got);
        snprintf(out->blocks + i * SEO_CKPT_BLOCK_HEX, SEO_CKPT_BLOCK_HEX + 1, "%016llx",
                 (unsigned long long)XXH3_64bits(block, got));
        out->bytes += (int64_t)got;
    }
    if (out->bytes != expected) {
        return SEO_FAIL(SEO_ERR_IO, "%s: its length changed while it was read", path);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(whole);
    snprintf(out->hash, sizeof out->hash, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    return SEO_OK;
}

seo_err seo_ckpt_digest_file(const char *path, seo_ckpt_digest *out) {
    seo_err err = SEO_OK;
    int fd = -1;
    char *block = NULL;
    XXH3_state_t *whole = NULL;
    memset(out, 0, sizeof *out);
    SEO_TRY(seo_ckpt_open_file(path, &fd, &out->bytes));
    int64_t blocks = seo_div_up(out->bytes, SEO_CKPT_BLOCK_BYTES);
    out->blocks = calloc((size_t)blocks * SEO_CKPT_BLOCK_HEX + 1, 1);
    block = malloc(SEO_CKPT_BLOCK_BYTES);
    whole = XXH3_createState();
    if (!out->blocks || !block || !whole) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to check it", path);
        goto done;
    }
    SEO_TRY(digest_stream(path, fd, whole, block, out));
done:
    if (err != SEO_OK) seo_ckpt_digest_free(out);
    XXH3_freeState(whole);
    free(block);
    if (fd >= 0) close(fd);
    return err;
}

void seo_ckpt_digest_free(seo_ckpt_digest *digest) {
    free(digest->blocks);
    memset(digest, 0, sizeof *digest);
}

static seo_err name_damage(const char *path, const seo_ckpt_digest *saved,
                           const seo_ckpt_digest *found) {
    int64_t blocks = seo_div_up(saved->bytes, SEO_CKPT_BLOCK_BYTES);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t at = i * SEO_CKPT_BLOCK_HEX;
        if (memcmp(saved->blocks + at, found->blocks + at, SEO_CKPT_BLOCK_HEX) == 0) continue;
        int64_t first = i * SEO_CKPT_BLOCK_BYTES;
        int64_t last = seo_min_i64(first + SEO_CKPT_BLOCK_BYTES, saved->bytes) - 1;
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: damaged between byte %lld and byte %lld: not what was saved", path,
                        (long long)first, (long long)last);
    }
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: damaged: its hash is not the one saved", path);
}

seo_err seo_ckpt_digest_check(const char *path, const seo_ckpt_digest *saved) {
    int fd = -1;
    int64_t bytes = 0;
    seo_err err = seo_ckpt_open_file(path, &fd, &bytes);
    if (err != SEO_OK) return err;
    close(fd);
    if (bytes != saved->bytes) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: damaged: %lld bytes long, %lld were saved", path,
                        (long long)bytes, (long long)saved->bytes);
    }
    seo_ckpt_digest found = {0};
    err = seo_ckpt_digest_file(path, &found);
    if (err != SEO_OK) return err;
    if (found.bytes != saved->bytes || strcmp(found.hash, saved->hash) != 0 ||
        strcmp(found.blocks, saved->blocks) != 0) {
        err = name_damage(path, saved, &found);
    }
    seo_ckpt_digest_free(&found);
    return err;
}

seo_err seo_ckpt_write_file(const char *path, const void *data, int64_t bytes) {
    seo_err err = SEO_OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return SEO_FAIL(SEO_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
    const char *from = data;
    int64_t done_bytes = 0;
    while (done_bytes < bytes) {
        ssize_t n = write(fd, from + done_bytes, (size_t)(bytes - done_bytes));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            err = SEO_FAIL(SEO_ERR_IO, "%s: cannot write: %s", path,
                           n < 0 ? strerror(errno) : "nothing was accepted");
            goto done;
        }
        done_bytes += n;
    }
    int closing = fd;
    fd = -1;
    SEO_TRY(seo_ckpt_close_written(path, closing));
done:
    if (fd >= 0) close(fd);
    return err;
}
