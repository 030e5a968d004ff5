/* How fast a checkpoint is saved and read, beside `dd conv=fsync` of the same size on the same
 * disk.
 *
 * bench_checkpoint [MEGABYTES [FOLDER [RANKS]]]    1500 MB is the state of a 124M model: parameters
 *                                                  and both moments in f32. Three rounds; the best
 *                                                  counts. The state is shared among the ranks,
 * each a process of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/progress.h"
#include "train/checkpoint.h"
#include "train/world/world.h"

enum { GROUPS = 3, TENSORS = 25, COLUMNS = 768, ROUNDS = 3, RANKS_MAX = 64 };

static const char *const groups[GROUPS] = {"parameters", "moment1", "moment2"};

typedef struct bench {
    char folder[SEO_PATH_MAX];
    int32_t rank, ranks;
    seo_world *world;
    int64_t rows;  /* of each tensor, on each rank */
    float *values; /* this rank's */
    int64_t value_count;
    seo_ckpt_tensor tensors[GROUPS * TENSORS];
    seo_ckpt_range ranges[GROUPS * TENSORS];
    seo_ckpt_snapshot snapshot;
    double dd, stall, save, open, read; /* best seconds */
} bench;

static seo_err setup(bench *b, double megabytes) {
    const double each = megabytes * 1e6 / (GROUPS * TENSORS * sizeof(float)) / b->ranks;
    b->rows = (int64_t)each / COLUMNS > 0 ? (int64_t)each / COLUMNS : 1;
    b->value_count = b->rows * COLUMNS * GROUPS * TENSORS;
    b->values = malloc((size_t)b->value_count * sizeof *b->values);
    if (!b->values) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for %.0f MB", megabytes);
    uint32_t x = 1;
    for (int64_t i = 0; i < b->value_count; i++) {
        x = x * 1664525u + 1013904223u;
        b->values[i] = (float)(int32_t)x * 0x1p-35f;
    }
    for (int64_t i = 0; i < GROUPS * TENSORS; i++) {
        seo_ckpt_tensor *t = &b->tensors[i];
        snprintf(t->name, sizeof t->name, "%s/blocks.%d.weight", groups[i / TENSORS],
                 (int)(i % TENSORS));
        t->rank = 2;
        t->dims[0] = b->rows * b->ranks;
        t->dims[1] = COLUMNS;
        b->ranges[i] = (seo_ckpt_range){.tensor = i,
                                        .offset = b->rank * b->rows * COLUMNS,
                                        .count = b->rows * COLUMNS,
                                        .data = b->values + i * b->rows * COLUMNS};
    }
    b->snapshot = (seo_ckpt_snapshot){.tensors = b->tensors,
                                      .tensor_count = GROUPS * TENSORS,
                                      .ranges = b->ranges,
                                      .range_count = GROUPS * TENSORS,
                                      .config_yaml = "model: {family: gpt2}\n"};
    b->dd = b->stall = b->save = b->open = b->read = 1e30;
    return SEO_OK;
}

static seo_err together(const bench *b) {
    return seo_world_agree(b->world, SEO_CHANNEL_SAVE, "the benchmark", SEO_OK);
}

static void keep_best(double *best, double start) {
    const double seconds = seo_clock_s() - start;
    if (seconds < *best) *best = seconds;
}

/* Both contestants begin with nothing left to write back. */
static seo_err settle(const bench *b) {
    if (system("sync") != 0) return SEO_FAIL(SEO_ERR_IO, "sync failed");
    return together(b);
}

static seo_err run_dd(bench *b) {
    char command[SEO_PATH_MAX + 256];
    snprintf(command, sizeof command,
             "dd if=/dev/zero of='%s/dd' bs=1M count=%lld conv=fsync status=none", b->folder,
             (long long)(b->value_count * b->ranks * (int64_t)sizeof(float) >> 20));
    seo_err err = settle(b);
    if (err != SEO_OK || b->rank > 0) return err;
    const double start = seo_clock_s();
    if (system(command) != 0) return SEO_FAIL(SEO_ERR_IO, "dd failed");
    keep_best(&b->dd, start);
    snprintf(command, sizeof command, "%s/dd", b->folder);
    return remove(command) == 0 ? SEO_OK : SEO_FAIL(SEO_ERR_IO, "%s: cannot remove", command);
}

