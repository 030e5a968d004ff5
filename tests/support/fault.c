#include "tests/support/fault.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Declared by <stdio.h> only under another feature macro, or only for other offset widths. */
int renameat(int from_dir, const char *from, int to_dir, const char *to);
int open64(const char *path, int flags, ...);
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at);
ssize_t pread64(int fd, void *data, size_t bytes, off64_t at);
int ftruncate64(int fd, off64_t length);

static struct {
    _Atomic int mode;
    char part[PATH_MAX];
    int64_t at;
    int error;
    _Atomic int64_t calls;
    _Atomic int fired;
    char first[PATH_MAX + 64];
    char log[64 << 10];
    size_t logged;
} g_fault;

void fault_arm(fault_mode mode, const char *path_part, int64_t at, int error) {
    g_fault.mode = FAULT_OFF;
    snprintf(g_fault.part, sizeof g_fault.part, "%s", path_part);
    g_fault.at = at;
    g_fault.error = error;
    g_fault.calls = 0;
    g_fault.fired = 0;
    g_fault.first[0] = g_fault.log[0] = '\0';
    g_fault.logged = 0;
    g_fault.mode = mode;
}

void fault_disarm(void) {
    g_fault.mode = FAULT_OFF;
}

int64_t fault_calls(void) {
    return g_fault.calls;
}

const char *fault_log(void) {
    return g_fault.log;
}

const char *fault_first(void) {
    return g_fault.first;
}

__attribute__((constructor)) static void arm_from_environment(void) {
    const char *path = getenv("SEODANG_FAULT_PATH"), *at = getenv("SEODANG_FAULT_AT");
    const char *error = getenv("SEODANG_FAULT_ERROR"), *mode = getenv("SEODANG_FAULT_MODE");
    if (!path || !at || !error) return;
    fault_arm(mode && strcmp(mode, "on") == 0 ? FAULT_ON : FAULT_ONCE, path, strtoll(at, NULL, 10),
              strcmp(error, "ENOSPC") == 0 ? ENOSPC : EIO);
}

/* Counts the call; true when it is to fail (errno set), or to fall short when error is 0. */
static bool hit(const char *call, const char *path) {
    if (g_fault.mode == FAULT_OFF || !path || !strstr(path, g_fault.part)) return false;
    int64_t n = ++g_fault.calls;
    size_t room = sizeof g_fault.log - g_fault.logged;
    int length = snprintf(g_fault.log + g_fault.logged, room, "%s %s\n", call, path);
    if (length > 0 && (size_t)length < room) g_fault.logged += (size_t)length;
    if (g_fault.mode == FAULT_ONCE ? n != g_fault.at : n < g_fault.at) return false;
    if (g_fault.fired++ == 0) {
        snprintf(g_fault.first, sizeof g_fault.first, "%s %s", call, path);
    }
    errno = g_fault.error;
    return true;
}

static bool hit_fd(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    if (g_fault.mode == FAULT_OFF) return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    return hit(call, path);
}

/* The next definition of `name`, as a function of type `type`. */
#define REAL(name, ...)                                                                            \
    union {                                                                                        \
        void *address;                                                                             \
        __VA_ARGS__;                                                                               \
    } real = {dlsym(RTLD_NEXT, name)}

#define OPEN_MODE                                                                                  \
    mode_t mode = 0;                                                                               \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                           \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode = va_arg(ap, mode_t);                                                                 \
        va_end(ap);                                                                                \
    }

static const char *open_name(int flags) {
    return (flags & O_ACCMODE) == O_RDONLY ? "open-to-read" : "open-to-write";
}

