#include "train/checkpoint/part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hdf5.h>

#include "base/check.h"
#include "train/checkpoint/driver.h"
#include "train/checkpoint/files.h"
#include "train/checkpoint/manifest.h"

/* A chunk is the unit of fletcher32 and of one read or write; near one MiB both run at the speed of
 * memory and the padding of a tensor's last chunk stays small. */
enum { CHUNK_VALUES = 1 << 18, RANK_MAX = 4 };

/* Needs locals err and path, and a label done. */
#define H5_TRY(expr, what, name)                                                                   \
    do {                                                                                           \
        if ((expr) < 0) {                                                                          \
            err = seo_ckpt_hdf5_failed(path, what, name);                                          \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

/* Closes on the way out; a failure counts only when nothing failed before. */
#define H5_CLOSE(close, id, what, name)                                                            \
    do {                                                                                           \
        if ((id) >= 0 && close(id) < 0 && err == SEO_OK) {                                         \
            err = seo_ckpt_hdf5_failed(path, what, name);                                          \
        }                                                                                          \
    } while (0)

/* Whole fast dimensions while they fit, one of them cut evenly, single steps of the slower ones:
 * then a chunk is a contiguous run of the tensor. */
static void chunk_shape(int32_t rank, const hsize_t *dims, hsize_t *chunk) {
    hsize_t room = CHUNK_VALUES;
    for (int32_t i = rank - 1; i >= 0; i--) {
        hsize_t pieces = (dims[i] + room - 1) / room;
        chunk[i] = (dims[i] + pieces - 1) / pieces;
        room = pieces > 1 ? 1 : room / dims[i];
        if (room == 0) room = 1;
    }
}

static seo_err add_integers(const char *path, hid_t object, const char *name, const int64_t *values,
                            int32_t count) {
    seo_err err = SEO_OK;
    hsize_t n = (hsize_t)count;
    hid_t attribute = -1;
    hid_t space = count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL);
    H5_TRY(space, "make a space for", name);
    attribute = H5Acreate2(object, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5_TRY(attribute, "make attribute", name);
    H5_TRY(H5Awrite(attribute, H5T_NATIVE_INT64, values), "write attribute", name);
done:
    H5_CLOSE(H5Aclose, attribute, "close attribute", name);
    H5_CLOSE(H5Sclose, space, "close the space of", name);
    return err;
}

static seo_err add_text(const char *path, hid_t object, const char *name, const char *text) {
    seo_err err = SEO_OK;
    hid_t attribute = -1;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t type = H5Tcopy(H5T_C_S1);
    H5_TRY(space, "make a space for", name);
    H5_TRY(type, "make a type for", name);
    H5_TRY(H5Tset_size(type, strlen(text)), "size the type of", name);
    H5_TRY(H5Tset_strpad(type, H5T_STR_NULLPAD), "set the padding of", name);
    attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5_TRY(attribute, "make attribute", name);
    H5_TRY(H5Awrite(attribute, type, text), "write attribute", name);
done:
    H5_CLOSE(H5Aclose, attribute, "close attribute", name);
    H5_CLOSE(H5Tclose, type, "close the type of", name);
    H5_CLOSE(H5Sclose, space, "close the space of", name);
    return err;
}

static seo_err dataset_properties(const char *path, const seo_ckpt_tensor *t, const hsize_t *dims,
                                  hid_t *out) {
    seo_err err = SEO_OK;
    hsize_t chunk[RANK_MAX];
    chunk_shape(t->rank, dims, chunk);
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5_TRY(list, "make properties for", t->name);
    H5_TRY(H5Pset_obj_track_times(list, false), "leave out the times of", t->name);
    H5_TRY(H5Pset_chunk(list, t->rank, chunk), "set the chunks of", t->name);
    H5_TRY(H5Pset_fletcher32(list), "checksum", t->name);
    *out = list;
    return SEO_OK;
done:
    H5_CLOSE(H5Pclose, list, "close properties of", t->name);
    return err;
}

static seo_err dataset_write(const char *path, hid_t file, const seo_ckpt_tensor *t) {
    seo_err err = SEO_OK;
    hid_t space = -1, properties = -1, set = -1;
    hsize_t dims[RANK_MAX];
    const int64_t offset = 0;
    for (int32_t i = 0; i < t->rank; i++) dims[i] = (hsize_t)t->dims[i];
    SEO_TRY(dataset_properties(path, t, dims, &properties));
    space = H5Screate_simple(t->rank, dims, NULL);
    H5_TRY(space, "make a space for", t->name);
    set = H5Dcreate2(file, t->name, H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    H5_TRY(set, "make dataset", t->name);
    SEO_TRY(add_integers(path, set, "global_shape", t->dims, t->rank));
    SEO_TRY(add_integers(path, set, "offset", &offset, 1));
    H5_TRY(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, t->data), "write dataset",
           t->name);
done:
    H5_CLOSE(H5Dclose, set, "close dataset", t->name);
    H5_CLOSE(H5Sclose, space, "close the space of", t->name);
    H5_CLOSE(H5Pclose, properties, "close properties of", t->name);
    return err;
}

/* The group of "group/leaf", made where it is the first of its kind. */
static seo_err group_make(const char *path, hid_t file, const seo_ckpt_tensor *t) {
    seo_err err = SEO_OK;
    char name[SEO_CKPT_NAME_MAX];
    hid_t properties = -1, group = -1;
    size_t bytes = (size_t)(strchr(t->name, '/') - t->name);
    memcpy(name, t->name, bytes);
    name[bytes] = '\0';
    htri_t exists = H5Lexists(file, name, H5P_DEFAULT);
    H5_TRY(exists, "look for group", name);
    if (exists > 0) return SEO_OK;
    properties = H5Pcreate(H5P_GROUP_CREATE);
    H5_TRY(properties, "make properties for", name);
    H5_TRY(H5Pset_obj_track_times(properties, false), "leave out the times of", name);
    group = H5Gcreate2(file, name, H5P_DEFAULT, properties, H5P_DEFAULT);
    H5_TRY(group, "make group", name);
done:
    H5_CLOSE(H5Gclose, group, "close group", name);
    H5_CLOSE(H5Pclose, properties, "close properties of", name);
    return err;
}

static seo_err contents_write(const char *path, hid_t file, int64_t step,
                              const seo_ckpt_tensor *tensors, int64_t count) {
    seo_err err = SEO_OK;
    const int64_t version = SEO_CKPT_FORMAT_VERSION;
    SEO_TRY(add_text(path, file, "format", SEO_CKPT_FORMAT));
    SEO_TRY(add_integers(path, file, "format_version", &version, 1));
    SEO_TRY(add_integers(path, file, "step", &step, 1));
    for (int64_t i = 0; i < count; i++) {
        SEO_TRY(group_make(path, file, &tensors[i]));
        SEO_TRY(dataset_write(path, file, &tensors[i]));
    }
    H5_TRY(H5Fflush(file, H5F_SCOPE_GLOBAL), "flush", "");
done:
    return err;
}

static seo_err hdf5_write(const char *path, seo_ckpt_driver *driver, int64_t step,
                          const seo_ckpt_tensor *tensors, int64_t count) {
    seo_err err = SEO_OK;
    hid_t access = -1, create = -1, file = -1;
    SEO_TRY(seo_ckpt_driver_access(driver, &access));
    create = H5Pcreate(H5P_FILE_CREATE);
    H5_TRY(create, "make file properties", "");
    H5_TRY(H5Pset_obj_track_times(create, false), "leave out the times", "");
    file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    H5_TRY(file, "create the file", "");
    SEO_TRY(contents_write(path, file, step, tensors, count));
done:
    H5_CLOSE(H5Fclose, file, "close the file", "");
    H5_CLOSE(H5Pclose, create, "close properties", "");
    H5_CLOSE(H5Pclose, access, "close properties", "");
    return err;
}

seo_err seo_ckpt_part_write(const char *path, int64_t step, const seo_ckpt_tensor *tensors,
                            int64_t count) {
    seo_err err = SEO_OK;
    seo_ckpt_hdf5_quiet();
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return SEO_FAIL(SEO_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
    seo_ckpt_driver driver = {.fd = fd, .writable = true};
    err = hdf5_write(path, &driver, step, tensors, count);
    /* The disk's own failure is the cause of whatever HDF5 made of it. */
    if (driver.error != 0) err = seo_ckpt_driver_check(&driver, path);
    if (err != SEO_OK) goto done;
    int closing = fd;
    fd = -1;
    SEO_TRY(seo_ckpt_close_written(path, closing));
done:
    if (fd >= 0) close(fd);
    return err;
}

struct seo_ckpt_part {
    char path[SEO_PATH_MAX];
    seo_ckpt_driver driver;
    hid_t access, file;
};

seo_err seo_ckpt_part_open(const char *path, seo_ckpt_part **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    seo_ckpt_hdf5_quiet();
    seo_ckpt_part *part = calloc(1, sizeof *part);
    if (!part) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to open it", path);
    part->driver.fd = -1;
    part->access = part->file = -1;
    memcpy(part->path, path, strnlen(path, SEO_PATH_MAX - 1));
    SEO_TRY(seo_ckpt_open_file(path, &part->driver.fd, &part->driver.end));
    SEO_TRY(seo_ckpt_driver_access(&part->driver, &part->access));
    part->file = H5Fopen(path, H5F_ACC_RDONLY, part->access);
    H5_TRY(part->file, "open the file", "");
    *out = part;
    return SEO_OK;
done:
    if (part->driver.error != 0) err = seo_ckpt_driver_check(&part->driver, path);
    seo_ckpt_part_close(part);
    return err;
}

void seo_ckpt_part_close(seo_ckpt_part *part) {
    if (!part) return;
    if (part->file >= 0) H5Fclose(part->file);
    if (part->access >= 0) H5Pclose(part->access);
    if (part->driver.fd >= 0) close(part->driver.fd);
    free(part);
}

/* Refuses what a part file never holds before a value is read: another type, outside storage. */
static seo_err dataset_check(const char *path, hid_t set, hid_t space, const char *name,
                             int64_t count) {
    seo_err err = SEO_OK;
    hid_t properties = -1;
    hid_t type = H5Dget_type(set);
    H5_TRY(type, "read the type of", name);
    if (H5Tequal(type, H5T_IEEE_F32LE) <= 0 || H5Sget_simple_extent_npoints(space) != count) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: dataset %s is not the %lld f32 values of the manifest",
                       path, name, (long long)count);
        goto done;
    }
    properties = H5Dget_create_plist(set);
    H5_TRY(properties, "read the properties of", name);
    if (H5Pget_layout(properties) != H5D_CHUNKED) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: dataset %s is not stored in chunks", path, name);
    }
done:
    H5_CLOSE(H5Pclose, properties, "close properties of", name);
    H5_CLOSE(H5Tclose, type, "close the type of", name);
    return err;
}

