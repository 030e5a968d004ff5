#include "data/h5.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { ALIGN_BYTES = 4096, ALIGN_NONE = 1 << 30, ROOT_ATTRIBUTES = 64 };

/* Quiet on this thread; and no clean-up at exit: after a failed close HDF5 1.10 can loop or crash
 * there, and every file is closed by hand. Too late a call of the latter is harmless. */
static void be_quiet(void) {
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *e, void *reason) {
    if (n == 0) *(const char **)reason = e->desc;
    return 0;
}

seo_err seo_h5_fail(seo_err code, const char *path, const char *what) {
    const char *reason = NULL;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &reason);
    return SEO_FAIL(code, "%s: %s: %s", path, what,
                    reason != NULL ? reason : "HDF5 gives no reason");
}

/* How files are opened: format V18, objects of at least align_from bytes aligned, no locks. A shard
 * being written has a name that only its writer uses and a finished one never changes; network file
 * systems without locks would refuse both. -1 on failure. */
static hid_t make_access(int64_t align_from) {
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    bool ready = access >= 0 && H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
                 H5Pset_alignment(access, (hsize_t)align_from, ALIGN_BYTES) >= 0 &&
                 H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0;
#if H5_VERSION_GE(1, 10, 7)
    ready = ready && H5Pset_file_locking(access, false, true) >= 0;
#endif
    if (ready) return access;
    if (access >= 0) H5Pclose(access);
    return -1;
}

seo_err seo_h5_create(const char *path, int64_t align_from, hid_t *file) {
    be_quiet();
    *file = -1;
    const hid_t access = make_access(align_from);
    const hid_t create = H5Pcreate(H5P_FILE_CREATE);
    const bool ready =
        access >= 0 && create >= 0 && H5Pset_obj_track_times(create, false) >= 0 &&
        /* All attributes stay in the root's header, where their order is that of writing. */
        H5Pset_attr_phase_change(create, ROOT_ATTRIBUTES, 0) >= 0;
    if (ready) *file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    const seo_err err = *file >= 0 ? SEO_OK : seo_h5_fail(SEO_ERR_IO, path, "cannot be created");
    if (access >= 0) H5Pclose(access);
    if (create >= 0) H5Pclose(create);
    return err;
}

seo_err seo_h5_open(const char *path, unsigned flags, hid_t *file) {
    be_quiet();
    *file = -1;
    const hid_t access = make_access(ALIGN_NONE);
    if (access >= 0) *file = H5Fopen(path, flags, access);
    const seo_err err =
        *file >= 0 ? SEO_OK : seo_h5_fail(SEO_ERR_FORMAT, path, "HDF5 cannot open it");
    if (access >= 0) H5Pclose(access);
    return err;
}

/* A full disk shows in the flush or in the close, depending on what is buffered. */
seo_err seo_h5_close(const char *path, hid_t *file) {
    seo_err err = SEO_OK;
    if (H5Fflush(*file, H5F_SCOPE_GLOBAL) < 0) {
        err = seo_h5_fail(SEO_ERR_IO, path, "cannot be written");
    }
    if (H5Fclose(*file) < 0 && err == SEO_OK) {
        err = seo_h5_fail(SEO_ERR_IO, path, "cannot be closed");
    }
    *file = -1;
    return err;
}

void seo_h5_drop(hid_t *file) {
    if (*file >= 0) H5Fclose(*file);
    *file = -1;
}

/* ---- attributes ---- */

/* Reasons are asked for before anything is closed: a call that succeeds clears them. */
static seo_err put_attribute(hid_t object, const char *path, const seo_h5_array *a,
                             const void *data) {
    seo_err err = SEO_OK;
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute =
        space >= 0 && a->file_type >= 0
            ? H5Acreate2(object, a->name, a->file_type, space, H5P_DEFAULT, H5P_DEFAULT)
            : -1;
    if (attribute < 0 || H5Awrite(attribute, a->memory_type, data) < 0) {
        err = seo_h5_fail(SEO_ERR_IO, path, a->name);
    }
    if (attribute >= 0 && H5Aclose(attribute) < 0 && err == SEO_OK) {
        err = seo_h5_fail(SEO_ERR_IO, path, a->name);
    }
    if (space >= 0) H5Sclose(space);
    return err;
}

/* A NUL-terminated UTF-8 text type of `bytes` bytes, NUL included; -1 when it cannot be made. */
static hid_t text_type(size_t bytes) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && H5Tset_size(type, bytes) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0) {
        return type;
    }
    if (type >= 0) H5Tclose(type);
    return -1;
}

