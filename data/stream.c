#include "data/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/check.h"

enum { INPUT_BYTES = 1 << 18 };

typedef enum packing { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD } packing;

struct seo_stream {
    char *path;
    int fd;
    packing packing;
    unsigned char *input; /* what was read and not yet unpacked */
    size_t input_at, input_bytes;
    int64_t file_bytes;
    bool ended;    /* of the file */
    bool in_frame; /* a gzip member or zstd frame has begun and not ended */
    z_stream gzip;
    bool gzip_ready;
    ZSTD_DStream *zstd;
};

static bool ends_with(const char *text, const char *ending) {
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

static seo_err open_unpacker(seo_stream *s) {
    if (s->packing == PACKING_GZIP) {
        s->gzip_ready = inflateInit2(&s->gzip, 16 + MAX_WBITS) == Z_OK;
        if (!s->gzip_ready) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a gzip reader", s->path);
    } else if (s->packing == PACKING_ZSTD) {
        s->zstd = ZSTD_createDStream();
        if (!s->zstd) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a zstd reader", s->path);
    }
    return SEO_OK;
}

seo_err seo_stream_open(const char *path, seo_stream **out) {
    seo_err err = SEO_OK;
    struct stat st;
    seo_stream *s = calloc(1, sizeof *s);
    if (!s) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a reader", path);
    s->fd = -1;
    s->packing = ends_with(path, ".gz")    ? PACKING_GZIP
                 : ends_with(path, ".zst") ? PACKING_ZSTD
                                           : PACKING_NONE;
    s->path = strdup(path);
    s->input = malloc(INPUT_BYTES);
    if (!s->path || !s->input) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "%s: a reader", path));
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) != 0) {
        const int reason = errno;
        SEO_TRY(SEO_FAIL(reason == ENOENT ? SEO_ERR_MISSING : SEO_ERR_IO, "%s: cannot open it: %s",
                         path, strerror(reason)));
    }
    if (S_ISDIR(st.st_mode)) SEO_TRY(SEO_FAIL(SEO_ERR_IO, "%s: a folder, not a file", path));
    SEO_TRY(open_unpacker(s));
    *out = s;
    s = NULL;
done:
    seo_stream_close(s);
    return err;
}

void seo_stream_close(seo_stream *s) {
    if (!s) return;
    if (s->gzip_ready) inflateEnd(&s->gzip);
    if (s->zstd) ZSTD_freeDStream(s->zstd);
    if (s->fd >= 0) close(s->fd);
    free(s->input);
    free(s->path);
    free(s);
}

int64_t seo_stream_file_bytes(const seo_stream *s) {
    return s->file_bytes;
}

static seo_err read_file(seo_stream *s, void *out, size_t capacity, size_t *bytes) {
    for (;;) {
        const ssize_t n = read(s->fd, out, capacity);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            return SEO_FAIL(SEO_ERR_IO, "%s: cannot read it at byte %lld: %s", s->path,
                            (long long)s->file_bytes, strerror(errno));
        }
        *bytes = (size_t)n;
        s->file_bytes += n;
        s->ended = n == 0;
        return SEO_OK;
    }
}

static seo_err damaged(const seo_stream *s, const char *what) {
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: damaged near byte %lld: %s", s->path,
                    (long long)(s->file_bytes - (int64_t)(s->input_bytes - s->input_at)), what);
}

/* Unpacks from the input into out; *made may stay 0 when more input is needed. */
static seo_err unpack_gzip(seo_stream *s, void *out, size_t capacity, size_t *made) {
    s->gzip.next_in = s->input + s->input_at;
    s->gzip.avail_in = (uInt)(s->input_bytes - s->input_at);
    s->gzip.next_out = out;
    s->gzip.avail_out = (uInt)capacity;
    const int rc = inflate(&s->gzip, Z_NO_FLUSH);
    s->input_at = s->input_bytes - s->gzip.avail_in;
    *made = capacity - s->gzip.avail_out;
    s->in_frame = true;
    if (rc == Z_STREAM_END) {
        s->in_frame = false;
        inflateReset(&s->gzip);
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
        return damaged(s, s->gzip.msg ? s->gzip.msg : "not gzip data");
    }
    return SEO_OK;
}

static seo_err unpack_zstd(seo_stream *s, void *out, size_t capacity, size_t *made) {
    ZSTD_inBuffer input = {s->input, s->input_bytes, s->input_at};
    ZSTD_outBuffer output = {out, capacity, 0};
    const size_t rc = ZSTD_decompressStream(s->zstd, &output, &input);
    s->input_at = input.pos;
    *made = output.pos;
    if (ZSTD_isError(rc)) return damaged(s, ZSTD_getErrorName(rc));
    s->in_frame = rc != 0;
    return SEO_OK;
}

seo_err seo_stream_read(seo_stream *s, void *out, int64_t capacity, int64_t *bytes) {
    SEO_ASSERT(capacity > 0);
    size_t made = 0;
    const size_t room = (size_t)seo_min_i64(capacity, 1 << 30);
    *bytes = 0;
    if (s->packing == PACKING_NONE) {
        const seo_err err = read_file(s, out, room, &made);
        *bytes = (int64_t)made;
        return err;
    }
    while (made == 0) {
        seo_err err = SEO_OK;
        if (s->input_at == s->input_bytes) {
            s->input_at = 0;
            err = read_file(s, s->input, INPUT_BYTES, &s->input_bytes);
            if (err != SEO_OK) return err;
            /* The unpacker may hold finished bytes; it is asked once more before the end counts. */
            if (s->ended && s->file_bytes == 0) return damaged(s, "it is empty");
            if (s->ended && !s->in_frame) return SEO_OK;
        }
        err = s->packing == PACKING_GZIP ? unpack_gzip(s, out, room, &made)
                                         : unpack_zstd(s, out, room, &made);
        if (err != SEO_OK) return err;
        if (made == 0 && s->ended && s->in_frame) return damaged(s, "it ends in the middle");
    }
    *bytes = (int64_t)made;
    return SEO_OK;
}
