/* Checked files: every return code is looked at, every error names the path and the system's
 * reason. Written files go to a temporary name beside the target, are synced, then renamed; the
 * folder is synced last. Only ENOENT is SEO_ERR_MISSING; anything else that keeps a file from being
 * read is SEO_ERR_IO. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_PATH_MAX = 4096 };

/* Joins two path pieces with one slash into `out` (SEO_PATH_MAX bytes); too long is an error. */
seo_err seo_path_join(char *out, const char *folder, const char *name);

/* Reads a whole regular file. *data is malloc'ed with one NUL byte past its end; the caller frees
 * it. A file over `max_bytes` is SEO_ERR_FORMAT before memory is taken. */
seo_err seo_file_read(const char *path, int64_t max_bytes, char **data, int64_t *bytes);

/* Writes temp + fsync + rename + fsync of the folder. Whatever fails, `path` is either as before or
 * complete. */
seo_err seo_file_write_atomic(const char *path, const void *data, int64_t bytes);

/* A read-only map of a whole regular file. An empty file maps to data = NULL, bytes = 0. */
typedef struct seo_map {
    const unsigned char *data;
    int64_t bytes;
} seo_map;
seo_err seo_map_open(const char *path, seo_map *out);
void seo_map_close(seo_map *map);

seo_err seo_file_sync(const char *path); /* fsync of an existing file */
seo_err seo_dir_sync(const char *path);  /* fsync of a folder */
seo_err seo_rename(const char *from, const char *to);
seo_err seo_file_bytes(const char *path, int64_t *bytes);

/* Makes a folder and its missing parents; an existing folder is fine. */
seo_err seo_dir_make(const char *path);
/* Removes a folder and all in it (no symbolic link is followed); a missing one is fine. */
seo_err seo_dir_remove(const char *path);

/* The names in a folder, without . and .., sorted bytewise. A missing folder is SEO_ERR_MISSING, an
 * unreadable one SEO_ERR_IO: the caller must not take one for the other. Free with seo_names_free.
 */
typedef struct seo_names {
    char **items;
    int64_t count;
} seo_names;
seo_err seo_dir_list(const char *path, seo_names *out);
void seo_names_free(seo_names *names);

typedef enum seo_path_kind {
    SEO_PATH_NONE,
    SEO_PATH_FILE,
    SEO_PATH_DIR,
    SEO_PATH_OTHER
} seo_path_kind;
/* What stands at `path` (links followed). Anything but "it is not there" that hinders the look is
 * an error. */
seo_err seo_path_look(const char *path, seo_path_kind *kind);

#ifdef __cplusplus
}
#endif
