#include "train/checkpoint/part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "train/checkpoint/driver.h"
#include "train/checkpoint/files.h"
#include "train/checkpoint/hdf5.h"
#include "train/checkpoint/manifest.h"

/* A chunk is the unit of fletcher32 and of one read or write; near one MiB both run at the speed of
 * memory and the padding of a tensor's last chunk stays small. */
enum { CHUNK_VALUES = 1 << 18, RANK_MAX = 4 };

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
    SEO_H5_TRY(space, "make a space for", name);
    attribute = H5Acreate2(object, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    SEO_H5_TRY(attribute, "make attribute", name);
    SEO_H5_TRY(H5Awrite(attribute, H5T_NATIVE_INT64, values), "write attribute", name);
done:
    SEO_H5_CLOSE(H5Aclose, attribute, "close attribute", name);
    SEO_H5_CLOSE(H5Sclose, space, "close the space of", name);
    return err;
}

static seo_err add_text(const char *path, hid_t object, const char *name, const char *text) {
    seo_err err = SEO_OK;
    hid_t attribute = -1;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t type = H5Tcopy(H5T_C_S1);
    SEO_H5_TRY(space, "make a space for", name);
    SEO_H5_TRY(type, "make a type for", name);
    SEO_H5_TRY(H5Tset_size(type, strlen(text)), "size the type of", name);
    SEO_H5_TRY(H5Tset_strpad(type, H5T_STR_NULLPAD), "set the padding of", name);
    attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    SEO_H5_TRY(attribute, "make attribute", name);
    SEO_H5_TRY(H5Awrite(attribute, type, text), "write attribute", name);
done:
    SEO_H5_CLOSE(H5Aclose, attribute, "close attribute", name);
    SEO_H5_CLOSE(H5Tclose, type, "close the type of", name);
    SEO_H5_CLOSE(H5Sclose, space, "close the space of", name);
    return err;
}

bool seo_ckpt_held_whole(const seo_ckpt_held *held) {
    int64_t count = 1;
    for (int32_t i = 0; i < held->rank; i++) count *= held->dims[i];
    return held->offset == 0 && held->count == count;
}

/* The dataset's own shape: the tensor's, or that of a run of its elements. */
static int32_t held_shape(const seo_ckpt_held *held, hsize_t dims[RANK_MAX]) {
    if (!seo_ckpt_held_whole(held)) {
        dims[0] = (hsize_t)held->count;
        return 1;
    }
    for (int32_t i = 0; i < held->rank; i++) dims[i] = (hsize_t)held->dims[i];
    return held->rank;
}

static seo_err dataset_properties(const char *path, const char *name, int32_t rank,
                                  const hsize_t *chunk, hid_t *out) {
    seo_err err = SEO_OK;
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    SEO_H5_TRY(list, "make properties for", name);
    SEO_H5_TRY(H5Pset_obj_track_times(list, false), "leave out the times of", name);
    SEO_H5_TRY(H5Pset_chunk(list, rank, chunk), "set the chunks of", name);
    SEO_H5_TRY(H5Pset_fletcher32(list), "checksum", name);
    *out = list;
    return SEO_OK;
done:
    SEO_H5_CLOSE(H5Pclose, list, "close properties of", name);
    return err;
}
static seo_err write_pieces(const char *path, const seo_h5_row *row, const seo_ckpt_write *w,
                            const seo_ckpt_source *source) {
    seo_err err = SEO_OK;
    float *piece = malloc(SEO_CKPT_PIECE_VALUES * sizeof *piece);
    if (!piece) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to write it", path);
    for (int64_t at = 0; at < w->held.count; at += SEO_CKPT_PIECE_VALUES) {
        const int64_t n = seo_min_i64(SEO_CKPT_PIECE_VALUES, w->held.count - at);
        SEO_TRY(source->read(source->context, w->index, w->held.offset + at, n, piece));
        SEO_TRY(seo_h5_row_move(path, row, true, at, n, piece));
    }
done:
    free(piece);
    return err;
}

