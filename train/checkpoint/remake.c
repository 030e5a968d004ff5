/* New checkpoints from old ones, without a device: cut into other parts, or averaged. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/checkpoint.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/open.h"
#include "train/checkpoint/remake.h"
#include "train/checkpoint/save.h"
#include "train/run_dir.h"

enum { CONFIG_BYTES_MAX = 16 << 20 };

static const char k_parameters[] = "parameters/";

/* What the new checkpoint is read from. Tensor i of the new one is tensor at[i] of each. */
typedef struct remake {
    seo_ckpt **from;
    int64_t from_count;
    seo_ckpt_tensor *tensors;
    int64_t *at;
    int64_t count;
    double *sums; /* of one piece, when more than one is averaged */
    char *config;
    char tokenizer[SEO_PATH_MAX];
    bool has_tokenizer;
} remake;

static seo_err read_mean(void *context, int64_t index, int64_t first, int64_t count, float *out) {
    const remake *r = context;
    const seo_ckpt_range range = {
        .tensor = r->at[index], .offset = first, .count = count, .data = out};
    SEO_ASSERT(count <= SEO_CKPT_PIECE_VALUES);
    if (r->from_count == 1) return seo_ckpt_read_ranges(r->from[0], &range, 1);
    memset(r->sums, 0, (size_t)count * sizeof *r->sums);
    for (int64_t k = 0; k < r->from_count; k++) {
        const seo_err err = seo_ckpt_read_ranges(r->from[k], &range, 1);
        if (err != SEO_OK) return err;
        for (int64_t i = 0; i < count; i++) r->sums[i] += (double)out[i];
    }
    for (int64_t i = 0; i < count; i++) out[i] = (float)(r->sums[i] / (double)r->from_count);
    return SEO_OK;
}

