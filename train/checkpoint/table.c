#include "train/checkpoint/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* What goes before a rank's list: that it speaks of the same state. */
typedef struct told_head {
    int64_t step, tensor_count, count;
    char tensors[40]; /* hash of all names and shapes */
} told_head;

static seo_err hash_tensors(const seo_ckpt_snapshot *s, char out[SEO_XXH128_HEX]) {
    seo_buf text = {0};
    for (int64_t i = 0; i < s->tensor_count; i++) {
        const seo_ckpt_tensor *t = &s->tensors[i];
        seo_buf_format(&text, "%s", t->name);
        for (int32_t d = 0; d < t->rank; d++) {
            seo_buf_format(&text, " %lld", (long long)t->dims[d]);
        }
        seo_buf_text(&text, "\n");
    }
    const seo_err err = seo_buf_check(&text);
    if (err == SEO_OK) seo_xxh128_hex(text.data, text.bytes, out);
    seo_buf_free(&text);
    return err;
}

static seo_err check_head(seo_world *world, const told_head *mine, const seo_blob *blob,
                          int32_t rank) {
    told_head head = {0};
    if (blob->bytes >= (int64_t)sizeof head) memcpy(&head, blob->data, sizeof head);
    if (head.step != mine->step) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s saves step %lld and rank 0 step %lld",
                        seo_world_who(world, rank), (long long)head.step, (long long)mine->step);
    }
    if (head.tensor_count != mine->tensor_count || strcmp(head.tensors, mine->tensors) != 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s has another table of tensors than rank 0",
                        seo_world_who(world, rank));
    }
    if (blob->bytes != (int64_t)sizeof head + head.count * (int64_t)sizeof(seo_ckpt_told)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s sent a list of another length than it says",
                        seo_world_who(world, rank));
    }
    return SEO_OK;
}

static seo_err join_lists(seo_world *world, const told_head *mine, const seo_blob *blobs,
                          seo_ckpt_told **all, int64_t *all_count) {
    const int32_t ranks = seo_world_size(world);
    told_head head;
    int64_t total = 0;
    for (int32_t r = 0; r < ranks; r++) {
        const seo_err err = check_head(world, mine, &blobs[r], r);
        if (err != SEO_OK) return err;
        memcpy(&head, blobs[r].data, sizeof head);
        total += head.count;
    }
    seo_ckpt_told *list = malloc(((size_t)total + 1) * sizeof *list);
    if (!list) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for a checkpoint's table");
    int64_t at = 0;
    for (int32_t r = 0; r < ranks; r++) {
        memcpy(&head, blobs[r].data, sizeof head);
        const char *from = (const char *)blobs[r].data + sizeof head;
        if (head.count > 0) memcpy(list + at, from, (size_t)head.count * sizeof *list);
        for (int64_t i = 0; i < head.count; i++) list[at + i].part = r;
        at += head.count;
    }
    *all = list;
    *all_count = total;
    return SEO_OK;
}

seo_err seo_ckpt_gather_table(seo_world *world, const seo_ckpt_snapshot *snapshot,
                              const seo_ckpt_told *mine, int64_t count, seo_ckpt_told **all,
                              int64_t *all_count) {
    seo_err err = SEO_OK;
    const int32_t ranks = seo_ckpt_ranks(world), rank = seo_ckpt_rank(world);
    seo_blob blobs_none = {0}, *blobs = &blobs_none;
    char hash[SEO_XXH128_HEX];
    told_head head = {
        .step = snapshot->state.step, .tensor_count = snapshot->tensor_count, .count = count};
    const size_t list_bytes = (size_t)count * sizeof *mine, bytes = sizeof head + list_bytes;
    *all = NULL;
    *all_count = 0;
    char *message = malloc(bytes);
    if (ranks > 1 && rank == 0) blobs = calloc((size_t)ranks, sizeof *blobs);
    if (!message || !blobs) err = SEO_FAIL(SEO_ERR_MEMORY, "no memory for a checkpoint's table");
    if (err == SEO_OK) err = hash_tensors(snapshot, hash);
    /* Nobody may stay away from the gathering that the others are in. */
    SEO_TRY(seo_ckpt_agree(world, SEO_CHANNEL_SAVE, "the checkpoint's table", err));
    memcpy(head.tensors, hash, sizeof hash);
    memcpy(message, &head, sizeof head);
    if (count > 0) memcpy(message + sizeof head, mine, list_bytes);
    if (ranks == 1) {
        *all = malloc(list_bytes + 1);
        if (!*all) {
            err = SEO_FAIL(SEO_ERR_MEMORY, "no memory for a checkpoint's table");
            goto done;
        }
        if (count > 0) memcpy(*all, mine, list_bytes);
        *all_count = count;
        goto done;
    }
    SEO_TRY(seo_world_gather(world, SEO_CHANNEL_SAVE, "the checkpoint's table", message,
                             (int64_t)bytes, blobs));
    if (rank == 0) SEO_TRY(join_lists(world, &head, blobs, all, all_count));
done:
    if (blobs && blobs != &blobs_none) {
        seo_blobs_free(blobs, ranks);
        free(blobs);
    }
    free(message);
    return err;
}

