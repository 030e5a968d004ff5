/* HDF5 calls that are all checked, for the files that read and write parts. Both macros need the
 * locals err and path. */
#pragma once

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "train/checkpoint/driver.h"

/* Needs a label done. */
#define SEO_H5_TRY(expr, what, name)                                                               \
    do {                                                                                           \
        if ((expr) < 0) {                                                                          \
            err = seo_ckpt_hdf5_failed(path, what, name);                                          \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

/* Closes on the way out; a failure counts only when nothing failed before. */
#define SEO_H5_CLOSE(close, id, what, name)                                                        \
    do {                                                                                           \
        if ((id) >= 0 && close(id) < 0 && err == SEO_OK) {                                         \
            err = seo_ckpt_hdf5_failed(path, what, name);                                          \
        }                                                                                          \
    } while (0)

/* A dataset and its shape, as a row of elements. */
typedef struct seo_h5_row {
    const char *name;
    hid_t set, space;
    int32_t rank;
    hsize_t dims[4];
} seo_h5_row;

/* Reads or writes elements [first, first + count), row-major, as few boxes of its dimensions. */
seo_err seo_h5_row_move(const char *path, const seo_h5_row *row, bool write, int64_t first,
                        int64_t count, float *data);
