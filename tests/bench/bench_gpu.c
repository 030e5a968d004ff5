/* How near the operators come to what a GPU can do, beside its own copy rate and cuBLASLt.
 *
 * usage: bench_gpu [--device cuda|cpu] [--ordinal N] [--dtype bf16|f32] [--batch B] [--positions T]
 *                  [--rounds N] [--only yardsticks|matmul|attention|rows|training] [--info]
 *
 * Prints one JSON object a line; scripts/bench_gpu makes a report of them. Inputs are random, the
 * caches are overwritten before each measured call, events on the device take the time, and the
 * figure is the median of the rounds. Where cuBLASLt is the yardstick the two take turns. The
 * device cpu is for trying out the program. Without a GPU: one line, exit 2. */
#include "tests/bench/bench_gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"

enum { WARM_UP_ROUNDS = 3, FLUSH_BYTES = 256 << 20, RANDOM_CHUNK = 1 << 22 };

static const struct {
    const char *name;
    void (*run)(gpu_bench *);
} k_groups[] = {
    {"yardsticks", gpu_bench_yardsticks}, {"matmul", gpu_bench_matmul},
    {"attention", gpu_bench_attention},   {"rows", gpu_bench_rows},
    {"training", gpu_bench_training},
};

static void print_text(const char *key, const char *text) {
    seo_buf quoted = {0};
    seo_buf_json_string(&quoted, text, strlen(text));
    printf("\"%s\": %s", key, quoted.data ? quoted.data : "\"\"");
    seo_buf_free(&quoted);
}

static void print_case(const char *kind, const char *op, const char *what) {
    printf("{\"kind\": \"%s\", \"op\": \"%s\", ", kind, op);
    print_text("case", what);
}

void gpu_bench_failed(gpu_bench *b, const char *op, const char *what) {
    print_case("failure", op, what);
    printf(", ");
    print_text("why", seo_err_detail());
    printf("}\n");
    fflush(stdout);
    b->failures++;
}

/* ---- memory ---- */

static seo_err take(gpu_bench *b, int64_t bytes, void **out) {
    SEO_ASSERT(b->taken_count < GPU_TENSORS_MAX);
    const seo_err err = seo_device_alloc(b->own, bytes, out);
    if (err == SEO_OK) b->taken[b->taken_count++] = *out;
    return err;
}

seo_err gpu_bench_zeros(gpu_bench *b, seo_dtype dtype, int64_t rows, int64_t columns,
                        seo_tensor *out) {
    void *data = NULL;
    const seo_err err = take(b, rows * columns * seo_dtype_bytes(dtype), &data);
    *out = seo_tensor_2d(data, dtype, rows, columns);
    return err;
}

/* By the device itself, a chunk at a time through f32 when the tensor is bf16. */
seo_err gpu_bench_random(gpu_bench *b, seo_dtype dtype, int64_t rows, int64_t columns, float std,
                         seo_tensor *out) {
    seo_err err = SEO_OK;
    void *chunk = NULL;
    const int64_t count = rows * columns;
    const seo_rng_key key = {.seed = 1, .purpose = SEO_PURPOSE_TEST, .step = b->stream++};
    SEO_TRY(gpu_bench_zeros(b, dtype, rows, columns, out));
    if (dtype != SEO_DTYPE_F32) {
        SEO_TRY(seo_device_alloc(b->own, RANDOM_CHUNK * (int64_t)sizeof(float), &chunk));
    }
    for (int64_t at = 0; at < count; at += RANDOM_CHUNK) {
        const int64_t n = seo_min_i64(RANDOM_CHUNK, count - at);
        char *place = (char *)out->data + at * seo_dtype_bytes(dtype);
        const seo_tensor wide = seo_tensor_1d(chunk ? chunk : place, SEO_DTYPE_F32, n);
        SEO_TRY(seo_normal(
            b->own, &(seo_normal_args){.out = wide, .key = key, .first_index = at, .std = std}));
        if (chunk) {
            SEO_TRY(seo_cast(b->own,
                             &(seo_cast_args){.out = seo_tensor_1d(place, dtype, n), .inp = wide}));
        }
    }
    SEO_TRY(seo_device_sync(b->own));
done:
    if (chunk) seo_device_free(b->own, chunk);
    return err;
}

