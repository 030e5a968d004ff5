/* How near the CPU operators come to what the processor can do.
 *
 * usage: bench_cpu [plain|avx2|avx512]
 *
 * Each figure is the best of several tries. The processor's peak is measured between the tries, so
 * that a change of clock or a busy neighbour touches both; percentages are of that peak. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/bench/peak.h"

enum { TRIES_MIN = 4, TRIES_MAX = 60 };
static const double TRY_SECONDS = 0.5; /* for each figure, once TRIES_MIN are done */

typedef struct bench {
    seo_cpu_level level;
    int32_t threads[2]; /* 1, and all */
    seo_device *devices[2];
    double peak[2]; /* GFLOP/s, best so far */
} bench;

/* One line of a table: an operator call and what it costs. */
typedef struct line {
    char name[48];
    seo_err (*call)(seo_device *, const void *args);
    const void *args;
    double flops;
    double bytes; /* read at least once; 0: not of interest */
} line;

static seo_err best_seconds(bench *b, int which, const line *l, double *best) {
    double begin = seo_clock_s();
    *best = INFINITY;
    for (int i = 0; i < TRIES_MAX; i++) {
        if (i >= TRIES_MIN && seo_clock_s() - begin > TRY_SECONDS) break;
        b->peak[which] = fmax(b->peak[which], peak_gflops(b->level, b->threads[which]));
        double start = seo_clock_s();
        seo_err err = l->call(b->devices[which], l->args);
        if (err != SEO_OK) return err;
        *best = fmin(*best, seo_clock_s() - start);
    }
    return SEO_OK;
}

static seo_err print_line(bench *b, const line *l) {
    printf("  %-28s", l->name);
    for (int which = 0; which < 2; which++) {
        double seconds = 0.0;
        seo_err err = best_seconds(b, which, l, &seconds);
        if (err != SEO_OK) return err;
        double rate = l->flops / seconds * 1e-9, peak = b->peak[which];
        printf(" %9.3f %8.1f", seconds * 1e3, rate);
        if (l->bytes > 0)
            printf(" %6.1fG", l->bytes / seconds * 1e-9);
        else if (peak > 0)
            printf(" %6.1f%%", 100.0 * rate / peak);
        else
            printf(" %7s", "-");
    }
    printf("\n");
    fflush(stdout);
    return SEO_OK;
}

static void print_head(const bench *b, const char *title, const char *last) {
    printf("\n%-30s", title);
    for (int which = 0; which < 2; which++) {
        char threads[32];
        snprintf(threads, sizeof(threads), "%d thread%s: ms", b->threads[which],
                 b->threads[which] == 1 ? "" : "s");
        printf(" %12s GFLOP/s %4s", threads, last);
    }
    printf("\n");
}

/* Uniform numbers in (-1, 1), in memory as a training run has it; the devices share the host's. */
static seo_err random_floats(bench *b, int64_t count, float **out) {
    void *memory = NULL;
    seo_err err = seo_device_alloc(b->devices[1], count * (int64_t)sizeof(float), &memory);
    if (err != SEO_OK) return err;
    seo_rng_key key = {.seed = 1, .purpose = SEO_PURPOSE_TEST};
    *out = memory;
    for (int64_t i = 0; i < count; i++) {
        (*out)[i] = 2.0f * seo_uniform_from(seo_rng_u32(key, (uint64_t)i)) - 1.0f;
    }
    return SEO_OK;
}

typedef struct matmul_shape {
    seo_matmul_layout layout;
    int64_t m, n, k;
    const char *what;
} matmul_shape;

static seo_err call_matmul(seo_device *dev, const void *args) {
    return seo_matmul(dev, args);
}