seo_err seo_h5_put_int(hid_t object, const char *path, const char *key, int64_t value) {
    const seo_h5_array a = {
        .name = key, .file_type = H5T_STD_I64LE, .memory_type = H5T_NATIVE_INT64, .count = 1};
    return put_attribute(object, path, &a, &value);
}

seo_err seo_h5_put_string(hid_t object, const char *path, const char *key, const char *value) {
    const hid_t type = text_type(strlen(value) + 1);
    const seo_h5_array a = {.name = key, .file_type = type, .memory_type = type, .count = 1};
    const seo_err err = put_attribute(object, path, &a, value);
    if (type >= 0) H5Tclose(type);
    return err;
}

/* Opens a scalar attribute and gives its type; both are the caller's to close. */
static bool open_attribute(hid_t object, const char *key, hid_t *attribute, hid_t *type) {
    *type = -1;
    *attribute = H5Aopen(object, key, H5P_DEFAULT);
    if (*attribute < 0) return false;
    const hid_t space = H5Aget_space(*attribute);
    const bool scalar = space >= 0 && H5Sget_simple_extent_type(space) == H5S_SCALAR;
    if (space >= 0) H5Sclose(space);
    *type = H5Aget_type(*attribute);
    return scalar && *type >= 0;
}

static void close_attribute(hid_t attribute, hid_t type) {
    if (type >= 0) H5Tclose(type);
    if (attribute >= 0) H5Aclose(attribute);
}

seo_err seo_h5_get_int(hid_t object, const char *path, const char *key, int64_t *value) {
    hid_t attribute = -1, type = -1;
    const bool done = open_attribute(object, key, &attribute, &type) &&
                      H5Tequal(type, H5T_STD_I64LE) > 0 &&
                      H5Aread(attribute, H5T_NATIVE_INT64, value) >= 0;
    close_attribute(attribute, type);
    if (done) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: has no 64-bit integer attribute %s", path, key);
}

seo_err seo_h5_get_string(hid_t object, const char *path, const char *key, char *value,
                          int64_t room) {
    hid_t attribute = -1, type = -1;
    bool done = open_attribute(object, key, &attribute, &type) &&
                H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
                (int64_t)H5Tget_size(type) <= room;
    if (done) {
        done = H5Aread(attribute, type, value) >= 0;
        value[H5Tget_size(type) - 1] = '\0';
    }
    close_attribute(attribute, type);
    if (done) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: has no text attribute %s", path, key);
}

/* ---- datasets ---- */

/* Creates and writes; the caller closes *dataset also after an error. */
static seo_err write_dataset(hid_t place, const char *path, const seo_h5_array *array, hid_t space,
                             const void *data, hid_t *dataset) {
    seo_err err = SEO_OK;
    const hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    const bool ready = create >= 0 && H5Pset_layout(create, H5D_CONTIGUOUS) >= 0 &&
                       H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY) >= 0 &&
                       H5Pset_fill_time(create, H5D_FILL_TIME_NEVER) >= 0 &&
                       H5Pset_obj_track_times(create, false) >= 0;
    *dataset = ready ? H5Dcreate2(place, array->name, array->file_type, space, H5P_DEFAULT, create,
                                  H5P_DEFAULT)
                     : -1;
    if (*dataset < 0 ||
        H5Dwrite(*dataset, array->memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) {
        err = seo_h5_fail(SEO_ERR_IO, path, array->name);
    }
    if (create >= 0) H5Pclose(create);
    return err;
}

/* The error of the close counts when there was none before. */
static seo_err close_dataset(hid_t dataset, const char *path, const char *name, seo_err err) {
    if (dataset >= 0 && H5Dclose(dataset) < 0 && err == SEO_OK) {
        err = seo_h5_fail(SEO_ERR_IO, path, name);
    }
    return err;
}

seo_err seo_h5_put_array(hid_t file, const char *path, const seo_h5_array *array, const void *data,
                         const uint32_t *crc) {
    hid_t dataset = -1;
    const hsize_t count = (hsize_t)array->count;
    const hid_t space = H5Screate_simple(1, &count, NULL);
    seo_err err = write_dataset(file, path, array, space, data, &dataset);
    if (err == SEO_OK && crc != NULL) {
        const seo_h5_array a = {.name = "crc32c",
                                .file_type = H5T_STD_U32LE,
                                .memory_type = H5T_NATIVE_UINT32,
                                .count = 1};
        err = put_attribute(dataset, path, &a, crc);
    }
    err = close_dataset(dataset, path, array->name, err);
    if (space >= 0) H5Sclose(space);
    return err;
}

seo_err seo_h5_put_text(hid_t group, const char *path, const char *name, const char *text) {
    hid_t dataset = -1;
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t type = text_type(strlen(text) + 1);
    const seo_h5_array a = {.name = name, .file_type = type, .memory_type = type, .count = 1};
    seo_err err = write_dataset(group, path, &a, space, text, &dataset);
    err = close_dataset(dataset, path, name, err);
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    return err;
}

