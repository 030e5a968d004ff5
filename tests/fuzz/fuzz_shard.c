/* Shards: the input is a list of edits to a good shard of two blocks. An edited file must be
 * refused, when it is opened or when its tokens are read; the unedited one must read as it was
 * written.
 *
 * A record of the list is 6 bytes: kind, place (4, little-endian), value. Kinds: flip bits of a
 * byte, set a byte, cut the file, lengthen it, copy 16 bytes from elsewhere, flip bits outside the
 * tokens (where libhdf5 would meet them). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "data/shard.h"
#include "tests/support/dataset_fixture.h"

enum { RECORD_BYTES = 6, GROWTH_MAX = 4096 };

typedef struct original {
    seo_manifest manifest;
    char *bytes;
    int64_t size;
    int32_t *tokens;
    int64_t token_count;
} original;

/* The same shard in every run: its bytes are a function of the fixture. */
static void make_original(original *o) {
    fixture f = fixture_usual();
    char path[SEO_PATH_MAX];
    f.documents = 200;
    f.document_most = 800;
    f.held_out_every = 0;
    fixture_make(&f);
    fixture_path(&f, "train-00000.h5", path);
    SEO_ASSERT(seo_manifest_load(f.folder, &o->manifest) == SEO_OK);
    SEO_ASSERT(seo_file_read(path, 1 << 24, &o->bytes, &o->size) == SEO_OK);
    o->tokens = fixture_tokens(&f, SEO_SPLIT_TRAIN, &o->token_count);
    fixture_remove(&f);
}

/* Applies the edits to `bytes`, which has room for GROWTH_MAX more; the new size. */
static int64_t edit(const original *o, char *bytes, const uint8_t *data, size_t size) {
    const int64_t tokens = o->manifest.shards[0].token_offset;
    const int64_t token_bytes = o->token_count * 2;
    int64_t length = o->size;
    for (; size >= RECORD_BYTES; size -= RECORD_BYTES, data += RECORD_BYTES) {
        uint32_t place;
        memcpy(&place, data + 1, sizeof place);
        const int64_t at = place % (length + 1), from = (place >> 8) % (length + 1);
        int64_t outside = place % (o->size - token_bytes);
        if (outside >= tokens) outside += token_bytes;
        switch (data[0] % 6) {
        case 0: bytes[at] ^= (char)data[5]; break;
        case 1: bytes[at] = (char)data[5]; break;
        case 2: length = at; break;
        case 3: length = seo_min_i64(length + data[5], o->size + GROWTH_MAX - 32); break;
        case 4: memmove(bytes + at, bytes + from, 16); break;
        default: bytes[outside] ^= (char)data[5]; break;
        }
    }
    return length;
}

/* A file of its own, with a name: HDF5 asks for it. `path` is a pattern for mkstemp. */
static void write_file(char *path, const char *bytes, int64_t size) {
    const int file = mkstemp(path);
    SEO_ASSERT(file >= 0);
    SEO_ASSERT(write(file, bytes, (size_t)size) == (ssize_t)size && close(file) == 0);
}

/* Opens and reads all of the file: SEO_OK only when every token is as it was. */
static seo_err read_all(const original *o, const char *path, int32_t *out) {
    seo_err err = SEO_OK;
    seo_shard *shard = NULL;
    SEO_TRY(seo_shard_open(path, &o->manifest, &o->manifest.shards[0], &shard));
    SEO_TRY(seo_shard_read(shard, 0, o->token_count, out));
    SEO_ASSERT(memcmp(out, o->tokens, (size_t)o->token_count * sizeof *out) == 0);
done:
    seo_shard_close(shard);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static original o;
    if (o.bytes == NULL) make_original(&o);
    char *bytes = calloc((size_t)(o.size + GROWTH_MAX), 1);
    int32_t *out = malloc((size_t)o.token_count * sizeof *out);
    SEO_ASSERT(bytes != NULL && out != NULL);
    memcpy(bytes, o.bytes, (size_t)o.size);
    const int64_t length = edit(&o, bytes, data, size);
    const bool same = length == o.size && memcmp(bytes, o.bytes, (size_t)o.size) == 0;
    char path[] = "/tmp/seodang-fuzz-XXXXXX";
    write_file(path, bytes, length);
    const seo_err err = read_all(&o, path, out);
    SEO_ASSERT(unlink(path) == 0);
    SEO_ASSERT((err == SEO_OK) == same);
    SEO_ASSERT(same || err == SEO_ERR_FORMAT);
    free(out);
    free(bytes);
    return 0;
}
