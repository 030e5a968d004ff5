/* The way HDF5 reaches a checkpoint's part file: through a descriptor of ours.
 *
 * HDF5's own file drivers are not fit for a disk that fails: H5Fclose may return success after a
 * full disk, and a failing write or close(2) can end in an endless loop or a crash inside the
 * library (measured with 1.10.8). So HDF5 is given this driver instead. When writing, a failure is
 * remembered here and HDF5 is told that all went well: it never walks its own failure paths, and
 * the caller asks seo_ckpt_driver_check() before it believes anything. When reading, a failure is
 * an ordinary error of H5Dread. The descriptor is opened, synced and closed by the caller. */
#pragma once

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_ckpt_driver {
    int fd;
    bool writable;
    int64_t end;       /* one past the last byte that HDF5 has written, or the file's length */
    int64_t handed_on; /* written bytes for which the kernel was asked to begin writing back */
    int error;         /* errno of the first failure; 0: none */
    const char *operation;
} seo_ckpt_driver;

/* A file access property list with this driver, format bounds that make every structure of the
 * file checksummed, and *driver as its file. Closed by the caller with H5Pclose, after the file. */
seo_err seo_ckpt_driver_access(seo_ckpt_driver *driver, hid_t *access);

/* SEO_ERR_IO with the first failure; `path` is for the message. */
seo_err seo_ckpt_driver_check(const seo_ckpt_driver *driver, const char *path);

/* SEO_ERR_FORMAT saying what HDF5 could not do and its own deepest reason. */
seo_err seo_ckpt_hdf5_failed(const char *path, const char *what, const char *name);

/* HDF5 prints its errors unless told not to, for each thread. */
void seo_ckpt_hdf5_quiet(void);

#ifdef __cplusplus
}
#endif
