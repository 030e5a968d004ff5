/* The commit of a checkpoint: every rank writes its part aside, syncs it and reads it back; rank 0
 * adds the rest; one rename makes it a checkpoint. After each stage the ranks agree, so that a
 * failure of one is the end of the save for all and nobody waits for who has given up. */
#include "train/checkpoint/save.h"

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
#include "train/checkpoint/own.h"
#include "train/checkpoint/peers.h"
#include "train/checkpoint/table.h"
#include "train/checkpoint/target.h"
#include "train/run_dir.h"

enum { TOKENIZER_BYTES_MAX = 1 << 30, OTHER_FILES = 2 };

static const seo_channel k_line = SEO_CHANNEL_SAVE;

/* What rank 0 has found and decided. */
typedef struct decision {
    int64_t verdict, attempt;
    char owner[SEO_RUN_OWNER_MAX]; /* the text of RUN/attempt; "" without a fence */
} decision;

typedef struct save {
    const seo_ckpt_save_args *args;
    const seo_ckpt_snapshot *snapshot;
    bool first; /* rank 0 */
    seo_ckpt_own own;
    seo_ckpt_manifest manifest; /* rank 0's */
    decision is;
    char folder[SEO_PATH_MAX]; /* RUN/checkpoints, by the path this rank knows */
    char temporary[SEO_PATH_MAX];
    char target[SEO_PATH_MAX];
} save;

static seo_err agree(const save *w, const char *what, seo_err mine) {
    return seo_ckpt_agree(w->args->world, k_line, what, mine);
}

static seo_err name_places(save *w) {
    seo_err err = SEO_OK;
    char name[SEO_CKPT_STEP_NAME_MAX], temporary[64];
    const int64_t step = w->snapshot->state.step;
    SEO_TRY(seo_path_join(w->folder, w->args->run_dir, SEO_CKPT_FOLDER));
    seo_ckpt_step_name(name, step);
    SEO_TRY(seo_path_join(w->target, w->folder, name));
    snprintf(temporary, sizeof temporary, "tmp.%lld.%lld", (long long)step,
             (long long)w->is.attempt);
    SEO_TRY(seo_path_join(w->temporary, w->folder, temporary));
done:
    return err;
}

/* Rank 0: what there is to write, and a folder to write it in. */
static seo_err begin(save *w, seo_ckpt_told *told, int64_t count) {
    seo_err err = SEO_OK;
    seo_ckpt_manifest *m = &w->manifest;
    seo_ckpt_verdict verdict = SEO_CKPT_WRITE;
    w->is.attempt = w->args->attempt;
    SEO_TRY(name_places(w));
    m->state = w->snapshot->state;
    m->part_count = w->own.part_count;
    snprintf(m->program, sizeof m->program, "seodang %s", SEODANG_VERSION);
    m->files = calloc((size_t)m->part_count + OTHER_FILES, sizeof *m->files);
    if (!m->files) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its manifest", w->target);
        goto done;
    }
    SEO_TRY(seo_ckpt_fill_table(m, w->snapshot, told, count));
    SEO_TRY(seo_dir_make(w->folder));
    SEO_TRY(seo_dir_sync(w->args->run_dir));
    SEO_TRY(seo_ckpt_look_at_target(w->target, m, &verdict));
    w->is.verdict = verdict;
    if (verdict == SEO_CKPT_SAVED || verdict == SEO_CKPT_COMPARE) goto done;
    seo_ckpt_clean_leftovers(w->folder);
    if (w->args->attempt > 0) {
        SEO_TRY(seo_run_dir_fence(w->args->run_dir, w->args->attempt));
        SEO_TRY(seo_run_dir_owner(w->args->run_dir, w->is.owner));
    }
    if (mkdir(w->temporary, 0755) != 0) {
        err = SEO_FAIL(SEO_ERR_IO, "%s: cannot create: %s", w->temporary, strerror(errno));
    }
done:
    return err;
}

static seo_err share_decision(save *w) {
    seo_blob blob = {0};
    if (seo_ckpt_ranks(w->args->world) == 1) return SEO_OK;
    seo_err err = seo_world_share(w->args->world, k_line, "where a checkpoint is written", &w->is,
                                  sizeof w->is, &blob);
    if (err != SEO_OK) return err;
    if (blob.bytes == (int64_t)sizeof w->is) {
        memcpy(&w->is, blob.data, sizeof w->is);
    } else {
        err = SEO_FAIL(SEO_ERR_FORMAT, "rank 0 is another build of this program");
    }
    free(blob.data);
    if (err == SEO_OK) err = name_places(w);
    return agree(w, "where a checkpoint is written", err);
}

/* The tables of all to rank 0, its decision to all. */
static seo_err decide(save *w) {
    seo_err err = SEO_OK;
    seo_ckpt_told *told = NULL;
    int64_t count = 0;
    SEO_TRY(agree(w, "a checkpoint's values", seo_ckpt_own_plan(w->args, &w->own)));
    err = seo_ckpt_gather_table(w->args->world, w->snapshot, w->own.told, w->own.count, &told,
                                &count);
    if (err == SEO_OK && w->first) err = begin(w, told, count);
    SEO_TRY(agree(w, "the start of a checkpoint", err));
    SEO_TRY(share_decision(w));
done:
    free(told);
    return err;
}

/* The same tensors in other pieces stand there: they count as saved when every value is the same.
 */
