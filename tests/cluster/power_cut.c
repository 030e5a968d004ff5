/* The power of one disk fails: the file system of the given folder is shut down without writing out
 * its journal, so that after an unmount and a mount it is what had reached the disk by then. For
 * file systems on loop devices that a test has made. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

/* XFS_IOC_GOINGDOWN, which ext4 has too (EXT4_IOC_SHUTDOWN); 2: no flush of the log. */
#define SHUTDOWN _IOR('X', 125, uint32_t)

int main(int argc, char **argv) {
    uint32_t flags = 2;
    if (argc != 2) {
        fprintf(stderr, "usage: power_cut MOUNTPOINT\n");
        return 2;
    }
    const int fd = open(argv[1], O_RDONLY | O_DIRECTORY);
    if (fd < 0 || ioctl(fd, SHUTDOWN, &flags) != 0) {
        perror(argv[1]);
        return 1;
    }
    return 0;
}