int open(const char *path, int flags, ...) {
    REAL("open", int (*call)(const char *, int, ...));
    OPEN_MODE
    return hit(open_name(flags), path) && g_fault.error > 0 ? -1 : real.call(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    REAL("open64", int (*call)(const char *, int, ...));
    OPEN_MODE
    return hit(open_name(flags), path) && g_fault.error > 0 ? -1 : real.call(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...) {
    REAL("openat", int (*call)(int, const char *, int, ...));
    OPEN_MODE
    return hit(open_name(flags), path) && g_fault.error > 0 ? -1
                                                            : real.call(dir, path, flags, mode);
}

int creat(const char *path, mode_t mode) {
    REAL("creat", int (*call)(const char *, mode_t));
    return hit("open-to-write", path) && g_fault.error > 0 ? -1 : real.call(path, mode);
}

DIR *opendir(const char *path) {
    REAL("opendir", DIR * (*call)(const char *));
    return hit("opendir", path) && g_fault.error > 0 ? NULL : real.call(path);
}

typedef union write_call {
    void *address;
    ssize_t (*call)(int, const void *, size_t);
    ssize_t (*call_at)(int, const void *, size_t, off_t);
} write_call;

/* One of the writes, at `at` where that is not negative, as the fault wants it. */
static ssize_t faulty_write(const char *name, int fd, const void *data, size_t bytes, off_t at) {
    write_call real = {dlsym(RTLD_NEXT, name)};
    char *lie = NULL;
    if (hit_fd("write", fd)) {
        if (g_fault.error > 0) return -1;
        if (g_fault.error == 0) bytes = (bytes + 1) / 2;
        if (g_fault.error == FAULT_LIE && bytes > 0 && (lie = malloc(bytes))) {
            memcpy(lie, data, bytes);
            lie[bytes / 2] ^= 4;
            data = lie;
        }
    }
    ssize_t done = at < 0 ? real.call(fd, data, bytes) : real.call_at(fd, data, bytes, at);
    free(lie);
    return done;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    return faulty_write("write", fd, data, bytes, -1);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    return faulty_write("pwrite", fd, data, bytes, at);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) {
    return faulty_write("pwrite64", fd, data, bytes, at);
}

ssize_t read(int fd, void *data, size_t bytes) {
    REAL("read", ssize_t(*call)(int, void *, size_t));
    return hit_fd("read", fd) && g_fault.error > 0 ? -1 : real.call(fd, data, bytes);
}

ssize_t pread(int fd, void *data, size_t bytes, off_t at) {
    REAL("pread", ssize_t(*call)(int, void *, size_t, off_t));
    return hit_fd("read", fd) && g_fault.error > 0 ? -1 : real.call(fd, data, bytes, at);
}

ssize_t pread64(int fd, void *data, size_t bytes, off64_t at) {
    REAL("pread64", ssize_t(*call)(int, void *, size_t, off64_t));
    return hit_fd("read", fd) && g_fault.error > 0 ? -1 : real.call(fd, data, bytes, at);
}

int fsync(int fd) {
    REAL("fsync", int (*call)(int));
    return hit_fd("fsync", fd) && g_fault.error > 0 ? -1 : real.call(fd);
}

int fdatasync(int fd) {
    REAL("fdatasync", int (*call)(int));
    return hit_fd("fsync", fd) && g_fault.error > 0 ? -1 : real.call(fd);
}

int ftruncate(int fd, off_t length) {
    REAL("ftruncate", int (*call)(int, off_t));
    return hit_fd("ftruncate", fd) && g_fault.error > 0 ? -1 : real.call(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    REAL("ftruncate64", int (*call)(int, off64_t));
    return hit_fd("ftruncate", fd) && g_fault.error > 0 ? -1 : real.call(fd, length);
}

/* A failing close(2) still closes. */
int close(int fd) {
    REAL("close", int (*call)(int));
    if (g_fault.mode == FAULT_OFF) return real.call(fd);
    int flags = fcntl(fd, F_GETFL);
    bool written = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
    bool failed = hit_fd(written ? "close-written" : "close", fd) && g_fault.error > 0;
    int result = real.call(fd);
    if (!failed) return result;
    errno = g_fault.error;
    return -1;
}

int rename(const char *from, const char *to) {
    REAL("rename", int (*call)(const char *, const char *));
    return hit("rename", from) && g_fault.error > 0 ? -1 : real.call(from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    REAL("renameat", int (*call)(int, const char *, int, const char *));
    return hit("rename", from) && g_fault.error > 0 ? -1 : real.call(from_dir, from, to_dir, to);
}

int mkdir(const char *path, mode_t mode) {
    REAL("mkdir", int (*call)(const char *, mode_t));
    return hit("mkdir", path) && g_fault.error > 0 ? -1 : real.call(path, mode);
}

int unlink(const char *path) {
    REAL("unlink", int (*call)(const char *));
    return hit("unlink", path) && g_fault.error > 0 ? -1 : real.call(path);
}

int rmdir(const char *path) {
    REAL("rmdir", int (*call)(const char *));
    return hit("rmdir", path) && g_fault.error > 0 ? -1 : real.call(path);
}

int stat(const char *path, struct stat *out) {
    REAL("stat", int (*call)(const char *, struct stat *));
    return hit("stat", path) && g_fault.error > 0 ? -1 : real.call(path, out);
}
