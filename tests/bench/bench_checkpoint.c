/* How fast a checkpoint is saved and read, beside `dd conv=fsync` of the same size on the same
 * disk.
 *
 * bench_checkpoint [MEGABYTES [FOLDER]]      1500 MB is the state of a 124M model: parameters and
 *                                            both moments in f32. Three rounds; the best counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/progress.h"
#include "train/checkpoint.h"

enum { GROUPS = 3, TENSORS = 25, COLUMNS = 768, ROUNDS = 3 };

static const char *const groups[GROUPS] = {"parameters", "moment1", "moment2"};

typedef struct bench {
    char folder[SEO_PATH_MAX];
    int64_t rows; /* of each tensor */
    float *values;
    int64_t value_count;
    seo_ckpt_tensor tensors[GROUPS * TENSORS];
    seo_ckpt_snapshot snapshot;
    double dd, stall, save, open, read; /* best seconds */
} bench;

static seo_err setup(bench *b, double megabytes) {
    const int64_t each = (int64_t)(megabytes * 1e6 / (GROUPS * TENSORS * sizeof(float)));
    b->rows = each / COLUMNS > 0 ? each / COLUMNS : 1;
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
        t->dims[0] = b->rows;
        t->dims[1] = COLUMNS;
        t->data = b->values + i * b->rows * COLUMNS;
    }
    b->snapshot = (seo_ckpt_snapshot){.tensors = b->tensors,
                                      .tensor_count = GROUPS * TENSORS,
                                      .config_yaml = "model: {family: gpt2}\n"};
    b->dd = b->stall = b->save = b->open = b->read = 1e30;
    return SEO_OK;
}

static void keep_best(double *best, double start) {
    const double seconds = seo_clock_s() - start;
    if (seconds < *best) *best = seconds;
}

/* Both contestants begin with nothing left to write back. */
static seo_err settle(void) {
    return system("sync") == 0 ? SEO_OK : SEO_FAIL(SEO_ERR_IO, "sync failed");
}

static seo_err run_dd(bench *b) {
    char command[SEO_PATH_MAX + 256];
    snprintf(command, sizeof command,
             "dd if=/dev/zero of='%s/dd' bs=1M count=%lld conv=fsync status=none", b->folder,
             (long long)(b->value_count * (int64_t)sizeof(float) >> 20));
    seo_err err = settle();
    if (err != SEO_OK) return err;
    const double start = seo_clock_s();
    if (system(command) != 0) return SEO_FAIL(SEO_ERR_IO, "dd failed");
    keep_best(&b->dd, start);
    snprintf(command, sizeof command, "%s/dd", b->folder);
    return remove(command) == 0 ? SEO_OK : SEO_FAIL(SEO_ERR_IO, "%s: cannot remove", command);
}

static seo_err run_save(bench *b, seo_ckpt_writer *writer, int64_t step) {
    seo_err err = SEO_OK;
    SEO_TRY(settle());
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
    double start = seo_clock_s();
    SEO_TRY(seo_ckpt_open(b->folder, NULL, &ckpt));
    keep_best(&b->open, start);
    start = seo_clock_s();
    SEO_TRY(seo_ckpt_read(ckpt, b->tensors, GROUPS * TENSORS));
    keep_best(&b->read, start);
done:
    seo_ckpt_close(ckpt);
    return err;
}

static void show(const bench *b) {
    const double gigabytes = (double)b->value_count * sizeof(float) / 1e9;
    const struct {
        const char *name;
        double seconds;
    } rows[] = {{"dd conv=fsync of the same size", b->dd},
                {"save, in the background", b->save},
                {"training waits for the copy", b->stall},
                {"open (every byte verified)", b->open},
                {"read (HDF5 and hash)", b->read}};
    printf("%.3f GB of state, best of %d\n", gigabytes, ROUNDS);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        printf("  %-32s %7.3f s  %6.2f GB/s\n", rows[i].name, rows[i].seconds,
               gigabytes / rows[i].seconds);
    }
}

static seo_err run_rounds(bench *b) {
    seo_err err = SEO_OK;
    seo_ckpt_writer *writer = NULL;
    const seo_ckpt_writer_args args = {.run_dir = b->folder, .keep_last = 1};
    SEO_TRY(seo_ckpt_writer_open(&args, &writer));
    for (int64_t round = 0; round < ROUNDS; round++) {
        SEO_TRY(run_dd(b));
        SEO_TRY(run_save(b, writer, round));
        SEO_TRY(run_load(b));
    }
    show(b);
done:
    seo_ckpt_writer_close(writer);
    return err;
}

int main(int argc, char **argv) {
    bench *b = calloc(1, sizeof *b);
    if (!b) return 1;
    const seo_log_options quiet = {.level = SEO_LOG_WARN};
    seo_log_setup(&quiet);
    snprintf(b->folder, sizeof b->folder, "%s/seodang-bench-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    if (!mkdtemp(b->folder)) {
        perror(b->folder);
        free(b);
        return 1;
    }
    seo_err err = setup(b, argc > 1 ? strtod(argv[1], NULL) : 1500.0);
    if (err == SEO_OK) err = run_rounds(b);
    if (err != SEO_OK) seo_log_failure();
    if (seo_dir_remove(b->folder) != SEO_OK) seo_log_failure();
    free(b->values);
    free(b);
    return err == SEO_OK ? 0 : 1;
}
