/* Collectives by NCCL on real GPUs, against sums made without it: one rank, and two, four and eight
 * where there are as many GPUs. Its sums in sequence have the order that NCCL chooses, so that they
 * are compared where every order gives the same: with whole numbers. Exit 77 where there is no GPU
 * or no NCCL. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "tests/kernels/comm_checks.h"
#include "tests/support/rank_processes.h"

enum { SKIPPED = 77 };

/* Whether a rank of this number would find a GPU, and the library. */
static seo_err can_open(rank_process *self, const void *context) {
    const int32_t *ordinal = context;
    (void)self;
    seo_device *dev = NULL;
    seo_err err = seo_device_open_cuda(&(seo_cuda_options){.ordinal = *ordinal}, &dev);
    if (err == SEO_OK) err = seo_comm_find_nccl(dev);
    seo_device_close(dev);
    return err;
}

static seo_err check_rank(rank_process *self, const void *context) {
    (void)context;
    seo_err err = SEO_OK;
    seo_device *dev = NULL;
    seo_comm *comm = NULL;
    bool any_order = true;
    SEO_TRY(seo_device_open_cuda(&(seo_cuda_options){.ordinal = self->rank}, &dev));
    SEO_TRY(seo_comm_open_nccl(&(seo_comm_nccl_options){.dev = dev,
                                                        .rank = self->rank,
                                                        .size = self->size,
                                                        .share = rank_process_share,
                                                        .share_context = self},
                               &comm));
    if (self->rank == 0) printf("%s on %s\n", seo_comm_name(comm), seo_device_name(dev));
    SEO_TRY(comm_checks(&any_order, comm, dev));
    fflush(stdout);
done:
    seo_comm_close(comm);
    seo_device_close(dev);
    return err;
}

int main(void) {
    int32_t failed = 0;
    for (int32_t size = 1; size <= RANK_PROCESSES_MAX; size *= 2) {
        const int32_t last = size - 1;
        if (rank_processes_run(1, can_open, &last) != 0) {
            if (size == 1) return SKIPPED;
            printf("fewer than %d GPUs\n", (int)size);
            break;
        }
        const int32_t wrong = rank_processes_run(size, check_rank, NULL);
        printf("%d rank%s: %s\n", (int)size, size > 1 ? "s" : "", wrong ? "FAILED" : "as wanted");
        failed += wrong;
    }
    return failed > 0;
}
