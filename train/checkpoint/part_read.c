/* Reading part files back. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "train/checkpoint/files.h"
#include "train/checkpoint/hdf5.h"
#include "train/checkpoint/part.h"

enum { RANK_MAX = 4 };

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
    SEO_H5_TRY(part->file, "open the file", "");
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

/* The largest box that begins at element `first` and is a run of at most `count` elements: single
 * steps of the slow dimensions, some of one of them, all of the fast ones. Its elements. */
static int64_t box_at(const seo_h5_row *row, int64_t first, int64_t count, hsize_t *start,
                      hsize_t *size) {
    int64_t stride[RANK_MAX], rest = first;
    stride[row->rank - 1] = 1;
    for (int32_t d = row->rank - 1; d > 0; d--) {
        stride[d - 1] = stride[d] * (int64_t)row->dims[d];
    }
    int32_t cut = row->rank - 1;
    while (cut > 0 && first % stride[cut - 1] == 0 && count >= stride[cut - 1]) cut--;
    for (int32_t d = 0; d < row->rank; d++) {
        start[d] = (hsize_t)(rest / stride[d]);
        rest %= stride[d];
        size[d] = d < cut ? 1 : row->dims[d];
    }
    const int64_t steps =
        seo_min_i64(count / stride[cut], (int64_t)row->dims[cut] - (int64_t)start[cut]);
    size[cut] = (hsize_t)steps;
    return steps * stride[cut];
}

seo_err seo_h5_row_move(const char *path, const seo_h5_row *row, bool write, int64_t first,
                        int64_t count, float *data) {
    seo_err err = SEO_OK;
    hid_t memory = -1;
    hsize_t start[RANK_MAX], size[RANK_MAX];
    while (count > 0) {
        const int64_t n = box_at(row, first, count, start, size);
        /* The same shape on both sides: HDF5 walks unlike ones value by value, ten times slower. */
        memory = H5Screate_simple(row->rank, size, NULL);
        SEO_H5_TRY(memory, "make a space for", row->name);
        SEO_H5_TRY(H5Sselect_hyperslab(row->space, H5S_SELECT_SET, start, NULL, size, NULL),
                   "select values of", row->name);
        const herr_t moved =
            write ? H5Dwrite(row->set, H5T_NATIVE_FLOAT, memory, row->space, H5P_DEFAULT, data)
                  : H5Dread(row->set, H5T_NATIVE_FLOAT, memory, row->space, H5P_DEFAULT, data);
        SEO_H5_TRY(moved, write ? "write dataset" : "read dataset", row->name);
        SEO_H5_TRY(H5Sclose(memory), "close the space of", row->name);
        memory = -1;
        data += n;
        first += n;
        count -= n;
    }
done:
    SEO_H5_CLOSE(H5Sclose, memory, "close the space of", row->name);
    return err;
}

/* Refuses what a part file never holds before a value is read: another type or shape, outside
 * storage. */
static seo_err dataset_check(const char *path, const seo_ckpt_held *held, seo_h5_row *row) {
    seo_err err = SEO_OK;
    const char *name = held->name;
    hid_t properties = -1;
    hid_t type = H5Dget_type(row->set);
    SEO_H5_TRY(type, "read the type of", name);
    if (H5Tequal(type, H5T_IEEE_F32LE) <= 0 ||
        H5Sget_simple_extent_npoints(row->space) != held->count) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: dataset %s is not the %lld f32 values of the manifest",
                       path, name, (long long)held->count);
        goto done;
    }
    row->rank = H5Sget_simple_extent_ndims(row->space);
    const bool whole = seo_ckpt_held_whole(held);
    bool same = row->rank == (whole ? held->rank : 1) &&
                H5Sget_simple_extent_dims(row->space, row->dims, NULL) == row->rank;
    for (int32_t d = 0; same && whole && d < row->rank; d++) {
        same = row->dims[d] == (hsize_t)held->dims[d];
    }
    if (!same) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: dataset %s has another shape", path, name);
        goto done;
    }
    properties = H5Dget_create_plist(row->set);
    SEO_H5_TRY(properties, "read the properties of", name);
    if (H5Pget_layout(properties) != H5D_CHUNKED) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: dataset %s is not stored in chunks", path, name);
    }
done:
    SEO_H5_CLOSE(H5Pclose, properties, "close properties of", name);
    SEO_H5_CLOSE(H5Tclose, type, "close the type of", name);
    return err;
}

static seo_err row_open(seo_ckpt_part *part, const seo_ckpt_held *held, seo_h5_row *row) {
    const char *path = part->path;
    seo_err err = SEO_OK;
    seo_ckpt_hdf5_quiet();
    *row = (seo_h5_row){.name = held->name, .set = -1, .space = -1};
    row->set = H5Dopen2(part->file, held->name, H5P_DEFAULT);
    SEO_H5_TRY(row->set, "open dataset", held->name);
    row->space = H5Dget_space(row->set);
    SEO_H5_TRY(row->space, "read the shape of", held->name);
    SEO_TRY(dataset_check(path, held, row));
done:
    return err;
}

static seo_err row_close(seo_ckpt_part *part, seo_h5_row *row, seo_err err) {
    const char *path = part->path;
    SEO_H5_CLOSE(H5Sclose, row->space, "close the space of", row->name);
    SEO_H5_CLOSE(H5Dclose, row->set, "close dataset", row->name);
    if (part->driver.error != 0) err = seo_ckpt_driver_check(&part->driver, path);
    return err;
}

seo_err seo_ckpt_part_read(seo_ckpt_part *part, const seo_ckpt_held *held, int64_t first,
                           int64_t count, float *data) {
    seo_h5_row row;
    SEO_ASSERT(first >= held->offset && count <= held->offset + held->count - first);
    seo_err err = row_open(part, held, &row);
    if (err == SEO_OK) {
        err = seo_h5_row_move(part->path, &row, false, first - held->offset, count, data);
    }
    return row_close(part, &row, err);
}

typedef struct hashing {
    const seo_ckpt_part *part;
    const seo_h5_row *row;
} hashing;

static seo_err read_run(void *context, int64_t first, int64_t count, float *out) {
    const hashing *h = context;
    return seo_h5_row_move(h->part->path, h->row, false, first, count, out);
}

seo_err seo_ckpt_part_hash(seo_ckpt_part *part, const seo_ckpt_held *held,
                           char hash[SEO_XXH128_HEX]) {
    seo_h5_row row;
    hashing h = {.part = part, .row = &row};
    seo_err err = row_open(part, held, &row);
    if (err == SEO_OK) err = seo_ckpt_hash_values(read_run, &h, held->count, hash);
    return row_close(part, &row, err);
}
