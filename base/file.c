#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The error for a failed system call on `path`: only "it is not there" is SEO_ERR_MISSING. */
static seo_err failed(const char *what, const char *path) {
    const int reason = errno;
    return SEO_FAIL(reason == ENOENT ? SEO_ERR_MISSING : SEO_ERR_IO, "%s: cannot %s: %s", path,
                    what, strerror(reason));
}

seo_err seo_path_join(char *out, const char *folder, const char *name) {
    const size_t length = strlen(folder);
    const bool slash = length == 0 || folder[length - 1] == '/';
    const int n = snprintf(out, SEO_PATH_MAX, "%s%s%s", folder, slash ? "" : "/", name);
    if (n < 0 || n >= SEO_PATH_MAX) {
        return SEO_FAIL(SEO_ERR_IO, "%.64s.../%s: the path is longer than %d bytes", folder, name,
                        SEO_PATH_MAX - 1);
    }
    return SEO_OK;
}

/* Opens a regular file for reading and tells its size. O_NONBLOCK keeps a pipe of that name from
 * waiting for its writer; regular files do not heed it. */
static seo_err open_regular(const char *path, int *fd, int64_t *bytes) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return failed("open it", path);
    if (fstat(*fd, &st) != 0) {
        const seo_err err = failed("look at it", path);
        close(*fd);
        return err;
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return SEO_FAIL(SEO_ERR_IO, "%s: not a regular file", path);
    }
    *bytes = (int64_t)st.st_size;
    return SEO_OK;
}

static seo_err read_fully(int fd, const char *path, char *data, int64_t bytes) {
    int64_t got = 0;
    while (got < bytes) {
        const ssize_t n = read(fd, data + got, (size_t)(bytes - got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed("read it", path);
        if (n == 0) {
            return SEO_FAIL(SEO_ERR_IO, "%s: ended after %lld of %lld bytes", path, (long long)got,
                            (long long)bytes);
        }
        got += n;
    }
    return SEO_OK;
}

seo_err seo_file_read(const char *path, int64_t max_bytes, char **data, int64_t *bytes) {
    seo_err err = SEO_OK;
    int fd = -1;
    int64_t size = 0;
    char *buffer = NULL;
    err = open_regular(path, &fd, &size);
    if (err != SEO_OK) return err;
    if (size > max_bytes) {
        SEO_TRY(SEO_FAIL(SEO_ERR_FORMAT,
                         "%s: %lld bytes, more than the %lld this kind of file may have", path,
                         (long long)size, (long long)max_bytes));
    }
    buffer = malloc((size_t)size + 1);
    if (!buffer) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "%s: %lld bytes", path, (long long)size));
    SEO_TRY(read_fully(fd, path, buffer, size));
    buffer[size] = '\0';
    *data = buffer;
    *bytes = size;
    buffer = NULL;
done:
    free(buffer);
    close(fd);
    return err;
}

static seo_err write_fully(int fd, const char *path, const char *data, int64_t bytes) {
    int64_t put = 0;
    while (put < bytes) {
        const ssize_t n = write(fd, data + put, (size_t)(bytes - put));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed("write it", path);
        put += n;
    }
    return SEO_OK;
}

/* The folder part of `path`, "." when it has none. */
static void folder_of(const char *path, char out[SEO_PATH_MAX]) {
    snprintf(out, SEO_PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    if (!slash) {
        strcpy(out, ".");
    } else if (slash == out) {
        out[1] = '\0';
    } else {
        *slash = '\0';
    }
}

seo_err seo_file_write_atomic(const char *path, const void *data, int64_t bytes) {
    seo_err err = SEO_OK;
    int fd = -1;
    bool made = false;
    char temporary[SEO_PATH_MAX], folder[SEO_PATH_MAX];
    const int n = snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)getpid());
    if (n < 0 || n >= SEO_PATH_MAX) return SEO_FAIL(SEO_ERR_IO, "%s: the path is too long", path);
    folder_of(path, folder);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return failed("create it", temporary);
    made = true;
    SEO_TRY(write_fully(fd, temporary, data, bytes));
    if (fsync(fd) != 0) SEO_TRY(failed("sync it", temporary));
    const int closed = close(fd);
    fd = -1;
    if (closed != 0) SEO_TRY(failed("close it", temporary));
    SEO_TRY(seo_rename(temporary, path));
    made = false;
    SEO_TRY(seo_dir_sync(folder));
done:
    if (fd >= 0) close(fd);
    if (made) unlink(temporary);
    return err;
}

seo_err seo_map_open(const char *path, seo_map *out) {
    int fd = -1;
    out->data = NULL;
    out->bytes = 0;
    seo_err err = open_regular(path, &fd, &out->bytes);
    if (err != SEO_OK) return err;
    if (out->bytes > 0) {
        void *address = mmap(NULL, (size_t)out->bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (address == MAP_FAILED) {
            err = failed("map it", path);
            out->bytes = 0;
        } else {
            out->data = address;
        }
    }
    close(fd);
    return err;
}

void seo_map_close(seo_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, (size_t)map->bytes);
    map->data = NULL;
    map->bytes = 0;
}

static seo_err sync_path(const char *path, int flags) {
    seo_err err = SEO_OK;
    const int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) return failed("open it to sync it", path);
    /* EINVAL: some file systems have no sync of folders and need none. */
    const bool needless = (flags & O_DIRECTORY) != 0;
    if (fsync(fd) != 0 && !(needless && errno == EINVAL)) err = failed("sync it", path);
    if (close(fd) != 0 && err == SEO_OK) err = failed("close it", path);
    return err;
}

seo_err seo_file_sync(const char *path) {
    return sync_path(path, O_RDONLY);
}

seo_err seo_dir_sync(const char *path) {
    return sync_path(path, O_RDONLY | O_DIRECTORY);
}

seo_err seo_rename(const char *from, const char *to) {
    if (rename(from, to) == 0) return SEO_OK;
    const int reason = errno;
    return SEO_FAIL(SEO_ERR_IO, "%s: cannot rename it to %s: %s", from, to, strerror(reason));
}

seo_err seo_file_bytes(const char *path, int64_t *bytes) {
    struct stat st;
    if (stat(path, &st) != 0) return failed("look at it", path);
    if (!S_ISREG(st.st_mode)) return SEO_FAIL(SEO_ERR_IO, "%s: not a regular file", path);
    *bytes = (int64_t)st.st_size;
    return SEO_OK;
}

seo_err seo_path_look(const char *path, seo_path_kind *kind) {
    struct stat st;
    *kind = SEO_PATH_NONE;
    if (stat(path, &st) != 0) return errno == ENOENT ? SEO_OK : failed("look at it", path);
    *kind = S_ISREG(st.st_mode)   ? SEO_PATH_FILE
            : S_ISDIR(st.st_mode) ? SEO_PATH_DIR
                                  : SEO_PATH_OTHER;
    return SEO_OK;
}
