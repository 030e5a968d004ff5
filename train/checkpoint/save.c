/* The commit of a checkpoint: everything is written aside, synced and read back; one rename makes
 * it a checkpoint. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/check.h"
#include "base/log.h"
#include "train/checkpoint.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/open.h"
#include "train/checkpoint/part.h"
#include "train/run_dir.h"

enum { TOKENIZER_BYTES_MAX = 1 << 30, FILES_MAX = 3 };

typedef struct save {
    const seo_ckpt_snapshot *snapshot;
    seo_ckpt_manifest manifest; /* its arrays are this struct's to free */
    char folder[SEO_PATH_MAX];  /* RUN/checkpoints */
    char temporary[SEO_PATH_MAX];
    char target[SEO_PATH_MAX];
} save;

static seo_err check_snapshot(const seo_ckpt_snapshot *s) {
    int64_t elements;
    if (s->tensor_count < 1 || !s->config_yaml || s->state.step < 0) {
        return SEO_FAIL(SEO_ERR_ARG, "a checkpoint needs a step, tensors and a configuration");
    }
    for (int64_t i = 0; i < s->tensor_count; i++) {
        const seo_ckpt_tensor *t = &s->tensors[i];
        if (!seo_ckpt_name_ok(t->name) || !t->data ||
            !seo_ckpt_shape_count(t->rank, t->dims, &elements)) {
            return SEO_FAIL(SEO_ERR_ARG, "tensor %lld of the checkpoint has a bad name or shape",
                            (long long)i);
        }
    }
    return SEO_OK;
}

static seo_err begin(save *w, const char *run_dir, int64_t attempt) {
    seo_err err = SEO_OK;
    char name[SEO_CKPT_STEP_NAME_MAX], temporary[64];
    const seo_ckpt_snapshot *s = w->snapshot;
    SEO_TRY(seo_path_join(w->folder, run_dir, SEO_CKPT_FOLDER));
    seo_ckpt_step_name(name, s->state.step);
    SEO_TRY(seo_path_join(w->target, w->folder, name));
    snprintf(temporary, sizeof temporary, "tmp.%lld.%lld", (long long)s->state.step,
             (long long)attempt);
    SEO_TRY(seo_path_join(w->temporary, w->folder, temporary));
    seo_ckpt_manifest *m = &w->manifest;
    m->state = s->state;
    m->part_count = 1;
    snprintf(m->program, sizeof m->program, "seodang %s", SEODANG_VERSION);
    m->files = calloc(FILES_MAX, sizeof *m->files);
    m->entries = calloc((size_t)s->tensor_count, sizeof *m->entries);
    m->pieces = calloc((size_t)s->tensor_count, sizeof *m->pieces);
    if (!m->files || !m->entries || !m->pieces) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its manifest", w->target);
    }
done:
    return err;
}

static void fill_tensor_table(save *w) {
    const seo_ckpt_snapshot *s = w->snapshot;
    seo_ckpt_manifest *m = &w->manifest;
    for (int64_t i = 0; i < s->tensor_count; i++) {
        const seo_ckpt_tensor *t = &s->tensors[i];
        seo_ckpt_entry *e = &m->entries[i];
        seo_ckpt_piece *p = &m->pieces[i];
        snprintf(e->name, sizeof e->name, "%s", t->name);
        e->rank = t->rank;
        memcpy(e->dims, t->dims, sizeof e->dims);
        SEO_ASSERT(seo_ckpt_shape_count(t->rank, t->dims, &e->count));
        e->piece_first = i;
        e->piece_count = 1;
        p->count = e->count;
        seo_xxh128_hex(t->data, (size_t)e->count * sizeof(float), p->hash);
    }
    m->entry_count = m->piece_count = s->tensor_count;
}

/* The checkpoint that stands under this step's name is the one to be written: same tensors, same
 * bits. */