static seo_err compare_with_target(save *w) {
    bool same = false;
    seo_ckpt *there = NULL;
    seo_err err = seo_ckpt_open_unverified(w->target, &there);
    if (err == SEO_OK) err = seo_ckpt_own_compare(&w->own, there, &same);
    if (err == SEO_OK && !same) err = seo_ckpt_other_values(w->target);
    seo_ckpt_close(there);
    return agree(w, "the checkpoint that stands there", err);
}

static seo_err write_own(save *w) {
    seo_err err = SEO_OK;
    const bool alone = seo_ckpt_ranks(w->args->world) == 1;
    if (!w->first) {
        SEO_TRY(seo_ckpt_folder_is_shared(w->temporary));
        SEO_TRY(seo_run_dir_owned_by(w->args->run_dir, w->is.owner));
    }
    SEO_TRY(seo_ckpt_own_write(&w->own, w->temporary, w->snapshot->state.step, w->args->source));
    if (!alone) SEO_TRY(seo_dir_sync(w->temporary));
done:
    return agree(w, "a part of the checkpoint", err);
}

/* Rank 0: this process's files into the manifest; of the others' that they are here, too. */
static seo_err list_parts(save *w) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    seo_ckpt_manifest *m = &w->manifest;
    m->file_count = m->part_count;
    for (int64_t p = w->own.part_first; p < w->own.part_end; p++) {
        seo_ckpt_file *file = &w->own.files[p - w->own.part_first];
        m->files[p] = *file;
        *file = (seo_ckpt_file){0};
    }
    for (int64_t p = w->own.part_end; p < m->part_count; p++) {
        SEO_TRY(seo_path_join(path, w->temporary, m->files[p].name));
        SEO_TRY(seo_ckpt_file_is_shared(path, m->files[p].digest.bytes,
                                        seo_world_who(w->args->world, (int32_t)p)));
    }
done:
    return err;
}

static seo_err list_file(save *w, const char *name, const char *path) {
    seo_ckpt_file *file = &w->manifest.files[w->manifest.file_count];
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

/* Rank 0, when all parts are written. */
static seo_err write_the_rest(save *w) {
    seo_err err = SEO_OK;
    const seo_ckpt_snapshot *s = w->snapshot;
    char *tokenizer = NULL;
    int64_t bytes = 0;
    SEO_TRY(list_parts(w));
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
static seo_err publish(save *w) {
    const bool damaged = w->is.verdict == SEO_CKPT_REPLACE;
    seo_err err = SEO_OK;
    char aside[SEO_PATH_MAX];
    char name[64];
    snprintf(name, sizeof name, "tmp.%lld.0%lld", (long long)w->snapshot->state.step,
             (long long)w->args->attempt);
    SEO_TRY(seo_path_join(aside, w->folder, name));
    SEO_TRY(seo_run_dir_fence(w->args->run_dir, w->args->attempt));
    if (damaged) SEO_TRY(seo_rename(w->target, aside));
    SEO_TRY(seo_rename(w->temporary, w->target));
    SEO_TRY(seo_dir_sync(w->folder));
    if (damaged && seo_dir_remove(aside) != SEO_OK) seo_warn("%s", seo_err_detail());
done:
    return err;
}

static seo_err commit(save *w) {
    seo_err err = SEO_OK;
    if (seo_ckpt_ranks(w->args->world) > 1) {
        err = seo_ckpt_gather_files(w->args->world, &w->own.files[0], w->manifest.files);
    }
    if (err == SEO_OK && w->first) err = write_the_rest(w);
    if (err == SEO_OK && w->first) err = publish(w);
    return agree(w, "the commit of a checkpoint", err);
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

/* Takes away what a failed save wrote, and keeps the message of its failure. When a rank is lost,
 * others may be writing still: then it is left to the next save. */
static seo_err clean_up(const save *w, seo_err err) {
    char message[2048];
    snprintf(message, sizeof message, "%s", seo_err_detail());
    if (!w->first || err == SEO_ERR_LOST) return err;
    if (w->temporary[0] != '\0' && seo_dir_remove(w->temporary) != SEO_OK) {
        seo_warn("an unfinished save stays behind: %s", seo_err_detail());
    }
    if (err == SEO_ERR_IO) add_space(w, message, sizeof message);
    return SEO_FAIL(err, "%s", message);
}

seo_err seo_ckpt_save_with(const seo_ckpt_save_args *args) {
    seo_err err = SEO_OK;
    save w = {.args = args, .snapshot = args->snapshot};
    w.first = seo_ckpt_rank(args->world) == 0;
    SEO_TRY(decide(&w));
    if (w.is.verdict == SEO_CKPT_SAVED) goto done;
    if (w.is.verdict == SEO_CKPT_COMPARE) {
        err = compare_with_target(&w);
        goto done;
    }
    SEO_TRY(write_own(&w));
    SEO_TRY(commit(&w));
done:
    if (err != SEO_OK) err = clean_up(&w, err);
    seo_ckpt_own_free(&w.own);
    seo_ckpt_manifest_free(&w.manifest);
    return err;
}

seo_err seo_ckpt_save(const char *run_dir, int64_t attempt, seo_world *world,
                      const seo_ckpt_snapshot *snapshot) {
    return seo_ckpt_save_with(&(seo_ckpt_save_args){
        .run_dir = run_dir, .attempt = attempt, .world = world, .snapshot = snapshot});
}
