#include "tests/support/rank_processes.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

enum { SHARED_BYTES = 256 };

struct rank_board {
    _Atomic int filled;
    char data[SHARED_BYTES];
};

seo_err rank_process_share(void *rank_process_of, void *data, int64_t bytes) {
    const rank_process *self = rank_process_of;
    SEO_ASSERT(bytes <= SHARED_BYTES && !(self->rank == 0 && self->board->filled));
    if (self->rank == 0) {
        memcpy(self->board->data, data, (size_t)bytes);
        self->board->filled = 1;
    } else {
        while (!self->board->filled) sched_yield();
        memcpy(data, self->board->data, (size_t)bytes);
    }
    return SEO_OK;
}

static int run(rank_process *self, rank_process_body *body, const void *context) {
    if (body(self, context) == SEO_OK) return 0;
    fprintf(stderr, "rank %d of %d: %s\n", (int)self->rank, (int)self->size, seo_err_detail());
    return 1;
}

int32_t rank_processes_run(int32_t size, rank_process_body *body, const void *context) {
    pid_t pids[RANK_PROCESSES_MAX];
    struct rank_board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SEO_ASSERT(board != MAP_FAILED && size <= RANK_PROCESSES_MAX);
    fflush(NULL);
    for (int32_t rank = 0; rank < size; rank++) {
        pids[rank] = fork();
        SEO_ASSERT(pids[rank] >= 0);
        rank_process self = {.rank = rank, .size = size, .board = board};
        if (pids[rank] == 0) _exit(run(&self, body, context));
    }
    int32_t failed = 0;
    for (int32_t rank = 0; rank < size; rank++) {
        int status = 0;
        const bool ended = waitpid(pids[rank], &status, 0) == pids[rank] && WIFEXITED(status);
        failed += !ended || WEXITSTATUS(status) != 0;
    }
    munmap(board, sizeof *board);
    return failed;
}
