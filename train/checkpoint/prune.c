/* Which old checkpoints go, and setting all of them aside. Called only when a newer one is whole.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "train/checkpoint.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/manifest.h"

/* Whole as far as can be told without reading the tensors: a good manifest, and every file there
 * with its length. */
static seo_err looks_whole(const char *path, bool *whole) {
    seo_err err = SEO_OK;
    char file[SEO_PATH_MAX];
    seo_ckpt_manifest manifest = {0};
    int64_t bytes;
    *whole = false;
    SEO_TRY(seo_path_join(file, path, SEO_CKPT_MANIFEST));
    SEO_TRY(seo_ckpt_manifest_load(file, &manifest));
    for (int64_t i = 0; i < manifest.file_count; i++) {
        SEO_TRY(seo_path_join(file, path, manifest.files[i].name));
        SEO_TRY(seo_file_bytes(file, &bytes));
        if (bytes != manifest.files[i].digest.bytes) goto done;
    }
    *whole = true;
done:
    seo_ckpt_manifest_free(&manifest);
    return err == SEO_ERR_FORMAT || err == SEO_ERR_MISSING ? SEO_OK : err;
}

seo_err seo_ckpt_prune(const char *run_dir, int64_t keep_last, int64_t keep_every) {
    seo_err err = SEO_OK;
    char folder[SEO_PATH_MAX], name[SEO_CKPT_STEP_NAME_MAX], path[SEO_PATH_MAX];
    int64_t *steps = NULL, count = 0, whole_count = 0;
    if (keep_last < 1 || keep_every < 0) {
        return SEO_FAIL(SEO_ERR_ARG, "at least the newest checkpoint must be kept");
    }
    SEO_TRY(seo_path_join(folder, run_dir, SEO_CKPT_FOLDER));
    SEO_TRY(seo_ckpt_list_steps(folder, &steps, &count));
    for (int64_t i = 0; i < count; i++) {
        seo_ckpt_step_name(name, steps[i]);
        SEO_TRY(seo_path_join(path, folder, name));
        if (whole_count < keep_last) {
            /* Damaged ones do not count, or they would push good ones out. */
            bool whole;
            SEO_TRY(looks_whole(path, &whole));
            whole_count += whole;
        } else if (keep_every == 0 || steps[i] % keep_every != 0) {
            SEO_TRY(seo_ckpt_remove(path));
        }
    }
done:
    free(steps);
    return err;
}

seo_err seo_ckpt_set_aside(const char *run_dir, char *aside) {
    char folder[SEO_PATH_MAX], name[64];
    seo_path_kind kind;
    aside[0] = '\0';
    seo_err err = seo_path_join(folder, run_dir, SEO_CKPT_FOLDER);
    if (err == SEO_OK) err = seo_path_look(folder, &kind);
    if (err != SEO_OK || kind == SEO_PATH_NONE) return err;
    for (int n = 1; kind != SEO_PATH_NONE; n++) {
        snprintf(name, sizeof name, SEO_CKPT_FOLDER ".set-aside-%d", n);
        err = seo_path_join(aside, run_dir, name);
        if (err == SEO_OK) err = seo_path_look(aside, &kind);
        if (err != SEO_OK) return err;
    }
    err = seo_rename(folder, aside);
    if (err == SEO_OK) err = seo_dir_sync(run_dir);
    return err;
}
