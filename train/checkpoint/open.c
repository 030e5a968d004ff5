/* Finding, opening and verifying checkpoints. Nothing is believed before its hash was
 * checked, and HDF5 sees a file only after that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "train/checkpoint.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/open.h"
#include "train/checkpoint/part.h"
#include "train/checkpoint/peers.h"

static const seo_channel k_line = SEO_CHANNEL_RUN;

/* Every file, or with several ranks every so many-th. Rank 0 has seen that all are there. */
static seo_err verify_files(const seo_ckpt *ckpt, const seo_world *world) {
    char path[SEO_PATH_MAX];
    const int32_t rank = seo_ckpt_rank(world), ranks = seo_ckpt_ranks(world);
    for (int64_t i = rank; i < ckpt->manifest.file_count; i += ranks) {
        const seo_ckpt_file *file = &ckpt->manifest.files[i];
        seo_err err = seo_path_join(path, ckpt->path, file->name);
        if (err == SEO_OK) err = seo_ckpt_digest_check(path, &file->digest);
        if (err == SEO_ERR_MISSING && rank > 0) {
            return SEO_FAIL(SEO_ERR_IO,
                            "%s: rank 0 sees it and this rank does not. The run folder must lie on "
                            "a file system that all hosts share",
                            path);
        }
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* A folder under another step's name would be taken for progress that was never made. */
static seo_err check_name(const seo_ckpt *ckpt) {
    const char *slash = strrchr(ckpt->path, '/');
    int64_t step;
    if (!seo_ckpt_step_parse(slash ? slash + 1 : ckpt->path, &step)) return SEO_OK;
    if (step == ckpt->manifest.state.step) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: its manifest is that of step %lld", ckpt->path,
                    (long long)ckpt->manifest.state.step);
}

/* The checkpoint of a manifest's text, as yet unverified. */
static seo_err make(const char *path, const char *manifest_path, const char *text, int64_t bytes,
                    seo_ckpt **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    seo_ckpt *ckpt = calloc(1, sizeof *ckpt);
    if (!ckpt) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to open it", path);
    snprintf(ckpt->path, sizeof ckpt->path, "%s", path);
    for (size_t n = strlen(ckpt->path); n > 1 && ckpt->path[n - 1] == '/'; n--) {
        ckpt->path[n - 1] = '\0';
    }
    SEO_TRY(seo_ckpt_manifest_parse(manifest_path, text, (size_t)bytes, &ckpt->manifest));
    SEO_TRY(check_name(ckpt));
    *out = ckpt;
    return SEO_OK;
done:
    seo_ckpt_close(ckpt);
    return err;
}

static seo_err read_manifest(const char *path, char *manifest, char **text, int64_t *bytes) {
    seo_err err = seo_path_join(manifest, path, SEO_CKPT_MANIFEST);
    if (err == SEO_OK) err = seo_file_read(manifest, SEO_CKPT_MANIFEST_BYTES_MAX, text, bytes);
    if (err == SEO_ERR_MISSING) {
        err = SEO_FAIL(SEO_ERR_MISSING, "%s: not a checkpoint: it has no " SEO_CKPT_MANIFEST, path);
    }
    return err;
}

seo_err seo_ckpt_open_unverified(const char *path, seo_ckpt **out) {
    char manifest[SEO_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    *out = NULL;
    seo_err err = read_manifest(path, manifest, &text, &bytes);
    if (err == SEO_OK) err = make(path, manifest, text, bytes, out);
    free(text);
    return err;
}

seo_err seo_ckpt_open_step(const char *path, seo_ckpt **out) {
    seo_err err = seo_ckpt_open_unverified(path, out);
    if (err == SEO_OK) err = verify_files(*out, NULL);
    if (err != SEO_OK) {
        seo_ckpt_close(*out);
        *out = NULL;
    }
    return err;
}

/* On rank 0: are all files there? Then a rank that misses one has another folder. */
static seo_err look_for_files(const seo_ckpt *ckpt) {
    char path[SEO_PATH_MAX];
    int64_t bytes;
    for (int64_t i = 0; i < ckpt->manifest.file_count; i++) {
        seo_err err = seo_path_join(path, ckpt->path, ckpt->manifest.files[i].name);
        if (err == SEO_OK) err = seo_file_bytes(path, &bytes);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* All ranks: rank 0's manifest is everybody's, and each verifies its share of the files. */
static seo_err open_step_with(const char *path, seo_world *world, seo_ckpt **out) {
    seo_err err = SEO_OK;
    char manifest[SEO_PATH_MAX] = "", *text = NULL;
    int64_t bytes = 0;
    seo_blob shared = {0};
    *out = NULL;
    if (seo_ckpt_ranks(world) == 1) return seo_ckpt_open_step(path, out);
    if (seo_ckpt_rank(world) == 0) {
        err = read_manifest(path, manifest, &text, &bytes);
        if (err == SEO_OK) err = make(path, manifest, text, bytes, out);
        if (err == SEO_OK) err = look_for_files(*out);
    } else {
        err = seo_path_join(manifest, path, SEO_CKPT_MANIFEST);
    }
    SEO_TRY(seo_world_agree(world, k_line, "a checkpoint's manifest", err));
    SEO_TRY(seo_world_share(world, k_line, "a checkpoint's manifest", text, bytes, &shared));
    if (!*out) err = make(path, manifest, shared.data, shared.bytes, out);
    if (err == SEO_OK) err = verify_files(*out, world);
    SEO_TRY(seo_world_agree(world, k_line, "a checkpoint's files", err));
done:
    free(shared.data);
    free(text);
    if (err != SEO_OK) {
        seo_ckpt_close(*out);
        *out = NULL;
    }
    return err;
}

/* What is wrong with this checkpoint alone, so that an older one may serve. A disk or a permission
 * that keeps us from looking, or a format of a newer program, is not. */
static bool is_damage(seo_err err) {
    return err == SEO_ERR_FORMAT || err == SEO_ERR_MISSING;
}

/* What there is to choose from, the same on all ranks. */
typedef struct choice {
    bool newest; /* of the steps below */
    char place[SEO_PATH_MAX];
    int64_t *steps, count;
} choice;

static seo_err list_choice(const char *path, choice *c) {
    seo_ckpt_place place;
    seo_err err = seo_ckpt_locate(path, &place, c->place);
    c->newest = err == SEO_OK && place == SEO_CKPT_PLACE_RUN;
    if (!c->newest) return err;
    err = seo_ckpt_list_steps(c->place, &c->steps, &c->count);
    if (err != SEO_OK || c->count > 0) return err;
    return SEO_FAIL(SEO_ERR_MISSING, "%s: no checkpoint in it", c->place);
}

/* Rank 0 looks; the steps that it sees, none for one checkpoint, are everybody's. */
static seo_err make_choice(const char *path, seo_world *world, choice *c) {
    seo_err err = SEO_OK;
    seo_blob steps = {0};
    if (seo_ckpt_ranks(world) == 1) return list_choice(path, c);
    if (seo_ckpt_rank(world) == 0) err = list_choice(path, c);
    SEO_TRY(seo_world_agree(world, k_line, "the checkpoints there are", err));
    SEO_TRY(seo_world_share(world, k_line, "the checkpoints there are", c->steps,
                            c->count * (int64_t)sizeof *c->steps, &steps));
    free(c->steps);
    c->steps = steps.data;
    c->count = steps.bytes / (int64_t)sizeof *c->steps;
    c->newest = c->count > 0;
    if (c->newest) {
        err = seo_path_join(c->place, path, SEO_CKPT_FOLDER);
    } else {
        snprintf(c->place, sizeof c->place, "%s", path);
    }
    err = seo_world_agree(world, k_line, "the checkpoints there are", err);
done:
    return err;
}

static seo_err open_newest(const choice *c, seo_world *world, seo_ckpt **out) {
    seo_err err = SEO_OK;
    char name[SEO_CKPT_STEP_NAME_MAX], path[SEO_PATH_MAX];
    for (int64_t i = 0; i < c->count; i++) {
        seo_ckpt_step_name(name, c->steps[i]);
        SEO_TRY(seo_path_join(path, c->place, name));
        err = open_step_with(path, world, out);
        if (!is_damage(err)) goto done;
        if (seo_ckpt_rank(world) == 0) seo_warn("checkpoint passed over: %s", seo_err_detail());
    }
    err = SEO_FAIL(SEO_ERR_FORMAT,
                   "%s: none of its %lld checkpoints is good. Put a good copy back, or start again "
                   "with --from-scratch, which sets them aside",
                   c->place, (long long)c->count);
done:
    return err;
}

/* RUN/checkpoints of a run folder; `path` itself when it is that folder or one checkpoint. */
seo_err seo_ckpt_locate(const char *path, seo_ckpt_place *place, char *out) {
    seo_err err = SEO_OK;
    seo_path_kind kind;
    int64_t step;
    char inner[SEO_PATH_MAX];
    SEO_TRY(seo_path_look(path, &kind));
    if (kind == SEO_PATH_NONE) {
        err = SEO_FAIL(SEO_ERR_MISSING, "%s: no such folder", path);
        goto done;
    }
    if (kind != SEO_PATH_DIR) {
        err = SEO_FAIL(SEO_ERR_IO, "%s: not a folder", path);
        goto done;
    }
    const char *slash = strrchr(path, '/');
    SEO_TRY(seo_path_join(inner, path, SEO_CKPT_MANIFEST));
    SEO_TRY(seo_path_look(inner, &kind));
    if (kind != SEO_PATH_NONE || seo_ckpt_step_parse(slash ? slash + 1 : path, &step)) {
        *place = SEO_CKPT_PLACE_STEP;
        snprintf(out, SEO_PATH_MAX, "%s", path);
        goto done;
    }
    *place = SEO_CKPT_PLACE_RUN;
    SEO_TRY(seo_path_join(out, path, SEO_CKPT_FOLDER));
    SEO_TRY(seo_path_look(out, &kind));
    if (kind == SEO_PATH_NONE) {
        err = SEO_FAIL(SEO_ERR_MISSING, "%s: no checkpoint in it", path);
    } else if (kind != SEO_PATH_DIR) {
        err = SEO_FAIL(SEO_ERR_IO, "%s: not a folder", out);
    }
done:
    return err;
}

seo_err seo_ckpt_open(const char *path, seo_world *world, seo_ckpt **out) {
    choice c = {0};
    *out = NULL;
    seo_err err = make_choice(path, world, &c);
    if (err == SEO_OK) {
        err = c.newest ? open_newest(&c, world, out) : open_step_with(c.place, world, out);
    }
    free(c.steps);
    return err;
}

void seo_ckpt_close(seo_ckpt *ckpt) {
    if (!ckpt) return;
    seo_ckpt_part_close(ckpt->part);
    seo_ckpt_manifest_free(&ckpt->manifest);
    free(ckpt);
}

const seo_ckpt_state *seo_ckpt_state_of(const seo_ckpt *ckpt) {
    return &ckpt->manifest.state;
}

const char *seo_ckpt_path(const seo_ckpt *ckpt) {
    return ckpt->path;
}

const char *seo_ckpt_hash(const seo_ckpt *ckpt) {
    return ckpt->manifest.hash;
}

int64_t seo_ckpt_part_count(const seo_ckpt *ckpt) {
    return ckpt->manifest.part_count;
}

int64_t seo_ckpt_tensor_count(const seo_ckpt *ckpt) {
    return ckpt->manifest.entry_count;
}

seo_ckpt_tensor seo_ckpt_tensor_at(const seo_ckpt *ckpt, int64_t index) {
    SEO_ASSERT(index >= 0 && index < ckpt->manifest.entry_count);
    const seo_ckpt_entry *entry = &ckpt->manifest.entries[index];
    seo_ckpt_tensor tensor = {.rank = entry->rank};
    memcpy(tensor.name, entry->name, sizeof tensor.name);
    memcpy(tensor.dims, entry->dims, sizeof tensor.dims);
    return tensor;
}
