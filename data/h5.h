/* The few HDF5 calls that shards are made of, every return code checked and every message naming
 * the file. Each public function silences HDF5's own printing on the calling thread. */
#pragma once

#include <hdf5.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raises `code` with "<path>: <what>: <HDF5's innermost reason>". */
seo_err seo_h5_fail(seo_err code, const char *path, const char *what);

/* New file: format bounds V18..V18, no times, objects of at least align_from bytes on 4096. */
seo_err seo_h5_create(const char *path, int64_t align_from, hid_t *file);
/* flags: H5F_ACC_RDONLY or H5F_ACC_RDWR. */
seo_err seo_h5_open(const char *path, unsigned flags, hid_t *file);
/* Closes what SEO_TRY guards: flushes, and reports what the close finds. *file is -1 afterwards. */
seo_err seo_h5_close(const char *path, hid_t *file);
/* For the way out after an error: closes without a look. */
void seo_h5_drop(hid_t *file);

/* A 1-D contiguous dataset: element types in the file and in memory, number of elements. */
typedef struct seo_h5_array {
    const char *name;
    hid_t file_type, memory_type;
    int64_t count;
} seo_h5_array;
/* Creates and writes; an attribute crc32c of the stored bytes is added when `crc` is not NULL. */
seo_err seo_h5_put_array(hid_t file, const char *path, const seo_h5_array *array, const void *data,
                         const uint32_t *crc);
/* A scalar dataset of fixed-length text. */
seo_err seo_h5_put_text(hid_t group, const char *path, const char *name, const char *text);
seo_err seo_h5_make_group(hid_t file, const char *path, const char *name, hid_t *group);

/* Attributes of an open object. */
seo_err seo_h5_put_int(hid_t object, const char *path, const char *key, int64_t value);
seo_err seo_h5_put_string(hid_t object, const char *path, const char *key, const char *value);
seo_err seo_h5_get_int(hid_t object, const char *path, const char *key, int64_t *value);
/* Text of less than `room` bytes. */
seo_err seo_h5_get_string(hid_t object, const char *path, const char *key, char *value,
                          int64_t room);

/* Where a dataset lies, after a check that it is what a shard may hold: this type and count,
 * contiguous, unfiltered, inside the file. */
seo_err seo_h5_locate(hid_t file, const char *path, const seo_h5_array *array, int64_t file_bytes,
                      int64_t *offset);
/* Locates, reads into data and checks the dataset's crc32c. */
seo_err seo_h5_get_array(hid_t file, const char *path, const seo_h5_array *array,
                         int64_t file_bytes, void *data);

#ifdef __cplusplus
}
#endif