void gpu_bench_release(gpu_bench *b) {
    while (b->taken_count > 0) seo_device_free(b->own, b->taken[--b->taken_count]);
}

/* ---- time ---- */

typedef struct timer {
    seo_device *dev;
    seo_event *from, *to;
    double ms[GPU_ROUNDS_MAX];
} timer;

static void timer_close(timer *t) {
    seo_event_close(t->from);
    seo_event_close(t->to);
}

static seo_err timer_open(timer *t, seo_device *dev) {
    *t = (timer){.dev = dev};
    const seo_err err = seo_event_open(dev, &t->from);
    return err != SEO_OK ? err : seo_event_open(dev, &t->to);
}

/* The flush is queued before the call, and longer than the host takes to queue the call: the device
 * goes from one to the other without a pause. */
static seo_err measure_once(const gpu_bench *b, const timer *t, const gpu_line *line, double *ms) {
    seo_err err = SEO_OK;
    if (line->prepare) SEO_TRY(line->prepare(t->dev, line->args));
    SEO_TRY(seo_device_zero(t->dev, b->flush, FLUSH_BYTES));
    SEO_TRY(seo_event_record(t->from));
    SEO_TRY(line->run(t->dev, line->args));
    SEO_TRY(seo_event_record(t->to));
    SEO_TRY(seo_device_sync(t->dev));
    SEO_TRY(seo_event_elapsed(t->from, t->to, ms));
done:
    return err;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(const gpu_bench *b, const gpu_line *line, const char *by, timer *t) {
    qsort(t->ms, (size_t)b->rounds, sizeof t->ms[0], ascending);
    const double median =
        (t->ms[(b->rounds - 1) / 2] + t->ms[b->rounds / 2]) / 2; /* of an even number: between */
    print_case("kernel", line->op, line->what);
    printf(", \"dtype\": \"%s\", \"by\": \"%s\", \"ms\": %.6f, \"ms_min\": %.6f, \"ms_max\": %.6f",
           b->storage == SEO_DTYPE_BF16 ? "bf16" : "f32", by, median, t->ms[0],
           t->ms[b->rounds - 1]);
    printf(", \"rounds\": %lld, \"flop\": %.0f, \"bytes\": %.0f", (long long)b->rounds, line->flop,
           line->bytes);
    printf(", \"tflops\": %.3f, \"tbps\": %.4f}\n", line->flop / median * 1e-9,
           line->bytes / median * 1e-9);
    fflush(stdout);
}

/* Without the yardstick the rest is still worth measuring, and nothing of ours has failed. */
static void blas_failed(gpu_bench *b, const char *what) {
    const int64_t before = b->failures;
    gpu_bench_failed(b, "cuBLASLt", what);
    b->failures = before;
}

void gpu_bench_line(gpu_bench *b, const gpu_line *line) {
    timer own = {0}, blas = {0};
    bool both = line->against_blas && b->has_blas;
    seo_err err = SEO_OK;
    SEO_TRY(timer_open(&own, b->own));
    if (both) SEO_TRY(timer_open(&blas, b->blas));
    for (int64_t round = -WARM_UP_ROUNDS; round < b->rounds; round++) {
        const int64_t slot = seo_max_i64(round, 0);
        SEO_TRY(measure_once(b, &own, line, &own.ms[slot]));
        if (both && measure_once(b, &blas, line, &blas.ms[slot]) != SEO_OK) {
            both = b->has_blas = false;
            blas_failed(b, line->what);
        }
    }
    print_times(b, line, "own", &own);
    if (both) print_times(b, line, "cublaslt", &blas);
done:
    if (err != SEO_OK) gpu_bench_failed(b, line->op, line->what);
    timer_close(&own);
    timer_close(&blas);
}

/* ---- the program ---- */

static seo_err open_devices(gpu_bench *b, bool cpu, int32_t ordinal) {
    if (cpu) return seo_device_open_cpu(&(seo_cpu_options){.threads = 0}, &b->own);
    seo_err err = seo_device_open_cuda(
        &(seo_cuda_options){.ordinal = ordinal, .matmul = SEO_MATMUL_OWN}, &b->own);
    if (err != SEO_OK) return err;
    err = seo_device_open_cuda(
        &(seo_cuda_options){.ordinal = ordinal, .matmul = SEO_MATMUL_CUBLASLT}, &b->blas);
    b->has_blas = err == SEO_OK;
    if (!b->has_blas) blas_failed(b, "as the yardstick");
    return SEO_OK;
}

static seo_err print_device(gpu_bench *b) {
    int64_t free_bytes = 0, total_bytes = 0;
    const seo_err err = seo_device_memory(b->own, &free_bytes, &total_bytes);
    if (err != SEO_OK) return err;
    printf("{\"kind\": \"device\", ");
    print_text("name", seo_device_name(b->own));
    printf(", \"version\": \"%s\", \"memory_bytes\": %lld, \"free_bytes\": %lld}\n",
           SEODANG_VERSION, (long long)total_bytes, (long long)free_bytes);
    fflush(stdout);
    return SEO_OK;
}

typedef struct options {
    bool cpu, info;
    int64_t ordinal;
} options;

static bool is_group(const char *name) {
    for (int64_t i = 0; i < SEO_COUNT_OF(k_groups); i++) {
        if (strcmp(name, k_groups[i].name) == 0) return true;
    }
    return false;
}

static bool read_option(gpu_bench *b, options *o, const char *name, const char *value) {
    int64_t *number = NULL;
    if (strcmp(name, "--device") == 0) {
        o->cpu = strcmp(value, "cpu") == 0;
        return o->cpu || strcmp(value, "cuda") == 0;
    }
    if (strcmp(name, "--dtype") == 0) {
        b->storage = strcmp(value, "f32") == 0 ? SEO_DTYPE_F32 : SEO_DTYPE_BF16;
        return b->storage == SEO_DTYPE_F32 || strcmp(value, "bf16") == 0;
    }
    if (strcmp(name, "--only") == 0) {
        b->only = value;
        return is_group(value);
    }
    if (strcmp(name, "--ordinal") == 0) number = &o->ordinal;
    if (strcmp(name, "--batch") == 0) number = &b->batch;
    if (strcmp(name, "--positions") == 0) number = &b->positions;
    if (strcmp(name, "--rounds") == 0) number = &b->rounds;
    return number && seo_parse_int(value, number) && *number >= (number != &o->ordinal) &&
           *number <= INT32_MAX && b->rounds <= GPU_ROUNDS_MAX;
}

static bool read_options(gpu_bench *b, options *o, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--info") == 0) {
            o->info = true;
        } else if (i + 1 >= argc || !read_option(b, o, argv[i], argv[i + 1])) {
            return false;
        } else {
            i++;
        }
    }
    return true;
}