static seo_err bench_matmul_shape(bench *b, matmul_shape s, bool show_bytes) {
    static const char *const LAYOUTS[] = {"NT", "NN", "TN"};
    bool at = s.layout == SEO_MATMUL_TN, bt = s.layout == SEO_MATMUL_NT;
    float *x = NULL, *w = NULL, *out = NULL;
    seo_err err = SEO_OK;
    SEO_TRY(random_floats(b, s.m * s.k, &x));
    SEO_TRY(random_floats(b, s.n * s.k, &w));
    SEO_TRY(random_floats(b, s.m * s.n, &out));
    seo_matmul_args args = {.out = seo_tensor_2d(out, SEO_DTYPE_F32, s.m, s.n),
                            .a = seo_tensor_2d(x, SEO_DTYPE_F32, at ? s.k : s.m, at ? s.m : s.k),
                            .b = seo_tensor_2d(w, SEO_DTYPE_F32, bt ? s.n : s.k, bt ? s.k : s.n),
                            .layout = s.layout};
    line l = {.call = call_matmul,
              .args = &args,
              .flops = 2.0 * (double)(s.m * s.n * s.k),
              .bytes = show_bytes ? 4.0 * (double)(s.n * s.k) : 0.0};
    snprintf(l.name, sizeof(l.name), "%s %lldx%lldx%lld %s", LAYOUTS[s.layout], (long long)s.m,
             (long long)s.n, (long long)s.k, s.what);
    SEO_TRY(print_line(b, &l));
done:
    seo_device_free(b->devices[1], x);
    seo_device_free(b->devices[1], w);
    seo_device_free(b->devices[1], out);
    return err;
}

