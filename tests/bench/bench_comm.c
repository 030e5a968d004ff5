/* A gradient's reduce-scatter and the parameters' all-gather beside MPI_Allreduce of the same
 * bytes, which does the same work, and what either leaves to who computes meanwhile. They take
 * turns in one run; a figure is the median of the rounds, a round takes as long as its slowest
 * rank.
 *
 *   mpirun -n 2 bench_comm [MILLIONS_OF_PARAMETERS [SLICE]]      124 is GPT-2 small, 496 MB
 *
 * Unlike the program this one is linked with MPI, to call MPI_Allreduce; our comm's thread sleeps
 * then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mpi.h>

#include "base/check.h"
#include "base/progress.h"
#include "kernels/kernels.h"

enum { ROUNDS = 7, UNIT = 2048 };

typedef enum contest {
    SUM_AND_GATHER, /* ours: f32 */
    SUM_TREE,
    SUM_BF16,
    ALLREDUCE, /* MPI's, in one call */
    ALLREDUCE_PIECES,
    COPY, /* memory, twice read and once written; all ranks at once */
    CONTESTS
} contest;

static const char *const names[CONTESTS] = {
    "reduce-scatter + all-gather", "  the same as a tree", "  the same, bf16 sums", "MPI_Allreduce",
    "  in 4 MiB pieces",           "memcpy of as much",
};

typedef struct bench {
    seo_comm *comm;
    seo_device *dev;
    int64_t n; /* elements a rank */
    float *gradient, *copy;
    double seconds[CONTESTS][ROUNDS];
    double waiting, alone_s, exchange_s, both_s;
} bench;

/* The largest of the ranks' numbers; all ranks leave together. */
static seo_err largest(const bench *b, double mine, double *out) {
    double all[1024] = {0};
    SEO_ASSERT(seo_comm_size(b->comm) <= 1024);
    const seo_err err =
        seo_comm_gather_host(b->comm, (seo_comm_label){"time", -1}, &mine, sizeof mine, all);
    *out = all[0];
    for (int32_t r = 1; r < seo_comm_size(b->comm); r++) *out = all[r] > *out ? all[r] : *out;
    return err;
}

static seo_err queue_sum(const bench *b, seo_dtype wire, seo_sum_order order, int64_t *ticket) {
    const int64_t all = b->n * seo_comm_size(b->comm);
    const int64_t own = b->n * seo_comm_rank(b->comm);
    const seo_reduce_scatter_args sum = {.out =
                                             seo_tensor_1d(b->gradient + own, SEO_DTYPE_F32, b->n),
                                         .inp = seo_tensor_1d(b->gradient, SEO_DTYPE_F32, all),
                                         .wire = wire,
                                         .order = order,
                                         .label = {"sum", -1}};
    return seo_comm_reduce_scatter(b->comm, &sum, ticket);
}

static seo_err sum_and_gather(const bench *b, seo_dtype wire, seo_sum_order order) {
    const int64_t all = b->n * seo_comm_size(b->comm);
    const int64_t own = b->n * seo_comm_rank(b->comm);
    const seo_all_gather_args gather = {.whole = seo_tensor_1d(b->gradient, SEO_DTYPE_F32, all),
                                        .inp =
                                            seo_tensor_1d(b->gradient + own, SEO_DTYPE_F32, b->n),
                                        .label = {"gather", -1}};
    int64_t ticket = 0;
    seo_err err = queue_sum(b, wire, order, &ticket);
    if (err == SEO_OK) err = seo_comm_all_gather(b->comm, &gather, &ticket);
    return err != SEO_OK ? err : seo_comm_wait(b->comm, ticket);
}

static void allreduce(const bench *b, int64_t piece) {
    const int64_t all = b->n * seo_comm_size(b->comm);
    for (int64_t at = 0; at < all; at += piece) {
        const int64_t count = seo_min_i64(piece, all - at);
        MPI_Allreduce(MPI_IN_PLACE, b->gradient + at, (int)count, MPI_FLOAT, MPI_SUM,
                      MPI_COMM_WORLD);
    }
}

static seo_err one(bench *b, contest which) {
    const int64_t all = b->n * seo_comm_size(b->comm);
    switch (which) {
    case SUM_AND_GATHER: return sum_and_gather(b, SEO_DTYPE_F32, SEO_SUM_SEQUENCE);
    case SUM_TREE: return sum_and_gather(b, SEO_DTYPE_F32, SEO_SUM_TREE);
    case SUM_BF16: return sum_and_gather(b, SEO_DTYPE_BF16, SEO_SUM_SEQUENCE);
    case ALLREDUCE: allreduce(b, all); break;
    case ALLREDUCE_PIECES: allreduce(b, 1 << 20); break;
    case COPY: memcpy(b->copy, b->gradient, (size_t)all * sizeof(float)); break;
    case CONTESTS: break;
    }
    return SEO_OK;
}

