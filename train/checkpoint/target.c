#include "train/checkpoint/target.h"

#include <dirent.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "train/checkpoint/open.h"

static bool same_tensors(const seo_ckpt_manifest *a, const seo_ckpt_manifest *b) {
    bool same = a->entry_count == b->entry_count;
    for (int64_t i = 0; same && i < a->entry_count; i++) {
        const seo_ckpt_entry *x = &a->entries[i], *y = &b->entries[i];
        same = strcmp(x->name, y->name) == 0 && x->rank == y->rank &&
               memcmp(x->dims, y->dims, (size_t)x->rank * sizeof x->dims[0]) == 0;
    }
    return same;
}

static bool same_cut(const seo_ckpt_manifest *a, const seo_ckpt_manifest *b) {
    bool same = a->piece_count == b->piece_count;
    for (int64_t i = 0; same && i < a->piece_count; i++) {
        same =
            a->pieces[i].offset == b->pieces[i].offset && a->pieces[i].count == b->pieces[i].count;
    }
    return same;
}

static bool same_hashes(const seo_ckpt_manifest *a, const seo_ckpt_manifest *b) {
    for (int64_t i = 0; i < a->piece_count; i++) {
        if (strcmp(a->pieces[i].hash, b->pieces[i].hash) != 0) return false;
    }
    return true;
}

seo_err seo_ckpt_other_values(const char *target) {
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s: a good checkpoint with other values stands there, and is not overwritten. "
                    "Train into another folder, or move it away",
                    target);
}

seo_err seo_ckpt_look_at_target(const char *target, const seo_ckpt_manifest *wanted,
                                seo_ckpt_verdict *out) {
    seo_path_kind kind;
    seo_ckpt *there = NULL;
    *out = SEO_CKPT_WRITE;
    seo_err err = seo_path_look(target, &kind);
    if (err != SEO_OK || kind == SEO_PATH_NONE) return err;
    err = seo_ckpt_open_step(target, &there);
    if (err == SEO_ERR_FORMAT || err == SEO_ERR_MISSING) {
        seo_warn("a damaged checkpoint is replaced: %s", seo_err_detail());
        *out = SEO_CKPT_REPLACE;
        return SEO_OK;
    }
    if (err != SEO_OK) return err;
    const seo_ckpt_manifest *found = &there->manifest;
    if (!same_tensors(found, wanted)) {
        err = seo_ckpt_other_values(target);
    } else if (!same_cut(found, wanted)) {
        *out = SEO_CKPT_COMPARE;
    } else if (same_hashes(found, wanted)) {
        *out = SEO_CKPT_SAVED;
    } else {
        err = seo_ckpt_other_values(target);
    }
    seo_ckpt_close(there);
    return err;
}

/* How long a network file system may keep an older picture of a folder, and how often to look. */
static const double k_patience_s = 5.0, k_look_s = 0.05;

static void wait_a_little(void) {
    const struct timespec pause = {.tv_nsec = (long)(k_look_s * 1e9)};
    nanosleep(&pause, NULL);
}

/* Opening a folder makes a network file system ask again what is in it. */
static void look_afresh(const char *path) {
    char above[SEO_PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return;
    memcpy(above, path, (size_t)(slash - path));
    above[slash - path] = '\0';
    DIR *folder = opendir(above);
    if (folder) closedir(folder);
}

seo_err seo_ckpt_folder_is_shared(const char *folder) {
    for (double waited = 0.0;; waited += k_look_s) {
        seo_path_kind kind;
        const seo_err err = seo_path_look(folder, &kind);
        if (err != SEO_OK || kind == SEO_PATH_DIR) return err;
        if (waited >= k_patience_s) break;
        wait_a_little();
        look_afresh(folder);
    }
    return SEO_FAIL(SEO_ERR_IO,
                    "%s: rank 0 has made this folder and it is not seen here. The run folder must "
                    "lie on a file system that all hosts share",
                    folder);
}

seo_err seo_ckpt_file_is_shared(const char *path, int64_t bytes, const char *who) {
    int64_t found = -1;
    for (double waited = 0.0;; waited += k_look_s) {
        const seo_err err = seo_file_bytes(path, &found);
        if (err == SEO_OK && found == bytes) return SEO_OK;
        if (err != SEO_OK && err != SEO_ERR_MISSING) return err;
        if (err == SEO_ERR_MISSING) found = -1;
        if (waited >= k_patience_s) break;
        wait_a_little();
        look_afresh(path);
    }
    if (found < 0) {
        return SEO_FAIL(SEO_ERR_IO,
                        "%s: %s has written it and rank 0 does not see it. The run folder must lie "
                        "on a file system that all hosts share",
                        path, who);
    }
    return SEO_FAIL(SEO_ERR_IO, "%s: %s has written %lld bytes and rank 0 sees %lld", path, who,
                    (long long)bytes, (long long)found);
}