static seo_err bench_matmul(bench *b) {
    static const matmul_shape SHAPES[] = {
        {SEO_MATMUL_NT, 1024, 2304, 768, "qkv"},     {SEO_MATMUL_NT, 1024, 768, 768, "proj"},
        {SEO_MATMUL_NT, 1024, 3072, 768, "fc"},      {SEO_MATMUL_NT, 1024, 768, 3072, "fcproj"},
        {SEO_MATMUL_NN, 1024, 768, 2304, "dqkv"},    {SEO_MATMUL_NN, 1024, 768, 3072, "dfc"},
        {SEO_MATMUL_NN, 1024, 3072, 768, "dfcproj"}, {SEO_MATMUL_TN, 3072, 768, 1024, "dW fc"},
        {SEO_MATMUL_TN, 768, 768, 1024, "dW proj"},  {SEO_MATMUL_NT, 1024, 50304, 768, "head"},
        {SEO_MATMUL_NN, 1024, 768, 50304, "dhead"},  {SEO_MATMUL_TN, 50304, 768, 1024, "dW head"},
    };
    print_head(b, "matmul, training (M x N x K)", "peak");
    for (int64_t i = 0; i < SEO_COUNT_OF(SHAPES); i++) {
        seo_err err = bench_matmul_shape(b, SHAPES[i], false);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* Few rows: what counts is how fast the weights are read. */
static seo_err bench_matmul_few_rows(bench *b) {
    static const int64_t ROWS[] = {1, 4, 16, 32};
    print_head(b, "matmul, generation", "B/s");
    for (int64_t i = 0; i < SEO_COUNT_OF(ROWS); i++) {
        seo_err err =
            bench_matmul_shape(b, (matmul_shape){SEO_MATMUL_NT, ROWS[i], 3072, 768, ""}, true);
        if (err != SEO_OK) return err;
        err = bench_matmul_shape(b, (matmul_shape){SEO_MATMUL_NT, ROWS[i], 50304, 768, ""}, true);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

static seo_err call_attention_fwd(seo_device *dev, const void *args) {
    return seo_attention_fwd(dev, args);
}
static seo_err call_attention_bwd(seo_device *dev, const void *args) {
    return seo_attention_bwd(dev, args);
}

/* Counts what the causal mask leaves: 2 products forward, 5 backward, of T (T + 1) / 2 pairs. */
static seo_err bench_attention_length(bench *b, int64_t t) {
    const int64_t batch = 4, heads = 12, width = 64, channels = heads * width;
    double pairs = (double)(batch * heads) * (double)(t * (t + 1)) / 2.0;
    int64_t part = batch * t * channels;
    float *all = NULL;
    seo_err err = SEO_OK;
    SEO_TRY(random_floats(b, 8 * part + 2 * batch * heads * t, &all));
    float *qkv = all, *dqkv = qkv + 3 * part, *out = dqkv + 3 * part, *dout = out + part;
    float *lse = dout + part;
    seo_attention_fwd_args fwd = {.out = seo_tensor_3d(out, SEO_DTYPE_F32, batch, t, channels),
                                  .lse = seo_tensor_3d(lse, SEO_DTYPE_F32, batch, heads, t),
                                  .qkv = seo_tensor_3d(qkv, SEO_DTYPE_F32, batch, t, 3 * channels),
                                  .head_count = heads,
                                  .scale = 0.125f,
                                  .mask.causal = true};
    seo_attention_bwd_args bwd = {
        .dqkv = seo_tensor_3d(dqkv, SEO_DTYPE_F32, batch, t, 3 * channels),
        .delta = seo_tensor_3d(lse + batch * heads * t, SEO_DTYPE_F32, batch, heads, t),
        .dout = seo_tensor_3d(dout, SEO_DTYPE_F32, batch, t, channels),
        .out = fwd.out,
        .qkv = fwd.qkv,
        .lse = fwd.lse,
        .head_count = heads,
        .scale = 0.125f,
        .mask.causal = true};
    line lines[] = {{"", call_attention_fwd, &fwd, pairs * 4.0 * (double)width, 0.0},
                    {"", call_attention_bwd, &bwd, pairs * 10.0 * (double)width, 0.0}};
    snprintf(lines[0].name, sizeof(lines[0].name), "forward T=%lld", (long long)t);
    snprintf(lines[1].name, sizeof(lines[1].name), "backward T=%lld", (long long)t);
    SEO_TRY(print_line(b, &lines[0]));
    SEO_TRY(print_line(b, &lines[1]));
done:
    seo_device_free(b->devices[1], all);
    return err;
}

static seo_err bench_attention(bench *b) {
    print_head(b, "attention B=4 H=12 D=64", "peak");
    seo_err err = bench_attention_length(b, 256);
    return err != SEO_OK ? err : bench_attention_length(b, 1024);
}

/* All that is measured, in the order of the report. */
static const struct {
    const char *name;
    seo_err (*run)(bench *);
} BENCHES[] = {
    {"matmul", bench_matmul},
    {"generation", bench_matmul_few_rows},
    {"attention", bench_attention},
};

static void print_machine(const bench *b) {
    char name[128] = "unknown processor", date[64] = "", text[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(text, sizeof(text), f)) {
        if (strncmp(text, "model name", 10) != 0 || !strchr(text, ':')) continue;
        snprintf(name, sizeof(name), "%.120s", strchr(text, ':') + 2);
        name[strcspn(name, "\n")] = '\0';
        break;
    }
    if (f) fclose(f);
    time_t now = time(NULL);
    struct tm day;
    if (localtime_r(&now, &day)) strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &day);
    printf("Seodang %s CPU benchmark, %s\n%s; %s\n", SEODANG_VERSION, date, name,
           seo_device_name(b->devices[1]));
}

static seo_err open_devices(bench *b) {
    for (int which = 0; which < 2; which++) {
        seo_cpu_options options = {.threads = which == 0 ? 1 : 0, .level = b->level};
        seo_err err = seo_device_open_cpu(&options, &b->devices[which]);
        if (err != SEO_OK) return err;
        b->threads[which] = seo_device_threads(b->devices[which]);
    }
    b->level = seo_device_cpu_level(b->devices[0]);
    return SEO_OK;
}

int main(int argc, char **argv) {
    static const char *const LEVELS[] = {"auto", "plain", "avx2", "avx512"};
    bench b = {0};
    seo_err err = SEO_OK;
    for (int i = 1; argc > 1 && i < (int)SEO_COUNT_OF(LEVELS); i++) {
        if (strcmp(argv[1], LEVELS[i]) == 0) b.level = (seo_cpu_level)i;
    }
    if (argc > 1 && b.level == SEO_CPU_AUTO) {
        fprintf(stderr, "usage: bench_cpu [plain|avx2|avx512]\n");
        return 2;
    }
    SEO_TRY(open_devices(&b));
    print_machine(&b);
    for (int64_t i = 0; i < SEO_COUNT_OF(BENCHES); i++) SEO_TRY(BENCHES[i].run(&b));
    printf("\nf32 peak measured alongside: %.1f GFLOP/s on 1 thread, %.1f on %d\n", b.peak[0],
           b.peak[1], b.threads[1]);
done:
    if (err != SEO_OK) fprintf(stderr, "bench_cpu: %s\n", seo_err_detail());
    for (int which = 0; which < 2; which++) seo_device_close(b.devices[which]);
    return err == SEO_OK ? 0 : 1;
}
