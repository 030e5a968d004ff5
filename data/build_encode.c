#include "data/build_encode.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/pretoken.h"

enum { BATCH_BYTES = 8 << 20, PART_BYTES = 256 << 10, MESSAGE_MAX = 1024 };

/* One stretch of text for one thread. */
typedef struct part {
    size_t at, bytes; /* in the batch's text */
    seo_ids ids;
} part;

typedef struct piece {
    seo_split split;
    int64_t source;
    size_t at, bytes;
    int64_t part_first, part_count;
} piece;

typedef struct worker {
    struct seo_build_encoder *owner;
    seo_encoder *encoder;
    pthread_t thread;
    seo_err err;
    char message[MESSAGE_MAX];
} worker;

struct seo_build_encoder {
    const seo_tokenizer *tok;
    seo_dataset_writer *writer;
    worker *workers;
    int32_t worker_count;
    seo_buf text;
    piece *pieces;
    int64_t piece_count, piece_capacity;
    part *parts;
    int64_t part_count, part_capacity;
    atomic_llong next_part;
    seo_ids joined;
};

seo_err seo_build_encoder_open(const seo_tokenizer *tok, seo_dataset_writer *writer,
                               int32_t threads, seo_build_encoder **out) {
    seo_err err = SEO_OK;
    SEO_ASSERT(threads >= 1);
    seo_build_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder) return SEO_FAIL(SEO_ERR_MEMORY, "an encoder");
    encoder->tok = tok;
    encoder->writer = writer;
    encoder->workers = calloc((size_t)threads, sizeof *encoder->workers);
    if (!encoder->workers) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "%d encoders", threads));
    encoder->worker_count = threads;
    for (int32_t i = 0; i < threads; i++) {
        encoder->workers[i].owner = encoder;
        SEO_TRY(seo_encoder_open(tok, &encoder->workers[i].encoder));
    }
    *out = encoder;
    encoder = NULL;
done:
    seo_build_encoder_close(encoder);
    return err;
}

void seo_build_encoder_close(seo_build_encoder *encoder) {
    if (!encoder) return;
    for (int32_t i = 0; i < encoder->worker_count; i++)
        seo_encoder_close(encoder->workers[i].encoder);
    for (int64_t i = 0; i < encoder->part_capacity; i++) seo_ids_free(&encoder->parts[i].ids);
    free(encoder->workers);
    free(encoder->pieces);
    free(encoder->parts);
    seo_ids_free(&encoder->joined);
    seo_buf_free(&encoder->text);
    free(encoder);
}

static seo_err add_part(seo_build_encoder *encoder, size_t at, size_t bytes) {
    if (encoder->part_count == encoder->part_capacity) {
        const int64_t capacity = encoder->part_capacity ? encoder->part_capacity * 2 : 64;
        part *parts = realloc(encoder->parts, (size_t)capacity * sizeof *parts);
        if (!parts) return SEO_FAIL(SEO_ERR_MEMORY, "a batch of %lld parts", (long long)capacity);
        memset(parts + encoder->part_capacity, 0,
               (size_t)(capacity - encoder->part_capacity) * sizeof *parts);
        encoder->parts = parts;
        encoder->part_capacity = capacity;
    }
    part *p = &encoder->parts[encoder->part_count++];
    p->at = at;
    p->bytes = bytes;
    p->ids.count = 0; /* its memory is used again */
    return SEO_OK;
}

static seo_err add_piece(seo_build_encoder *encoder, const piece *added) {
    if (encoder->piece_count == encoder->piece_capacity) {
        const int64_t capacity = encoder->piece_capacity ? encoder->piece_capacity * 2 : 64;
        piece *pieces = realloc(encoder->pieces, (size_t)capacity * sizeof *pieces);
        if (!pieces)
            return SEO_FAIL(SEO_ERR_MEMORY, "a batch of %lld documents", (long long)capacity);
        encoder->pieces = pieces;
        encoder->piece_capacity = capacity;
    }
    encoder->pieces[encoder->piece_count++] = *added;
    return SEO_OK;
}