static bool is_same(const seo_ckpt *there, const seo_ckpt_manifest *wanted) {
    if (there->manifest.entry_count != wanted->entry_count) return false;
    for (int64_t i = 0; i < wanted->entry_count; i++) {
        const seo_ckpt_entry *a = &there->manifest.entries[i], *b = &wanted->entries[i];
        if (strcmp(a->name, b->name) != 0 || a->rank != b->rank || a->piece_count != 1 ||
            memcmp(a->dims, b->dims, (size_t)b->rank * sizeof b->dims[0]) != 0 ||
            strcmp(there->manifest.pieces[a->piece_first].hash, wanted->pieces[i].hash) != 0) {
            return false;
        }
    }
    return true;
}

/* *saved: it stands already. *damaged: what stands there is to be replaced. */
static seo_err look_at_target(save *w, bool *saved, bool *damaged) {
    seo_path_kind kind;
    seo_ckpt *there = NULL;
    *saved = *damaged = false;
    seo_err err = seo_path_look(w->target, &kind);
    if (err != SEO_OK || kind == SEO_PATH_NONE) return err;
    err = seo_ckpt_open_step(w->target, &there);
    if (err == SEO_ERR_FORMAT || err == SEO_ERR_MISSING) {
        seo_warn("a damaged checkpoint is replaced: %s", seo_err_detail());
        *damaged = true;
        return SEO_OK;
    }
    if (err != SEO_OK) return err;
    *saved = is_same(there, &w->manifest);
    seo_ckpt_close(there);
    if (*saved) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s: a good checkpoint with other values stands there, and is not overwritten. "
                    "Train into another folder, or move it away",
                    w->target);
}

static seo_err list_file(save *w, const char *name, const char *path) {
    seo_ckpt_file *file = &w->manifest.files[w->manifest.file_count];
    SEO_ASSERT(w->manifest.file_count < FILES_MAX);
    seo_err err = seo_ckpt_digest_file(path, &file->digest);
    if (err != SEO_OK) return err;
    snprintf(file->name, sizeof file->name, "%s", name);
    w->manifest.file_count++;
    return SEO_OK;
}

static seo_err write_small(save *w, const char *name, const void *data, int64_t bytes) {
    char path[SEO_PATH_MAX], hash[SEO_XXH128_HEX];
    seo_err err = seo_path_join(path, w->temporary, name);
    if (err == SEO_OK) err = seo_ckpt_write_file(path, data, bytes);
    if (err == SEO_OK) err = list_file(w, name, path);
    if (err != SEO_OK) return err;
    seo_xxh128_hex(data, (size_t)bytes, hash);
    if (strcmp(w->manifest.files[w->manifest.file_count - 1].digest.hash, hash) != 0) {
        return SEO_FAIL(SEO_ERR_IO, "%s: does not read back as it was written", path);
    }
    return SEO_OK;
}

static seo_err write_part(save *w) {
    seo_err err = SEO_OK;
    const seo_ckpt_snapshot *s = w->snapshot;
    char name[SEO_CKPT_FILE_NAME_MAX], path[SEO_PATH_MAX];
    seo_ckpt_part *part = NULL;
    seo_ckpt_part_name(name, 0, 1);
    SEO_TRY(seo_path_join(path, w->temporary, name));
    SEO_TRY(seo_ckpt_part_write(path, s->state.step, s->tensors, s->tensor_count));
    SEO_TRY(list_file(w, name, path));
    SEO_TRY(seo_ckpt_part_open(path, &part));
    for (int64_t i = 0; i < s->tensor_count; i++) {
        SEO_TRY(seo_ckpt_part_compare(part, &s->tensors[i]));
    }
done:
    seo_ckpt_part_close(part);
    return err;
}

static seo_err write_manifest(save *w) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    seo_buf text = {0};
    seo_ckpt_manifest again = {0};
    SEO_TRY(seo_path_join(path, w->temporary, SEO_CKPT_MANIFEST));
    SEO_TRY(seo_ckpt_manifest_write(&w->manifest, &text));
    SEO_TRY(seo_ckpt_write_file(path, text.data, (int64_t)text.bytes));
    /* It must not only be there: it must be one that resuming accepts. */
    SEO_TRY(seo_ckpt_manifest_load(path, &again));
    seo_ckpt_manifest_free(&again);
done:
    seo_buf_free(&text);
    return err;
}