static seo_err rounds(bench *b) {
    seo_err err = SEO_OK;
    double ignored;
    for (int r = -1; r < ROUNDS; r++) { /* the first one warms up */
        for (int c = 0; c < CONTESTS; c++) {
            /* Zeros stay zeros, however often they are added. */
            SEO_TRY(largest(b, 0, &ignored));
            const double start = seo_clock_s();
            SEO_TRY(one(b, (contest)c));
            SEO_TRY(largest(b, seo_clock_s() - start, &b->seconds[c][r > 0 ? r : 0]));
        }
    }
done:
    return err;
}

/* Arithmetic in registers, the same at every call. */
static double compute(int64_t rounds_count) {
    const double start = seo_clock_s();
    volatile float keep;
    float x[16];
    for (int i = 0; i < 16; i++) x[i] = 1.0f + (float)i * 1e-3f;
    for (int64_t k = 0; k < rounds_count; k++) {
        for (int i = 0; i < 16; i++) x[i] = x[i] * 0.999999f + 1e-6f;
    }
    keep = x[3];
    (void)keep;
    return seo_clock_s() - start;
}

static double processor_s(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}

/* What a rank takes of its core while it waits for one that comes two seconds late. */
static seo_err wait_for_late(bench *b) {
    double ignored;
    seo_err err = largest(b, 0, &ignored);
    if (seo_comm_rank(b->comm) == 0) usleep(2000000);
    const double start = seo_clock_s(), used = processor_s();
    if (err == SEO_OK) err = largest(b, 0, &ignored);
    const double share = (processor_s() - used) / (seo_clock_s() - start);
    return err != SEO_OK ? err : largest(b, seo_comm_rank(b->comm) > 0 ? share : 0, &b->waiting);
}

/* How much of a sum disappears behind arithmetic. */
static seo_err beside(bench *b) {
    enum { PROBE = 4000000 };
    seo_err err = SEO_OK;
    int64_t ticket = 0;
    double all;
    SEO_TRY(largest(b, compute(PROBE), &all));
    const int64_t count = (int64_t)((double)PROBE * 0.8 / all);
    SEO_TRY(largest(b, 0, &all));
    SEO_TRY(largest(b, compute(count), &b->alone_s));
    double start = seo_clock_s();
    SEO_TRY(queue_sum(b, SEO_DTYPE_F32, SEO_SUM_SEQUENCE, &ticket));
    SEO_TRY(seo_comm_wait(b->comm, ticket));
    SEO_TRY(largest(b, seo_clock_s() - start, &b->exchange_s));
    start = seo_clock_s();
    SEO_TRY(queue_sum(b, SEO_DTYPE_F32, SEO_SUM_SEQUENCE, &ticket));
    (void)compute(count);
    SEO_TRY(seo_comm_wait(b->comm, ticket));
    SEO_TRY(largest(b, seo_clock_s() - start, &b->both_s));
done:
    return err;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(bench *b) {
    const double bytes = (double)b->n * seo_comm_size(b->comm) * 4;
    printf("%s, %d ranks, %ld CPUs, %.0f MB a rank\n", seo_comm_name(b->comm),
           (int)seo_comm_size(b->comm), sysconf(_SC_NPROCESSORS_ONLN), bytes / 1e6);
    printf("%-30s %8s %8s %8s %8s\n", "", "median s", "best s", "worst s", "GB/s");
    for (int c = 0; c < CONTESTS; c++) {
        double *s = b->seconds[c];
        qsort(s, ROUNDS, sizeof *s, by_size);
        printf("%-30s %8.3f %8.3f %8.3f %8.2f\n", names[c], s[ROUNDS / 2], s[0], s[ROUNDS - 1],
               bytes / s[ROUNDS / 2] / 1e9);
    }
    printf("waiting for a late rank takes %.1f %% of a core\n", 100 * b->waiting);
    printf("arithmetic alone %.3f s, a sum alone %.3f s, both at once %.3f s\n", b->alone_s,
           b->exchange_s, b->both_s);
}

static seo_err run(bench *b, double millions) {
    seo_err err = SEO_OK;
    void *memory = NULL;
    const int32_t size = seo_comm_size(b->comm);
    b->n = seo_round_up((int64_t)(millions * 1e6) / size, UNIT);
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &b->dev));
    SEO_TRY(seo_comm_attach(b->comm, b->dev));
    SEO_TRY(seo_device_alloc(b->dev, b->n * size * 4, &memory));
    b->gradient = memory;
    SEO_TRY(seo_device_alloc(b->dev, b->n * size * 4, &memory));
    b->copy = memory;
    SEO_TRY(rounds(b));
    SEO_TRY(wait_for_late(b));
    SEO_TRY(beside(b));
    if (seo_comm_rank(b->comm) == 0) print(b);
done:
    return err;
}

int main(int argc, char **argv) {
    static bench b;
    const seo_comm_mpi_options options = {.slice = argc > 2 ? atoll(argv[2]) : 0};
    seo_err err = seo_comm_open_mpi(&options, &b.comm);
    if (err == SEO_OK) err = run(&b, argc > 1 ? atof(argv[1]) : 124);
    if (err != SEO_OK) fprintf(stderr, "bench_comm: %s\n", seo_err_detail());
    seo_comm_close(b.comm);
    seo_device_close(b.dev);
    return err == SEO_OK ? 0 : 1;
}
