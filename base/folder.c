/* Folders: making, listing, removing. Declared in base/file.h. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static seo_err failed(const char *what, const char *path) {
    const int reason = errno;
    return SEO_FAIL(reason == ENOENT ? SEO_ERR_MISSING : SEO_ERR_IO, "%s: cannot %s: %s", path,
                    what, strerror(reason));
}

static seo_err make_one(const char *path) {
    if (mkdir(path, 0777) == 0) return SEO_OK;
    const int reason = errno;
    if (reason == EEXIST) {
        seo_path_kind kind = SEO_PATH_NONE;
        const seo_err err = seo_path_look(path, &kind);
        if (err != SEO_OK || kind == SEO_PATH_DIR) return err;
    }
    return SEO_FAIL(SEO_ERR_IO, "%s: cannot make the folder: %s", path, strerror(reason));
}

seo_err seo_dir_make(const char *path) {
    char part[SEO_PATH_MAX];
    const size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return SEO_FAIL(SEO_ERR_IO, "%.64s: no usable path", path);
    memcpy(part, path, length + 1);
    for (size_t i = 1; i < length; i++) {
        if (part[i] != '/' || part[i - 1] == '/') continue;
        part[i] = '\0';
        const seo_err err = make_one(part);
        if (err != SEO_OK) return err;
        part[i] = '/';
    }
    return make_one(part);
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static seo_err add_name(seo_names *names, int64_t *capacity, const char *name) {
    if (names->count == *capacity) {
        const int64_t more = *capacity ? *capacity * 2 : 32;
        char **items = realloc(names->items, (size_t)more * sizeof *items);
        if (!items) return SEO_FAIL(SEO_ERR_MEMORY, "a folder of %lld entries", (long long)more);
        names->items = items;
        *capacity = more;
    }
    names->items[names->count] = strdup(name);
    if (!names->items[names->count]) return SEO_FAIL(SEO_ERR_MEMORY, "a folder entry");
    names->count++;
    return SEO_OK;
}

seo_err seo_dir_list(const char *path, seo_names *out) {
    seo_err err = SEO_OK;
    int64_t capacity = 0;
    memset(out, 0, sizeof *out);
    DIR *dir = opendir(path);
    if (!dir) return failed("list the folder", path);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno != 0) SEO_TRY(failed("list the folder", path));
        if (!entry) break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        SEO_TRY(add_name(out, &capacity, entry->d_name));
    }
    if (out->count > 0) qsort(out->items, (size_t)out->count, sizeof *out->items, by_bytes);
done:
    closedir(dir);
    if (err != SEO_OK) seo_names_free(out);
    return err;
}

void seo_names_free(seo_names *names) {
    for (int64_t i = 0; i < names->count; i++) free(names->items[i]);
    free(names->items);
    memset(names, 0, sizeof *names);
}

seo_err seo_dir_remove(const char *path) {
    seo_err err = SEO_OK;
    seo_names names = {0};
    struct stat top;
    /* Listing would follow a link and empty what it points at. */
    if (lstat(path, &top) == 0 && !S_ISDIR(top.st_mode))
        return SEO_FAIL(SEO_ERR_IO, "%s: cannot remove the folder: it is none", path);
    err = seo_dir_list(path, &names);
    if (err == SEO_ERR_MISSING) return SEO_OK;
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < names.count; i++) {
        char inner[SEO_PATH_MAX];
        struct stat st;
        SEO_TRY(seo_path_join(inner, path, names.items[i]));
        if (lstat(inner, &st) != 0) SEO_TRY(failed("look at it", inner));
        if (S_ISDIR(st.st_mode)) {
            SEO_TRY(seo_dir_remove(inner));
        } else if (unlink(inner) != 0) {
            SEO_TRY(failed("remove it", inner));
        }
    }
    if (rmdir(path) != 0) SEO_TRY(failed("remove the folder", path));
done:
    seo_names_free(&names);
    return err;
}
