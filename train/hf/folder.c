#include "train/hf/folder.h"

#include <stdio.h>
#include <string.h>

/* The folder that `path` lies in. */
static void parent_of(const char *path, char out[SEO_PATH_MAX]) {
    snprintf(out, SEO_PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    if (!slash) {
        snprintf(out, SEO_PATH_MAX, ".");
    } else if (slash == out) {
        out[1] = '\0';
    } else {
        *slash = '\0';
    }
}

/* `path` without slashes at its end, which would make a file's name of what follows. */
static void trim(const char *path, char out[SEO_PATH_MAX]) {
    snprintf(out, SEO_PATH_MAX, "%s", path);
    for (size_t length = strlen(out); length > 1 && out[length - 1] == '/'; length--) {
        out[length - 1] = '\0';
    }
}

seo_err seo_hf_folder_begin(const char *path, char *made) {
    seo_err err = SEO_OK;
    char whole[SEO_PATH_MAX];
    seo_path_kind kind;
    made[0] = '\0';
    if (strlen(path) + sizeof ".incomplete" > SEO_PATH_MAX) {
        return SEO_FAIL(SEO_ERR_USAGE, "'%.60s...' is too long for the name of a folder", path);
    }
    trim(path, whole);
    SEO_TRY(seo_path_look(whole, &kind));
    if (kind != SEO_PATH_NONE) {
        err = SEO_FAIL(SEO_ERR_USAGE, "%s is there already: write into a new folder", whole);
        goto done;
    }
    char name[SEO_PATH_MAX + sizeof ".incomplete"];
    snprintf(name, sizeof name, "%s.incomplete", whole);
    SEO_TRY(seo_dir_remove(name));
    SEO_TRY(seo_dir_make(name));
    memcpy(made, name, strlen(name) + 1);
done:
    return err;
}

seo_err seo_hf_folder_commit(const char *made, const char *path) {
    seo_err err = SEO_OK;
    char whole[SEO_PATH_MAX], parent[SEO_PATH_MAX];
    trim(path, whole);
    parent_of(whole, parent);
    SEO_TRY(seo_dir_sync(made));
    SEO_TRY(seo_rename(made, whole));
    SEO_TRY(seo_dir_sync(parent));
done:
    return err;
}

void seo_hf_folder_drop(const char *made) {
    if (made[0] == '\0') return;
    char message[512];
    snprintf(message, sizeof message, "%s", seo_err_detail());
    if (seo_dir_remove(made) == SEO_OK) return;
    (void)SEO_FAIL(SEO_ERR_IO, "%s (and %s could not be removed)", message, made);
}
