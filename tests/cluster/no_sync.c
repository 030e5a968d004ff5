/* A program without the courage to wait for the disk: LD_PRELOAD this, and fsync and fdatasync say
 * that all is well and do nothing, for everything (SEODANG_NO_SYNC=all) or for folders alone
 * (SEODANG_NO_SYNC=folders). The power-cut test must see what that loses. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool swallowed(int fd) {
    const char *what = getenv("SEODANG_NO_SYNC");
    struct stat info;
    if (!what) return false;
    if (strcmp(what, "all") == 0) return true;
    return fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
}

int fsync(int fd) {
    return swallowed(fd) ? 0 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return swallowed(fd) ? 0 : (int)syscall(SYS_fdatasync, fd);
}