static int by_place(const void *a, const void *b) {
    const seo_ckpt_told *x = a, *y = b;
    if (x->tensor != y->tensor) return x->tensor < y->tensor ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

seo_err seo_ckpt_fill_table(seo_ckpt_manifest *m, const seo_ckpt_snapshot *s, seo_ckpt_told *told,
                            int64_t count) {
    m->entries = calloc((size_t)s->tensor_count, sizeof *m->entries);
    m->pieces = calloc((size_t)count + 1, sizeof *m->pieces);
    if (!m->entries || !m->pieces) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for a checkpoint's manifest");
    }
    qsort(told, (size_t)count, sizeof *told, by_place);
    int64_t next = 0;
    for (int64_t i = 0; i < s->tensor_count; i++) {
        const seo_ckpt_tensor *t = &s->tensors[i];
        seo_ckpt_entry *e = &m->entries[i];
        int64_t covered = 0;
        memcpy(e->name, t->name, sizeof e->name);
        e->rank = t->rank;
        memcpy(e->dims, t->dims, sizeof e->dims);
        SEO_ASSERT(seo_ckpt_shape_count(t->rank, t->dims, &e->count));
        e->piece_first = next;
        for (; next < count && told[next].tensor == i && told[next].offset == covered; next++) {
            seo_ckpt_piece *p = &m->pieces[next];
            *p = (seo_ckpt_piece){
                .part = told[next].part, .offset = covered, .count = told[next].count};
            memcpy(p->hash, told[next].hash, sizeof p->hash);
            covered += p->count;
        }
        e->piece_count = next - e->piece_first;
        if (covered != e->count) {
            return SEO_FAIL(SEO_ERR_ARG, "the ranges of %s do not cover it once each", e->name);
        }
    }
    if (next != count) {
        return SEO_FAIL(SEO_ERR_ARG, "a range of the checkpoint lies in no tensor, or twice");
    }
    m->entry_count = s->tensor_count;
    m->piece_count = count;
    return SEO_OK;
}

/* A file as bytes: its length, its hash, its blocks' hashes. */
typedef struct file_head {
    int64_t bytes;
    char hash[40];
} file_head;

static seo_err file_from(seo_world *world, int32_t rank, const seo_blob *blob, seo_ckpt_file *out) {
    file_head head;
    if (blob->bytes < (int64_t)sizeof head) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s sent no description of its part",
                        seo_world_who(world, rank));
    }
    memcpy(&head, blob->data, sizeof head);
    out->digest.bytes = head.bytes;
    memcpy(out->digest.hash, head.hash, sizeof out->digest.hash);
    out->digest.blocks =
        strndup((const char *)blob->data + sizeof head, (size_t)blob->bytes - sizeof head);
    if (!out->digest.blocks) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for a checkpoint's manifest");
    }
    return SEO_OK;
}

seo_err seo_ckpt_gather_files(seo_world *world, const seo_ckpt_file *mine, seo_ckpt_file *files) {
    seo_err err = SEO_OK;
    const int32_t ranks = seo_world_size(world), rank = seo_world_rank(world);
    file_head head = {.bytes = mine->digest.bytes};
    const size_t blocks = strlen(mine->digest.blocks), bytes = sizeof head + blocks;
    char *message = malloc(bytes);
    seo_blob *blobs = calloc((size_t)ranks, sizeof *blobs);
    if (!message || !blobs) err = SEO_FAIL(SEO_ERR_MEMORY, "no memory for a checkpoint's manifest");
    SEO_TRY(seo_world_agree(world, SEO_CHANNEL_SAVE, "the checkpoint's parts", err));
    memcpy(head.hash, mine->digest.hash, sizeof mine->digest.hash);
    memcpy(message, &head, sizeof head);
    memcpy(message + sizeof head, mine->digest.blocks, blocks);
    SEO_TRY(seo_world_gather(world, SEO_CHANNEL_SAVE, "the checkpoint's parts", message,
                             (int64_t)bytes, blobs));
    for (int32_t r = 1; rank == 0 && r < ranks; r++) {
        SEO_TRY(file_from(world, r, &blobs[r], &files[r]));
        seo_ckpt_part_name(files[r].name, r, ranks);
    }
done:
    if (blobs) seo_blobs_free(blobs, ranks);
    free(blobs);
    free(message);
    return err;
}
