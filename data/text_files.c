#include "data/text_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"

enum { FOLDER_DEPTH_MAX = 64 };

static const struct {
    const char *ending;
    seo_text_kind kind;
} k_endings[] = {
    {".txt", SEO_TEXT_PLAIN}, {".text", SEO_TEXT_PLAIN},  {".md", SEO_TEXT_PLAIN},
    {".rst", SEO_TEXT_PLAIN}, {".jsonl", SEO_TEXT_JSONL}, {".ndjson", SEO_TEXT_JSONL},
};

/* The reader for a name, without its .gz or .zst; false when the ending is not known. */
static bool kind_of(const char *path, seo_text_kind *kind) {
    size_t length = strlen(path);
    if (length > 3 && strcmp(path + length - 3, ".gz") == 0) {
        length -= 3;
    } else if (length > 4 && strcmp(path + length - 4, ".zst") == 0) {
        length -= 4;
    }
    *kind = SEO_TEXT_PLAIN;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_endings); i++) {
        const size_t n = strlen(k_endings[i].ending);
        if (length < n || memcmp(path + length - n, k_endings[i].ending, n) != 0) continue;
        *kind = k_endings[i].kind;
        return true;
    }
    return false;
}

static seo_err add_file(seo_text_files *files, const char *path, seo_text_kind kind) {
    if (files->count == files->capacity) {
        const int64_t capacity = files->capacity ? files->capacity * 2 : 16;
        seo_text_file *items = realloc(files->items, (size_t)capacity * sizeof *items);
        if (!items) return SEO_FAIL(SEO_ERR_MEMORY, "a list of %lld files", (long long)capacity);
        files->items = items;
        files->capacity = capacity;
    }
    seo_text_file *file = &files->items[files->count];
    file->kind = kind;
    const seo_err err = seo_file_bytes(path, &file->bytes);
    if (err != SEO_OK) return err;
    file->path = strdup(path);
    if (!file->path) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a path", path);
    files->count++;
    return SEO_OK;
}

static seo_err add_folder(seo_text_files *files, const char *folder, int depth);

static seo_err add_entry(seo_text_files *files, const char *folder, const char *name, int depth) {
    char path[SEO_PATH_MAX];
    struct stat st;
    seo_text_kind kind;
    if (name[0] == '.') return SEO_OK;
    const seo_err err = seo_path_join(path, folder, name);
    if (err != SEO_OK) return err;
    if (lstat(path, &st) != 0)
        return SEO_FAIL(SEO_ERR_IO, "%s: cannot look at it: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return add_folder(files, path, depth + 1);
    if (S_ISLNK(st.st_mode) && (stat(path, &st) != 0 || S_ISDIR(st.st_mode))) {
        files->left_out++;
        return SEO_OK;
    }
    if (S_ISREG(st.st_mode) && kind_of(path, &kind)) return add_file(files, path, kind);
    files->left_out++;
    return SEO_OK;
}

static seo_err add_folder(seo_text_files *files, const char *folder, int depth) {
    seo_names names = {0};
    if (depth > FOLDER_DEPTH_MAX) {
        return SEO_FAIL(SEO_ERR_IO, "%s: folders nested more than %d deep", folder,
                        FOLDER_DEPTH_MAX);
    }
    seo_err err = seo_dir_list(folder, &names);
    for (int64_t i = 0; err == SEO_OK && i < names.count; i++)
        err = add_entry(files, folder, names.items[i], depth);
    seo_names_free(&names);
    return err;
}

seo_err seo_text_files_add(seo_text_files *files, const char *path) {
    seo_path_kind what = SEO_PATH_NONE;
    seo_text_kind kind = SEO_TEXT_PLAIN;
    const int64_t before = files->count;
    seo_err err = seo_path_look(path, &what);
    if (err != SEO_OK) return err;
    if (what == SEO_PATH_NONE) return SEO_FAIL(SEO_ERR_MISSING, "%s: no such file or folder", path);
    if (what != SEO_PATH_DIR) {
        kind_of(path, &kind);
        return add_file(files, path, kind);
    }
    err = add_folder(files, path, 0);
    if (err == SEO_OK && files->count == before) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s: no text in this folder (.txt .text .md .rst .jsonl .ndjson, also with "
                        ".gz or .zst); name "
                        "a file with another ending by its path",
                        path);
    }
    return err;
}

void seo_text_files_free(seo_text_files *files) {
    for (int64_t i = 0; i < files->count; i++) free(files->items[i].path);
    free(files->items);
    *files = (seo_text_files){0};
}