static seo_err run_save(bench *b, seo_ckpt_writer *writer, int64_t step) {
    seo_err err = SEO_OK;
    SEO_TRY(settle(b));
    b->snapshot.state.step = step;
    const double start = seo_clock_s();
    SEO_TRY(seo_ckpt_writer_submit(writer, &b->snapshot));
    keep_best(&b->stall, start);
    const double submitted = seo_clock_s();
    SEO_TRY(seo_ckpt_writer_wait(writer));
    keep_best(&b->save, submitted);
done:
    return err;
}

static seo_err run_load(bench *b) {
    seo_err err = SEO_OK;
    seo_ckpt *ckpt = NULL;
    SEO_TRY(together(b));
    double start = seo_clock_s();
    SEO_TRY(seo_ckpt_open(b->folder, b->world, &ckpt));
    keep_best(&b->open, start);
    start = seo_clock_s();
    SEO_TRY(seo_ckpt_read_ranges(ckpt, b->ranges, GROUPS * TENSORS));
    SEO_TRY(together(b));
    keep_best(&b->read, start);
done:
    seo_ckpt_close(ckpt);
    return err;
}

static void show(const bench *b) {
    const double gigabytes = (double)b->value_count * b->ranks * sizeof(float) / 1e9;
    const struct {
        const char *name;
        double seconds;
    } rows[] = {{"dd conv=fsync of the same size", b->dd},
                {"save, in the background", b->save},
                {"training waits for the copy", b->stall},
                {"open (every byte verified)", b->open},
                {"read (HDF5 and hash)", b->read}};
    printf("%.3f GB of state, %d ranks, best of %d\n", gigabytes, (int)b->ranks, ROUNDS);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        printf("  %-32s %7.3f s  %6.2f GB/s\n", rows[i].name, rows[i].seconds,
               gigabytes / rows[i].seconds);
    }
}

static seo_err run_rounds(bench *b) {
    seo_err err = SEO_OK;
    seo_ckpt_writer *writer = NULL;
    const seo_ckpt_writer_args args = {.run_dir = b->folder, .world = b->world, .keep_last = 1};
    SEO_TRY(seo_ckpt_writer_open(&args, &writer));
    for (int64_t round = 0; round < ROUNDS; round++) {
        SEO_TRY(run_dd(b));
        SEO_TRY(run_save(b, writer, round));
        SEO_TRY(run_load(b));
    }
    if (b->rank == 0) show(b);
done:
    seo_ckpt_writer_close(writer);
    return err;
}

static int run_rank(bench *b, double megabytes) {
    const seo_launch launch = {.rank = b->rank, .size = b->ranks, .id = "benchmark"};
    seo_err err = seo_world_open(
        &(seo_world_args){.launch = &launch, .folder = b->folder, .join_s = 60.0}, &b->world);
    if (err == SEO_OK) err = setup(b, megabytes);
    if (err == SEO_OK) err = run_rounds(b);
    if (err != SEO_OK) seo_log_failure();
    seo_world_close(b->world);
    free(b->values);
    return err == SEO_OK ? 0 : 1;
}

/* Rank 0 is this process. */
static int run_ranks(bench *b, double megabytes) {
    pid_t children[RANKS_MAX] = {0};
    int failed = 0, status;
    for (int32_t r = 1; r < b->ranks; r++) {
        children[r] = fork();
        if (children[r] < 0) return 1;
        if (children[r] > 0) continue;
        b->rank = r;
        _exit(run_rank(b, megabytes));
    }
    failed |= run_rank(b, megabytes);
    for (int32_t r = 1; r < b->ranks; r++) {
        failed |= waitpid(children[r], &status, 0) < 0 || status != 0;
    }
    return failed;
}

int main(int argc, char **argv) {
    bench *b = calloc(1, sizeof *b);
    if (!b) return 1;
    const seo_log_options quiet = {.level = SEO_LOG_WARN};
    seo_log_setup(&quiet);
    b->ranks = argc > 3 ? (int32_t)strtol(argv[3], NULL, 10) : 1;
    snprintf(b->folder, sizeof b->folder, "%s/seodang-bench-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    if (b->ranks < 1 || b->ranks > RANKS_MAX || !mkdtemp(b->folder)) {
        fprintf(stderr, "bench_checkpoint: no folder in %s, or not 1 to %d ranks\n", b->folder,
                RANKS_MAX);
        free(b);
        return 1;
    }
    const int failed = run_ranks(b, argc > 1 ? strtod(argv[1], NULL) : 1500.0);
    if (seo_dir_remove(b->folder) != SEO_OK) seo_log_failure();
    free(b);
    return failed;
}