/* All tensors of the first, or its parameters alone. */
static seo_err list_tensors(remake *r, bool parameters_only) {
    const seo_ckpt_manifest *m = &r->from[0]->manifest;
    r->tensors = calloc((size_t)m->entry_count + 1, sizeof *r->tensors);
    r->at = calloc((size_t)m->entry_count + 1, sizeof *r->at);
    if (!r->tensors || !r->at) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for a table of tensors");
    for (int64_t i = 0; i < m->entry_count; i++) {
        const char *name = m->entries[i].name;
        if (parameters_only && strncmp(name, k_parameters, sizeof k_parameters - 1) != 0) continue;
        r->tensors[r->count] = seo_ckpt_tensor_at(r->from[0], i);
        r->at[r->count++] = i;
    }
    if (r->count > 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: holds no parameters", r->from[0]->path);
}

/* The new checkpoint tells of the configuration and the tokenizer what the old one did. */
static seo_err take_files(remake *r, const seo_ckpt *of) {
    char path[SEO_PATH_MAX];
    int64_t bytes;
    r->has_tokenizer = seo_ckpt_manifest_file(&of->manifest, SEO_CKPT_TOKENIZER) != NULL;
    seo_err err = seo_path_join(path, of->path, SEO_CKPT_CONFIG);
    if (err == SEO_OK) err = seo_file_read(path, CONFIG_BYTES_MAX, &r->config, &bytes);
    if (err == SEO_OK) err = seo_path_join(r->tokenizer, of->path, SEO_CKPT_TOKENIZER);
    return err;
}

static void remake_free(remake *r) {
    for (int64_t k = 0; r->from && k < r->from_count; k++) seo_ckpt_close(r->from[k]);
    free(r->from);
    free(r->tensors);
    free(r->at);
    free(r->sums);
    free(r->config);
}

static seo_err open_all(remake *r, const char *const *paths, int64_t count) {
    r->from = calloc((size_t)count, sizeof(seo_ckpt *));
    r->from_count = count;
    if (!r->from)
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for %lld checkpoints", (long long)count);
    for (int64_t k = 0; k < count; k++) {
        const seo_err err = seo_ckpt_open(paths[k], NULL, &r->from[k]);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

seo_err seo_ckpt_write_anew(const char *dir, const seo_ckpt_snapshot *snapshot, int64_t parts,
                            const seo_ckpt_source *source) {
    seo_err err = SEO_OK;
    char folder[SEO_PATH_MAX], name[SEO_CKPT_STEP_NAME_MAX], path[SEO_PATH_MAX];
    seo_path_kind kind;
    seo_buf report = {0};
    seo_run_dir run = {.lock_fd = -1};
    SEO_TRY(seo_path_join(folder, dir, SEO_CKPT_FOLDER));
    seo_ckpt_step_name(name, snapshot->state.step);
    SEO_TRY(seo_path_join(path, folder, name));
    /* As a run would: no other may write there, and the folder outlives a power cut. */
    SEO_TRY(seo_run_dir_open(dir, &run));
    SEO_TRY(seo_path_look(path, &kind));
    if (kind != SEO_PATH_NONE) {
        err = SEO_FAIL(SEO_ERR_USAGE, "%s: stands there already: write into another folder", path);
        goto done;
    }
    SEO_TRY(seo_ckpt_save_with(&(seo_ckpt_save_args){.run_dir = dir,
                                                     .attempt = run.attempt,
                                                     .snapshot = snapshot,
                                                     .parts = parts,
                                                     .source = source}));
    SEO_TRY(seo_ckpt_verify(path, &report));
done:
    seo_run_dir_close(&run);
    seo_buf_free(&report);
    return err;
}

/* Saves with the state of `of`. */
static seo_err write_anew(remake *r, const seo_ckpt *of, const char *dir, int64_t parts) {
    const seo_ckpt_source source = {.read = read_mean, .context = r};
    const seo_ckpt_snapshot snapshot = {.state = of->manifest.state,
                                        .tensors = r->tensors,
                                        .tensor_count = r->count,
                                        .config_yaml = r->config,
                                        .tokenizer_path = r->has_tokenizer ? r->tokenizer : NULL};
    return seo_ckpt_write_anew(dir, &snapshot, parts, &source);
}

seo_err seo_ckpt_reshard(const char *path, const char *dir, int64_t parts) {
    seo_err err = SEO_OK;
    remake r = {0};
    if (parts < 1 || parts > SEO_CKPT_PARTS_MAX) {
        return SEO_FAIL(SEO_ERR_USAGE, "a checkpoint has 1 to %d parts, not %lld",
                        SEO_CKPT_PARTS_MAX, (long long)parts);
    }
    SEO_TRY(open_all(&r, &path, 1));
    SEO_TRY(list_tensors(&r, false));
    SEO_TRY(take_files(&r, r.from[0]));
    SEO_TRY(write_anew(&r, r.from[0], dir, parts));
done:
    remake_free(&r);
    return err;
}

/* Checkpoints of one model, of whatever steps. */
static seo_err check_agreement(const remake *r) {
    const seo_ckpt *a = r->from[0];
    int64_t index;
    for (int64_t k = 1; k < r->from_count; k++) {
        const seo_ckpt *b = r->from[k];
        const seo_ckpt_state *x = &a->manifest.state, *y = &b->manifest.state;
        const char *what = NULL;
        if (strcmp(x->config_hash, y->config_hash) != 0) what = "configurations";
        if (strcmp(x->tokenizer_sha256, y->tokenizer_sha256) != 0) what = "tokenizers";
        if (what) {
            return SEO_FAIL(SEO_ERR_USAGE, "%s and %s have different %s: their mean is no model",
                            a->path, b->path, what);
        }
        for (int64_t i = 0; i < r->count; i++) {
            if (seo_ckpt_find(b, &r->tensors[i], &index) == SEO_OK && index == r->at[i]) continue;
            return SEO_FAIL(SEO_ERR_USAGE, "%s and %s have different tensors", a->path, b->path);
        }
    }
    return SEO_OK;
}

seo_err seo_ckpt_average(const char *const *paths, int64_t count, const char *dir) {
    seo_err err = SEO_OK;
    remake r = {0};
    if (count < 1) return SEO_FAIL(SEO_ERR_USAGE, "no checkpoints to average");
    SEO_TRY(open_all(&r, paths, count));
    SEO_TRY(list_tensors(&r, true));
    SEO_TRY(check_agreement(&r));
    r.sums = malloc(SEO_CKPT_PIECE_VALUES * sizeof *r.sums);
    if (!r.sums) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "no memory to average checkpoints");
        goto done;
    }
    const seo_ckpt *newest = r.from[0];
    for (int64_t k = 1; k < count; k++) {
        if (r.from[k]->manifest.state.step > newest->manifest.state.step) newest = r.from[k];
    }
    SEO_TRY(take_files(&r, newest));
    SEO_TRY(write_anew(&r, newest, dir, 1));
done:
    remake_free(&r);
    return err;
}