seo_err seo_build_encoder_add(seo_build_encoder *encoder, seo_split split, int64_t source,
                              const char *text, int64_t bytes) {
    seo_err err = SEO_OK;
    piece added = {.split = split,
                   .source = source,
                   .at = encoder->text.bytes,
                   .bytes = (size_t)bytes,
                   .part_first = encoder->part_count};
    for (size_t at = 0; at < added.bytes; added.part_count++) {
        const unsigned char *p = (const unsigned char *)text + at;
        const size_t length = seo_pretoken_cut(p, added.bytes - at, PART_BYTES);
        SEO_TRY(add_part(encoder, added.at + at, length));
        at += length;
    }
    SEO_TRY(add_piece(encoder, &added));
    seo_buf_add(&encoder->text, text, added.bytes);
    SEO_TRY(seo_buf_check(&encoder->text));
    if (encoder->text.bytes >= BATCH_BYTES) SEO_TRY(seo_build_encoder_flush(encoder));
done:
    return err;
}

static void *work(void *argument) {
    worker *w = argument;
    seo_build_encoder *owner = w->owner;
    w->err = SEO_OK;
    for (;;) {
        const long long i = atomic_fetch_add(&owner->next_part, 1);
        if (i >= owner->part_count) return NULL;
        part *p = &owner->parts[i];
        w->err = seo_encode(w->encoder, owner->text.data + p->at, p->bytes, false, &p->ids);
        if (w->err == SEO_OK) continue;
        strncpy(w->message, seo_err_detail(), sizeof w->message - 1);
        return NULL;
    }
}

static seo_err encode_parts(seo_build_encoder *encoder) {
    seo_err err = SEO_OK;
    int32_t started = 0;
    atomic_store(&encoder->next_part, 0);
    for (int32_t i = 1; i < encoder->worker_count && i < encoder->part_count; i++) {
        /* Fewer threads do the same work more slowly. */
        if (pthread_create(&encoder->workers[i].thread, NULL, work, &encoder->workers[i]) != 0)
            break;
        started = i;
    }
    work(&encoder->workers[0]);
    for (int32_t i = 1; i <= started; i++) pthread_join(encoder->workers[i].thread, NULL);
    for (int32_t i = 0; i <= started && err == SEO_OK; i++) {
        if (encoder->workers[i].err == SEO_OK) continue;
        err = SEO_FAIL(encoder->workers[i].err, "%s", encoder->workers[i].message);
    }
    return err;
}

static seo_err join_ids(seo_build_encoder *encoder, const piece *p) {
    seo_ids *joined = &encoder->joined;
    int64_t count = 1;
    for (int64_t i = 0; i < p->part_count; i++)
        count += encoder->parts[p->part_first + i].ids.count;
    if (count > joined->capacity) {
        int32_t *items = realloc(joined->items, (size_t)count * sizeof *items);
        if (!items) return SEO_FAIL(SEO_ERR_MEMORY, "a document of %lld tokens", (long long)count);
        joined->items = items;
        joined->capacity = count;
    }
    joined->count = 0;
    for (int64_t i = 0; i < p->part_count; i++) {
        const seo_ids *ids = &encoder->parts[p->part_first + i].ids;
        if (ids->count > 0) {
            memcpy(joined->items + joined->count, ids->items,
                   (size_t)ids->count * sizeof *ids->items);
        }
        joined->count += ids->count;
    }
    joined->items[joined->count++] = seo_tokenizer_eot(encoder->tok);
    return SEO_OK;
}

seo_err seo_build_encoder_flush(seo_build_encoder *encoder) {
    seo_err err = SEO_OK;
    SEO_TRY(encode_parts(encoder));
    for (int64_t i = 0; i < encoder->piece_count; i++) {
        const piece *p = &encoder->pieces[i];
        SEO_TRY(join_ids(encoder, p));
        const seo_document document = {.ids = encoder->joined.items,
                                       .count = encoder->joined.count,
                                       .source = p->source,
                                       .text_bytes = (int64_t)p->bytes,
                                       .hash = seo_hash64(encoder->text.data + p->at, p->bytes)};
        SEO_TRY(seo_dataset_writer_add(encoder->writer, p->split, &document));
    }
    encoder->piece_count = 0;
    encoder->part_count = 0;
    seo_buf_clear(&encoder->text);
done:
    return err;
}
