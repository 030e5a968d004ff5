#include "train/checkpoint/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writing back begins while HDF5 still fills the file, so that the final sync has less to wait for.
 */
enum { WRITE_BACK_BYTES = 32 << 20 };

/* What HDF5 keeps for an open file: its own part first, by its contract. */
typedef struct open_file {
    H5FD_t base;
    seo_ckpt_driver *driver;
    haddr_t allocated; /* HDF5's end of allocated space */
} open_file;

typedef struct access_info {
    seo_ckpt_driver *driver;
} access_info;

static void remember(seo_ckpt_driver *driver, const char *operation, int error) {
    if (driver->error != 0) return;
    driver->error = error;
    driver->operation = operation;
}

static H5FD_t *file_open(const char *name, unsigned flags, hid_t access, haddr_t max) {
    (void)name;
    (void)flags;
    (void)max;
    const access_info *info = H5Pget_driver_info(access);
    open_file *file = info ? calloc(1, sizeof *file) : NULL;
    if (!file) return NULL;
    file->driver = info->driver;
    return &file->base;
}

static herr_t file_close(H5FD_t *base) {
    free(base);
    return 0;
}

static herr_t file_query(const H5FD_t *base, unsigned long *flags) {
    (void)base;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t get_allocated(const H5FD_t *base, H5FD_mem_t type) {
    (void)type;
    return ((const open_file *)base)->allocated;
}

static herr_t set_allocated(H5FD_t *base, H5FD_mem_t type, haddr_t end) {
    (void)type;
    ((open_file *)base)->allocated = end;
    return 0;
}

static haddr_t get_end(const H5FD_t *base, H5FD_mem_t type) {
    (void)type;
    return (haddr_t)((const open_file *)base)->driver->end;
}

static herr_t file_read(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t bytes,
                        void *out) {
    (void)type;
    (void)transfer;
    seo_ckpt_driver *driver = ((open_file *)base)->driver;
    char *to = out;
    while (bytes > 0) {
        ssize_t n = pread(driver->fd, to, bytes, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            remember(driver, "read", errno);
            return -1;
        }
        if (n == 0) {
            /* HDF5 expects zeros past the end of what was written so far. */
            memset(to, 0, bytes);
            return 0;
        }
        to += n;
        at += (haddr_t)n;
        bytes -= (size_t)n;
    }
    return 0;
}

static void begin_write_back(seo_ckpt_driver *driver) {
    if (driver->end - driver->handed_on < WRITE_BACK_BYTES) return;
    /* Only a hint: what it misses or cannot do is left to the sync, whose result counts. */
    (void)sync_file_range(driver->fd, driver->handed_on, driver->end - driver->handed_on,
                          SYNC_FILE_RANGE_WRITE);
    driver->handed_on = driver->end;
}

static herr_t file_write(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t bytes,
                         const void *data) {
    (void)type;
    (void)transfer;
    seo_ckpt_driver *driver = ((open_file *)base)->driver;
    int64_t end = (int64_t)at + (int64_t)bytes;
    if (end > driver->end) driver->end = end;
    if (!driver->writable) remember(driver, "write", EROFS);
    const char *from = data;
    while (bytes > 0 && driver->error == 0) {
        ssize_t n = pwrite(driver->fd, from, bytes, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            remember(driver, "write", n < 0 ? errno : ENOSPC);
            break;
        }
        from += n;
        at += (haddr_t)n;
        bytes -= (size_t)n;
    }
    if (driver->error == 0) begin_write_back(driver);
    return 0;
}

static herr_t file_truncate(H5FD_t *base, hid_t transfer, hbool_t closing) {
    (void)transfer;
    (void)closing;
    open_file *file = (open_file *)base;
    seo_ckpt_driver *driver = file->driver;
    int64_t length = (int64_t)file->allocated;
    if (length == driver->end) return 0;
    if (driver->error == 0 && ftruncate(driver->fd, length) != 0) {
        remember(driver, "set the length", errno);
    }
    driver->end = length;
    return 0;
}

static const H5FD_class_t driver_class = {
#if H5_VERSION_GE(1, 13, 0)
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)513,
#endif
    .name = "seodang",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(access_info),
    .open = file_open,
    .close = file_close,
    .query = file_query,
    .get_eoa = get_allocated,
    .set_eoa = set_allocated,
    .get_eof = get_end,
    .read = file_read,
    .write = file_write,
    .truncate = file_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

seo_err seo_ckpt_driver_access(seo_ckpt_driver *driver, hid_t *access) {
    access_info info = {driver};
    *access = -1;
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    hid_t id = H5FDregister(&driver_class);
    bool good = list >= 0 && id >= 0 && H5Pset_driver(list, id, &info) >= 0 &&
                H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0;
    /* The list and an open file hold the driver from now on. */
    if (id >= 0) H5FDunregister(id);
    if (!good) {
        if (list >= 0) H5Pclose(list);
        return seo_ckpt_hdf5_failed("HDF5", "set up file access", "");
    }
    *access = list;
    return SEO_OK;
}

seo_err seo_ckpt_driver_check(const seo_ckpt_driver *driver, const char *path) {
    if (driver->error == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_IO, "%s: cannot %s: %s", path, driver->operation,
                    strerror(driver->error));
}

typedef struct reason {
    char text[256];
} reason;

static herr_t take_reason(unsigned n, const H5E_error2_t *entry, void *out) {
    (void)n;
    snprintf(((reason *)out)->text, sizeof((reason *)out)->text, "%s",
             entry->desc ? entry->desc : "no reason given");
    return 0;
}

seo_err seo_ckpt_hdf5_failed(const char *path, const char *what, const char *name) {
    reason why = {"no reason given"};
    /* Ends at the innermost call, which says most. */
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, take_reason, &why);
    H5Eclear2(H5E_DEFAULT);
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: HDF5 could not %s%s%s: %s", path, what, name[0] ? " " : "",
                    name, why.text);
}

void seo_ckpt_hdf5_quiet(void) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}