static seo_err dataset_open(seo_ckpt_part *part, const char *name, int64_t count, hid_t *set,
                            hid_t *space) {
    const char *path = part->path;
    seo_err err = SEO_OK;
    *space = -1;
    *set = H5Dopen2(part->file, name, H5P_DEFAULT);
    H5_TRY(*set, "open dataset", name);
    *space = H5Dget_space(*set);
    H5_TRY(*space, "read the shape of", name);
    SEO_TRY(dataset_check(path, *set, *space, name, count));
done:
    return err;
}

seo_err seo_ckpt_part_read(seo_ckpt_part *part, const char *name, int64_t count, float *data) {
    const char *path = part->path;
    seo_err err = SEO_OK;
    hid_t set = -1, space = -1;
    seo_ckpt_hdf5_quiet();
    SEO_TRY(dataset_open(part, name, count, &set, &space));
    H5_TRY(H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), "read dataset",
           name);
done:
    H5_CLOSE(H5Sclose, space, "close the space of", name);
    H5_CLOSE(H5Dclose, set, "close dataset", name);
    if (part->driver.error != 0) err = seo_ckpt_driver_check(&part->driver, path);
    return err;
}

/* Compares rows [first, first + rows) of the slowest dimension. */
static seo_err rows_compare(const char *path, hid_t set, hid_t space, const seo_ckpt_tensor *t,
                            const hsize_t range[2], float *block) {
    seo_err err = SEO_OK;
    hsize_t start[RANK_MAX] = {0}, size[RANK_MAX], row = 1;
    for (int32_t i = 0; i < t->rank; i++) {
        size[i] = (hsize_t)t->dims[i];
        if (i > 0) row *= size[i];
    }
    start[0] = range[0];
    size[0] = range[1];
    hsize_t values = range[1] * row;
    /* The same shape on both sides: HDF5 walks unlike ones value by value, ten times slower. */
    hid_t memory = H5Screate_simple(t->rank, size, NULL);
    H5_TRY(memory, "make a space for", t->name);
    H5_TRY(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL), "select rows of",
           t->name);
    H5_TRY(H5Dread(set, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, block), "read back", t->name);
    if (memcmp(block, t->data + range[0] * row, values * sizeof(float)) != 0) {
        err = SEO_FAIL(SEO_ERR_IO, "%s: dataset %s does not read back as it was written", path,
                       t->name);
    }
