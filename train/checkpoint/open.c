/* Finding, opening, verifying and reading checkpoints. Nothing is believed before its hash was
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

static seo_err verify_files(const seo_ckpt *ckpt) {
    char path[SEO_PATH_MAX];
    for (int64_t i = 0; i < ckpt->manifest.file_count; i++) {
        const seo_ckpt_file *file = &ckpt->manifest.files[i];
        seo_err err = seo_path_join(path, ckpt->path, file->name);
        if (err == SEO_OK) err = seo_ckpt_digest_check(path, &file->digest);
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

seo_err seo_ckpt_open_step(const char *path, seo_ckpt **out) {
    seo_err err = SEO_OK;
    char manifest[SEO_PATH_MAX];
    *out = NULL;
    seo_ckpt *ckpt = calloc(1, sizeof *ckpt);
    if (!ckpt) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to open it", path);
    SEO_TRY(seo_path_join(manifest, path, SEO_CKPT_MANIFEST));
    snprintf(ckpt->path, sizeof ckpt->path, "%s", path);
    for (size_t n = strlen(ckpt->path); n > 1 && ckpt->path[n - 1] == '/'; n--) {
        ckpt->path[n - 1] = '\0';
    }
    err = seo_ckpt_manifest_load(manifest, &ckpt->manifest);
    if (err == SEO_ERR_MISSING) {
        err = SEO_FAIL(SEO_ERR_MISSING, "%s: not a checkpoint: it has no " SEO_CKPT_MANIFEST, path);
    }
    SEO_TRY(err);
    SEO_TRY(check_name(ckpt));
    SEO_TRY(verify_files(ckpt));
    *out = ckpt;
    return SEO_OK;
done:
    seo_ckpt_close(ckpt);
    return err;
}

/* What is wrong with this checkpoint alone, so that an older one may serve. A disk or a permission
 * that keeps us from looking, or a format of a newer program, is not. */
static bool is_damage(seo_err err) {
    return err == SEO_ERR_FORMAT || err == SEO_ERR_MISSING;
}

static seo_err open_newest(const char *folder, seo_ckpt **out) {
    int64_t *steps = NULL, count = 0;
    char name[SEO_CKPT_STEP_NAME_MAX], path[SEO_PATH_MAX];
    seo_err err = seo_ckpt_list_steps(folder, &steps, &count);
    if (err != SEO_OK) return err;
    if (count == 0) {
        free(steps);
        return SEO_FAIL(SEO_ERR_MISSING, "%s: no checkpoint in it", folder);
    }
    for (int64_t i = 0; i < count; i++) {
        seo_ckpt_step_name(name, steps[i]);
        SEO_TRY(seo_path_join(path, folder, name));
        err = seo_ckpt_open_step(path, out);
        if (!is_damage(err)) goto done;
        seo_warn("checkpoint passed over: %s", seo_err_detail());
    }
    err = SEO_FAIL(SEO_ERR_FORMAT,
                   "%s: none of its %lld checkpoints is good. Put a good copy back, or start again "
                   "with --from-scratch, which sets them aside",
                   folder, (long long)count);
done:
    free(steps);
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

seo_err seo_ckpt_open(const char *path, seo_ckpt **out) {
    char place_path[SEO_PATH_MAX];
    seo_ckpt_place place;
    *out = NULL;
    seo_err err = seo_ckpt_locate(path, &place, place_path);
    if (err != SEO_OK) return err;
    return place == SEO_CKPT_PLACE_RUN ? open_newest(place_path, out)
                                       : seo_ckpt_open_step(place_path, out);
}

void seo_ckpt_close(seo_ckpt *ckpt) {
    if (!ckpt) return;
    seo_ckpt_manifest_free(&ckpt->manifest);
    free(ckpt);
}

const seo_ckpt_state *seo_ckpt_state_of(const seo_ckpt *ckpt) {
    return &ckpt->manifest.state;
}

const char *seo_ckpt_path(const seo_ckpt *ckpt) {
    return ckpt->path;
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

static seo_err match(const seo_ckpt *ckpt, const seo_ckpt_tensor *tensor,
                     const seo_ckpt_entry **out) {
    const seo_ckpt_entry *entry = seo_ckpt_manifest_entry(&ckpt->manifest, tensor->name);
    if (!entry) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: holds no tensor %s", ckpt->path, tensor->name);
    }
    bool same = entry->rank == tensor->rank;
    for (int32_t i = 0; same && i < entry->rank; i++) same = entry->dims[i] == tensor->dims[i];
    if (!same) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: %s has another shape than the model wants", ckpt->path,
                        tensor->name);
    }
    *out = entry;
    return SEO_OK;
}

/* Reads what of the tensor lies in part `index`. */
static seo_err read_pieces(const seo_ckpt *ckpt, seo_ckpt_part *part, int64_t index,
                           const seo_ckpt_tensor *tensor) {
    const seo_ckpt_entry *entry;
    char hash[SEO_XXH128_HEX];
    seo_err err = match(ckpt, tensor, &entry);
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < entry->piece_count; i++) {
        const seo_ckpt_piece *piece = &ckpt->manifest.pieces[entry->piece_first + i];
        if (piece->part != index) continue;
        float *data = tensor->data + piece->offset;
        err = seo_ckpt_part_read(part, tensor->name, piece->count, data);
        if (err != SEO_OK) return err;
        seo_xxh128_hex(data, (size_t)piece->count * sizeof *data, hash);
        if (strcmp(hash, piece->hash) != 0) {
            return SEO_FAIL(SEO_ERR_FORMAT, "%s: the values of %s are not those saved", ckpt->path,
                            tensor->name);
        }
    }
    return SEO_OK;
}

seo_err seo_ckpt_read(seo_ckpt *ckpt, const seo_ckpt_tensor *tensors, int64_t count) {
    const seo_ckpt_entry *entry;
    char name[SEO_CKPT_FILE_NAME_MAX], path[SEO_PATH_MAX];
    for (int64_t i = 0; i < count; i++) {
        seo_err err = match(ckpt, &tensors[i], &entry);
        if (err != SEO_OK) return err;
    }
    for (int64_t p = 0; p < ckpt->manifest.part_count; p++) {
        seo_ckpt_part *part;
        seo_ckpt_part_name(name, p, ckpt->manifest.part_count);
        seo_err err = seo_path_join(path, ckpt->path, name);
        if (err == SEO_OK) err = seo_ckpt_part_open(path, &part);
        if (err != SEO_OK) return err;
        for (int64_t i = 0; i < count && err == SEO_OK; i++) {
            err = read_pieces(ckpt, part, p, &tensors[i]);
        }
        seo_ckpt_part_close(part);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}