seo_err seo_h5_make_group(hid_t file, const char *path, const char *name, hid_t *group) {
    const hid_t create = H5Pcreate(H5P_GROUP_CREATE);
    const bool ready = create >= 0 && H5Pset_obj_track_times(create, false) >= 0;
    *group = ready ? H5Gcreate2(file, name, H5P_DEFAULT, create, H5P_DEFAULT) : -1;
    const seo_err err = *group >= 0 ? SEO_OK : seo_h5_fail(SEO_ERR_IO, path, name);
    if (create >= 0) H5Pclose(create);
    return err;
}

static bool has_shape(hid_t dataset, const seo_h5_array *array) {
    hsize_t count = 0;
    const hid_t space = H5Dget_space(dataset);
    const hid_t type = H5Dget_type(dataset);
    const bool same = space >= 0 && type >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                      H5Sget_simple_extent_dims(space, &count, NULL) == 1 &&
                      count == (hsize_t)array->count && H5Tequal(type, array->file_type) > 0;
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    return same;
}

static bool is_plain(hid_t dataset) {
    const hid_t create = H5Dget_create_plist(dataset);
    const bool plain = create >= 0 && H5Pget_layout(create) == H5D_CONTIGUOUS &&
                       H5Pget_nfilters(create) == 0 && H5Pget_external_count(create) == 0;
    if (create >= 0) H5Pclose(create);
    return plain;
}

static seo_err locate(hid_t dataset, const char *path, const seo_h5_array *array,
                      int64_t file_bytes, int64_t *offset) {
    if (!has_shape(dataset, array)) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: /%s has not the type and the %" PRId64
                        " elements that its attributes promise",
                        path, array->name, array->count);
    }
    if (!is_plain(dataset)) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "%s: /%s is chunked, compressed or kept elsewhere; shards are read through "
                        "a map: build the dataset again from its text",
                        path, array->name);
    }
    const uint64_t bytes = H5Dget_storage_size(dataset);
    const uint64_t width = H5Tget_size(array->file_type);
    const haddr_t at = H5Dget_offset(dataset);
    if (at == HADDR_UNDEF || bytes != (uint64_t)array->count * width || at > (uint64_t)file_bytes ||
        bytes > (uint64_t)file_bytes - at) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: /%s does not lie inside the file", path, array->name);
    }
    *offset = (int64_t)at;
    return SEO_OK;
}

static seo_err open_dataset(hid_t file, const char *path, const char *name, hid_t *dataset) {
    *dataset = H5Dopen2(file, name, H5P_DEFAULT);
    return *dataset >= 0 ? SEO_OK : SEO_FAIL(SEO_ERR_FORMAT, "%s: has no dataset /%s", path, name);
}

seo_err seo_h5_locate(hid_t file, const char *path, const seo_h5_array *array, int64_t file_bytes,
                      int64_t *offset) {
    hid_t dataset = -1;
    seo_err err = open_dataset(file, path, array->name, &dataset);
    if (err != SEO_OK) return err;
    err = locate(dataset, path, array, file_bytes, offset);
    H5Dclose(dataset);
    return err;
}

static bool get_crc(hid_t dataset, uint32_t *crc) {
    hid_t attribute = -1, type = -1;
    const bool done = open_attribute(dataset, "crc32c", &attribute, &type) &&
                      H5Tequal(type, H5T_STD_U32LE) > 0 &&
                      H5Aread(attribute, H5T_NATIVE_UINT32, crc) >= 0;
    close_attribute(attribute, type);
    return done;
}

seo_err seo_h5_get_array(hid_t file, const char *path, const seo_h5_array *array,
                         int64_t file_bytes, void *data) {
    seo_err err = SEO_OK;
    hid_t dataset = -1;
    int64_t offset = 0;
    uint32_t crc = 0;
    SEO_TRY(open_dataset(file, path, array->name, &dataset));
    SEO_TRY(locate(dataset, path, array, file_bytes, &offset));
    if (H5Dread(dataset, array->memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) {
        err = seo_h5_fail(SEO_ERR_IO, path, array->name);
        goto done;
    }
    const size_t bytes = (size_t)array->count * H5Tget_size(array->memory_type);
    if (!get_crc(dataset, &crc) || crc != seo_crc32c(0, data, bytes)) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: /%s is damaged (bytes %" PRId64 " to %" PRId64 ")",
                       path, array->name, offset, offset + (int64_t)bytes);
    }
done:
    if (dataset >= 0) H5Dclose(dataset);
    return err;
}