static seo_err run(gpu_bench *b, const options *o) {
    seo_err err = SEO_OK;
    SEO_TRY(print_device(b));
    if (o->info) return SEO_OK;
    SEO_TRY(seo_device_alloc(b->own, FLUSH_BYTES, &b->flush));
    for (int64_t i = 0; i < SEO_COUNT_OF(k_groups); i++) {
        if (!b->only || strcmp(b->only, k_groups[i].name) == 0) k_groups[i].run(b);
    }
done:
    if (b->flush) seo_device_free(b->own, b->flush);
    return err;
}

int main(int argc, char **argv) {
    gpu_bench b = {.storage = SEO_DTYPE_BF16, .batch = 16, .positions = 1024, .rounds = 21};
    options o = {0};
    if (!read_options(&b, &o, argc, argv)) {
        fprintf(stderr,
                "usage: bench_gpu [--device cuda|cpu] [--ordinal N] [--dtype bf16|f32] [--batch B] "
                "[--positions T] [--rounds N] [--only GROUP] [--info]\n"
                "groups: yardsticks matmul attention rows training\n");
        return 2;
    }
    seo_err err = open_devices(&b, o.cpu, (int32_t)o.ordinal);
    if (err != SEO_OK) {
        seo_log_failure();
        return 2;
    }
    if (!seo_device_has_bf16(b.own)) b.storage = SEO_DTYPE_F32;
    err = run(&b, &o);
    if (err != SEO_OK) seo_log_failure();
    seo_device_close(b.blas);
    seo_device_close(b.own);
    return err == SEO_OK && b.failures == 0 ? 0 : 1;
}