done:
    H5_CLOSE(H5Sclose, memory, "close the space of", t->name);
    return err;
}

seo_err seo_ckpt_part_compare(seo_ckpt_part *part, const seo_ckpt_tensor *t) {
    const char *path = part->path;
    seo_err err = SEO_OK;
    hid_t set = -1, space = -1;
    float *block = NULL;
    hsize_t dims[RANK_MAX], chunk[RANK_MAX], found[RANK_MAX];
    int64_t count = 1, row = 1;
    for (int32_t i = 0; i < t->rank; i++) {
        dims[i] = (hsize_t)t->dims[i];
        count *= t->dims[i];
        if (i > 0) row *= t->dims[i];
    }
    seo_ckpt_hdf5_quiet();
    SEO_TRY(dataset_open(part, t->name, count, &set, &space));
    if (H5Sget_simple_extent_ndims(space) != t->rank ||
        H5Sget_simple_extent_dims(space, found, NULL) != t->rank ||
        memcmp(found, dims, (size_t)t->rank * sizeof dims[0]) != 0) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: dataset %s has another shape", path, t->name);
        goto done;
    }
    chunk_shape(t->rank, dims, chunk);
    block = malloc((size_t)row * chunk[0] * sizeof *block);
    if (!block) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to read %s back", path, t->name);
        goto done;
    }
    for (hsize_t at = 0; at < dims[0]; at += chunk[0]) {
        const hsize_t range[2] = {at, at + chunk[0] < dims[0] ? chunk[0] : dims[0] - at};
        SEO_TRY(rows_compare(path, set, space, t, range, block));
    }
done:
    free(block);
    H5_CLOSE(H5Sclose, space, "close the space of", t->name);
    H5_CLOSE(H5Dclose, set, "close dataset", t->name);
    if (part->driver.error != 0) err = seo_ckpt_driver_check(&part->driver, path);
    return err;
}