static seo_err write_contents(save *w) {
    seo_err err = SEO_OK;
    const seo_ckpt_snapshot *s = w->snapshot;
    char *tokenizer = NULL;
    int64_t bytes = 0;
    if (mkdir(w->temporary, 0755) != 0) {
        return SEO_FAIL(SEO_ERR_IO, "%s: cannot create: %s", w->temporary, strerror(errno));
    }
    SEO_TRY(write_part(w));
    SEO_TRY(write_small(w, SEO_CKPT_CONFIG, s->config_yaml, (int64_t)strlen(s->config_yaml)));
    if (s->tokenizer_path) {
        SEO_TRY(seo_file_read(s->tokenizer_path, TOKENIZER_BYTES_MAX, &tokenizer, &bytes));
        SEO_TRY(write_small(w, SEO_CKPT_TOKENIZER, tokenizer, bytes));
    }
    SEO_TRY(write_manifest(w));
    SEO_TRY(seo_dir_sync(w->temporary));
done:
    free(tokenizer);
    return err;
}

/* From here on it is a checkpoint. What stood damaged in its place becomes a leftover. */
static seo_err publish(save *w, const char *run_dir, int64_t attempt, bool damaged) {
    seo_err err = SEO_OK;
    char aside[SEO_PATH_MAX];
    char name[64];
    snprintf(name, sizeof name, "tmp.%lld.0%lld", (long long)w->snapshot->state.step,
             (long long)attempt);
    SEO_TRY(seo_path_join(aside, w->folder, name));
    SEO_TRY(seo_run_dir_fence(run_dir, attempt));
    if (damaged) SEO_TRY(seo_rename(w->target, aside));
    SEO_TRY(seo_rename(w->temporary, w->target));
    SEO_TRY(seo_dir_sync(w->folder));
    if (damaged && seo_dir_remove(aside) != SEO_OK) seo_warn("%s", seo_err_detail());
done:
    return err;
}

/* For the message of a save that failed for want of space: what it needs and what there is. */
static void add_space(const save *w, char *message, size_t capacity) {
    char needed_text[SEO_SHORT_TEXT], free_text[SEO_SHORT_TEXT];
    struct statvfs disk;
    int64_t needed = 0;
    for (int64_t i = 0; i < w->manifest.entry_count; i++) {
        needed += w->manifest.entries[i].count * (int64_t)sizeof(float);
    }
    if (statvfs(w->folder, &disk) != 0) return;
    double space = (double)disk.f_bavail * (double)disk.f_frsize;
    if (space > (double)needed * 1.01) return;
    size_t used = strlen(message);
    snprintf(message + used, capacity - used, " (it needs %s, %s are free there)",
             seo_format_bytes(needed_text, (double)needed), seo_format_bytes(free_text, space));
}

/* Takes away what a failed save wrote, and keeps the message of its failure. */
static seo_err clean_up(const save *w, seo_err err) {
    char message[2048];
    snprintf(message, sizeof message, "%s", seo_err_detail());
    if (w->temporary[0] != '\0' && seo_dir_remove(w->temporary) != SEO_OK) {
        seo_warn("an unfinished save stays behind: %s", seo_err_detail());
    }
    if (err == SEO_ERR_IO) add_space(w, message, sizeof message);
    return SEO_FAIL(err, "%s", message);
}

seo_err seo_ckpt_save(const char *run_dir, int64_t attempt, const seo_ckpt_snapshot *snapshot) {
    seo_err err = SEO_OK;
    bool saved = false, damaged = false;
    save *w = calloc(1, sizeof *w);
    if (!w) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to save a checkpoint", run_dir);
    w->snapshot = snapshot;
    SEO_TRY(check_snapshot(snapshot));
    SEO_TRY(begin(w, run_dir, attempt));
    fill_tensor_table(w);
    SEO_TRY(seo_dir_make(w->folder));
    SEO_TRY(seo_dir_sync(run_dir));
    SEO_TRY(look_at_target(w, &saved, &damaged));
    if (saved) goto done;
    seo_ckpt_clean_leftovers(w->folder);
    SEO_TRY(write_contents(w));
    SEO_TRY(publish(w, run_dir, attempt, damaged));
done:
    if (err != SEO_OK) err = clean_up(w, err);
    seo_ckpt_manifest_free(&w->manifest);
    free(w);
    return err;
}