static seo_err dataset_write(const char *path, hid_t file, const seo_ckpt_write *w,
                             const seo_ckpt_source *source) {
    seo_err err = SEO_OK;
    const char *name = w->held.name;
    hid_t properties = -1;
    seo_h5_row row = {.name = name, .set = -1, .space = -1};
    hsize_t chunk[RANK_MAX];
    row.rank = held_shape(&w->held, row.dims);
    chunk_shape(row.rank, row.dims, chunk);
    SEO_TRY(dataset_properties(path, name, row.rank, chunk, &properties));
    row.space = H5Screate_simple(row.rank, row.dims, NULL);
    SEO_H5_TRY(row.space, "make a space for", name);
    row.set =
        H5Dcreate2(file, name, H5T_IEEE_F32LE, row.space, H5P_DEFAULT, properties, H5P_DEFAULT);
    SEO_H5_TRY(row.set, "make dataset", name);
    SEO_TRY(add_integers(path, row.set, "global_shape", w->held.dims, w->held.rank));
    SEO_TRY(add_integers(path, row.set, "offset", &w->held.offset, 1));
    if (w->data) {
        SEO_H5_TRY(H5Dwrite(row.set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, w->data),
                   "write dataset", name);
    } else {
        SEO_TRY(write_pieces(path, &row, w, source));
    }
done:
    SEO_H5_CLOSE(H5Dclose, row.set, "close dataset", name);
    SEO_H5_CLOSE(H5Sclose, row.space, "close the space of", name);
    SEO_H5_CLOSE(H5Pclose, properties, "close properties of", name);
    return err;
}

/* The group of "group/leaf", made where it is the first of its kind. */
static seo_err group_make(const char *path, hid_t file, const char *full) {
    seo_err err = SEO_OK;
    char name[SEO_CKPT_NAME_MAX];
    hid_t properties = -1, group = -1;
    size_t bytes = (size_t)(strchr(full, '/') - full);
    memcpy(name, full, bytes);
    name[bytes] = '\0';
    htri_t exists = H5Lexists(file, name, H5P_DEFAULT);
    SEO_H5_TRY(exists, "look for group", name);
    if (exists > 0) return SEO_OK;
    properties = H5Pcreate(H5P_GROUP_CREATE);
    SEO_H5_TRY(properties, "make properties for", name);
    SEO_H5_TRY(H5Pset_obj_track_times(properties, false), "leave out the times of", name);
    group = H5Gcreate2(file, name, H5P_DEFAULT, properties, H5P_DEFAULT);
    SEO_H5_TRY(group, "make group", name);
done:
    SEO_H5_CLOSE(H5Gclose, group, "close group", name);
    SEO_H5_CLOSE(H5Pclose, properties, "close properties of", name);
    return err;
}

static seo_err contents_write(const char *path, hid_t file, int64_t step,
                              const seo_ckpt_write *writes, int64_t count,
                              const seo_ckpt_source *source) {
    seo_err err = SEO_OK;
    const int64_t version = SEO_CKPT_FORMAT_VERSION;
    SEO_TRY(add_text(path, file, "format", SEO_CKPT_FORMAT));
    SEO_TRY(add_integers(path, file, "format_version", &version, 1));
    SEO_TRY(add_integers(path, file, "step", &step, 1));
    for (int64_t i = 0; i < count; i++) {
        SEO_TRY(group_make(path, file, writes[i].held.name));
        SEO_TRY(dataset_write(path, file, &writes[i], source));
    }
    SEO_H5_TRY(H5Fflush(file, H5F_SCOPE_GLOBAL), "flush", "");
done:
    return err;
}

static seo_err hdf5_write(const char *path, seo_ckpt_driver *driver, int64_t step,
                          const seo_ckpt_write *writes, int64_t count,
                          const seo_ckpt_source *source) {
    seo_err err = SEO_OK;
    hid_t access = -1, create = -1, file = -1;
    SEO_TRY(seo_ckpt_driver_access(driver, &access));
    create = H5Pcreate(H5P_FILE_CREATE);
    SEO_H5_TRY(create, "make file properties", "");
    SEO_H5_TRY(H5Pset_obj_track_times(create, false), "leave out the times", "");
    file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    SEO_H5_TRY(file, "create the file", "");
    SEO_TRY(contents_write(path, file, step, writes, count, source));
done:
    SEO_H5_CLOSE(H5Fclose, file, "close the file", "");
    SEO_H5_CLOSE(H5Pclose, create, "close properties", "");
    SEO_H5_CLOSE(H5Pclose, access, "close properties", "");
    return err;
}

seo_err seo_ckpt_part_write(const char *path, int64_t step, const seo_ckpt_write *writes,
                            int64_t count, const seo_ckpt_source *source) {
    seo_err err = SEO_OK;
    seo_ckpt_hdf5_quiet();
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return SEO_FAIL(SEO_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
    seo_ckpt_driver driver = {.fd = fd, .writable = true};
    err = hdf5_write(path, &driver, step, writes, count, source);
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
