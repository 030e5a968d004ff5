#include "ranks_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/progress.h"

double ranks_clock(void) {
    return seo_clock_s();
}

int64_t ranks_load(const int64_t *from) {
    return __atomic_load_n(from, __ATOMIC_SEQ_CST);
}

void ranks_store(int64_t *to, int64_t value) {
    __atomic_store_n(to, value, __ATOMIC_SEQ_CST);
}

void ranks_add(int64_t *to, int64_t value) {
    __atomic_fetch_add(to, value, __ATOMIC_SEQ_CST);
}

seo_launch ranks_launch(const ranks_plan *plan, int32_t rank) {
    seo_launch launch = {.launcher = SEO_LAUNCH_TORCHRUN,
                         .rank = rank,
                         .size = plan->size,
                         .local_rank = rank,
                         .local_size = plan->size};
    snprintf(launch.id, sizeof launch.id, "test");
    return launch;
}

void ranks_keep(ranks_shared *shared, int32_t rank, seo_err err) {
    shared->report[rank].err = err;
    snprintf(shared->report[rank].text, RANKS_TEXT, "%.1000s",
             err == SEO_OK ? "" : seo_err_detail());
}

seo_err ranks_open(const ranks_plan *plan, int32_t rank, ranks_shared *shared, seo_world **out) {
    const seo_launch launch = ranks_launch(plan, rank);
    const seo_world_args args = {.launch = &launch, .folder = plan->folder, .join_s = plan->join_s};
    const double start = ranks_clock();
    seo_err err = seo_world_open(&args, out);
    shared->report[rank].seconds = ranks_clock() - start;
    ranks_keep(shared, rank, err);
    return err;
}

void ranks_start(const ranks_plan *plan, ranks *r) {
    *r = (ranks){0};
    snprintf(r->output_path, sizeof r->output_path, "ranks-%ld.err", (long)getpid());
    r->shared =
        mmap(NULL, sizeof *r->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(r->shared != MAP_FAILED);
    fflush(NULL);
    for (int32_t k = 0; k < plan->size; k++) {
        if (plan->absent[k]) continue;
        r->pid[k] = fork();
        assert_true(r->pid[k] >= 0);
        if (r->pid[k] > 0) continue;
        const int fd = open(r->output_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0 || dup2(fd, STDERR_FILENO) < 0) _exit(99);
        _exit(plan->act(plan, k, r->shared));
    }
}

static int32_t count_left(const ranks_plan *plan, const ranks *r, int32_t but) {
    int32_t left = 0;
    for (int32_t k = 0; k < plan->size; k++) left += k != but && r->pid[k] > 0;
    return left;
}

void ranks_wait_but(const ranks_plan *plan, ranks *r, double limit_s, int32_t but) {
    const double until = ranks_clock() + limit_s;
    const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};
    while (count_left(plan, r, but) > 0 && ranks_clock() < until) {
        for (int32_t k = 0; k < plan->size; k++) {
            int status;
            if (r->pid[k] <= 0 || waitpid(r->pid[k], &status, WNOHANG) != r->pid[k]) continue;
            r->status[k] = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
            r->ended_s[k] = ranks_clock();
            r->pid[k] = 0;
        }
        nanosleep(&pause, NULL);
    }
    const int32_t left = count_left(plan, r, but);
    for (int32_t k = 0; left > 0 && k < plan->size; k++) {
        if (r->pid[k] <= 0) continue;
        kill(r->pid[k], SIGKILL);
        waitpid(r->pid[k], NULL, 0);
        r->pid[k] = 0;
    }
    int64_t bytes = 0;
    free(r->output);
    assert_int_equal(seo_file_read(r->output_path, 1 << 20, &r->output, &bytes), SEO_OK);
    if (left > 0) fail_msg("%d ranks did not end in %.0f s:\n%s", (int)left, limit_s, r->output);
}

void ranks_wait(const ranks_plan *plan, ranks *r, double limit_s) {
    ranks_wait_but(plan, r, limit_s, -1);
    unlink(r->output_path);
}

void ranks_end(ranks *r) {
    munmap(r->shared, sizeof *r->shared);
    free(r->output);
    *r = (ranks){0};
}
