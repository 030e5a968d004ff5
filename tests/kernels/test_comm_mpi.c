/* The comm over MPI, as every rank of an mpirun runs it. Also alone, as one rank.
 *   test_comm_mpi PLUGIN RANKS [slices | staged | sizes] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/backend.h"
#include "tests/kernels/comm_checks.h"

enum { SKIPPED = 77 };

static seo_err run_checks(seo_comm *comm, const char *how) {
    seo_err err = SEO_OK;
    seo_device *dev = NULL;
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &dev));
    /* A CPU that says it is none: its memory is reached by copies alone. */
    if (strcmp(how, "staged") == 0) dev->level = SEO_CPU_AUTO;
    SEO_TRY(seo_comm_attach(comm, dev));
    SEO_TRY(comm_checks(NULL, comm, dev));
done:
    seo_device_close(dev);
    return err;
}

/* Ranks that do not agree about a size: an error with MPI's words, not a sum of something else. */
static seo_err run_sizes(seo_comm *comm) {
    seo_err err = SEO_OK;
    seo_device *dev = NULL;
    void *memory = NULL;
    int64_t ticket = 0;
    const int32_t size = seo_comm_size(comm);
    const int64_t n = seo_comm_rank(comm) == 0 ? 128 : 1280;
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &dev));
    SEO_TRY(seo_comm_attach(comm, dev));
    SEO_TRY(seo_device_alloc(dev, size * n * 4, &memory));
    SEO_TRY(seo_comm_all_gather(
        comm,
        &(seo_all_gather_args){
            .whole = seo_tensor_1d(memory, SEO_DTYPE_F32, size * n),
            .inp = seo_tensor_1d((float *)memory + seo_comm_rank(comm) * n, SEO_DTYPE_F32, n),
            .label = {"sizes", -1}},
        &ticket));
    err = seo_comm_wait(comm, ticket);
    if (seo_comm_rank(comm) > 0) {
        err = SEO_OK; /* a shorter message than expected is no error of MPI's */
    } else if (err == SEO_ERR_LOST && strstr(seo_err_detail(), "sizes failed on rank 0")) {
        err = SEO_OK;
    } else {
        err = SEO_FAIL(SEO_ERR_NUMERIC, "too long a message: %s", seo_err_detail());
    }
done:
    seo_device_close(dev);
    return err;
}

int main(int argc, char **argv) {
    seo_comm *comm = NULL;
    const char *how = argc > 3 ? argv[3] : "plain";
    if (argc < 3) return 2;
    const seo_comm_mpi_options options = {.plugin = argv[1],
                                          .slice = strcmp(how, "plain") == 0 ? 0 : 1000};
    seo_err err = seo_comm_open_mpi(&options, &comm);
    if (err == SEO_ERR_MISSING) {
        printf("skipped: %s\n", seo_err_detail());
        return SKIPPED;
    }
    if (err == SEO_OK && seo_comm_size(comm) != atoi(argv[2])) {
        err = SEO_FAIL(SEO_ERR_ARG, "%d ranks, not %s: this launcher is another library's",
                       (int)seo_comm_size(comm), argv[2]);
    }
    if (err == SEO_OK && strncmp(seo_comm_name(comm), "mpi (", 5) != 0) {
        err = SEO_FAIL(SEO_ERR_ARG, "its name is %s", seo_comm_name(comm));
    }
    if (err == SEO_OK) err = strcmp(how, "sizes") ? run_checks(comm, how) : run_sizes(comm);
    if (err != SEO_OK) {
        fprintf(stderr, "rank %d: %s\n", comm ? (int)seo_comm_rank(comm) : -1, seo_err_detail());
    } else if (seo_comm_rank(comm) == 0) {
        printf("%s, %d ranks, %s: ok\n", seo_comm_name(comm), (int)seo_comm_size(comm), how);
    }
    fflush(NULL);
    seo_comm_close(comm);
    return err == SEO_OK ? 0 : 1;
}
