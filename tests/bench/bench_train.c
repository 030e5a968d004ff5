/* Tokens a second of whole training steps, as `seodang train` runs them: loader, micro-batches,
 * norm, update; on any device that a configuration can name.
 *
 * usage: bench_train CONFIG [--set KEY=VALUE]... [--steps N] [--threads N] [--work DIR] [--groups]
 *
 * Trains on made-up tokens, after two steps that are not counted, and prints one JSON object with
 * the median step. Operations a token are given by two formulas that are in use, N being all
 * parameters: "palm" 6 N + 12 L C T (Chowdhery et al. 2022, appendix B), and "half" 6 N + 6 L C T,
 * which counts the causal half of the attention. With --groups a further step is measured operator
 * by operator, with events around each and without graphs, and printed as a second object: its sum
 * is a little more than the step, and what is not in it are copies and gaps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/text.h"
#include "data/dataset_writer.h"
#include "kernels/backend.h"
#include "train/run_state.h"

enum { WARM_UP_STEPS = 2, STEPS_MAX = 1000, SETS_MAX = 64, DOCUMENT = 1024, EVENTS_MAX = 1 << 16 };

/* Operators apart, and matmul by what it is for: its layout tells. */
typedef enum group {
#define SEO_OP(op) GROUP_##op,
#include "kernels/ops.def"
#undef SEO_OP
    GROUP_matmul_dx,
    GROUP_matmul_dw,
    GROUP_COUNT
} group;

static const char *const k_group_names[] = {
#define SEO_OP(op) #op,
#include "kernels/ops.def"
#undef SEO_OP
    "matmul_dx", "matmul_dw"};

/* One per process: an operator gets its device and arguments, nothing else. */
static struct {
    const seo_backend *original;
    seo_backend timed;
    seo_event *from[EVENTS_MAX], *to[EVENTS_MAX];
    group group_of[EVENTS_MAX];
    int64_t count;
} g_timing;

static seo_err time_begin(seo_device *dev, group g) {
    const int64_t at = g_timing.count;
    seo_err err = SEO_OK;
    if (at >= EVENTS_MAX) return SEO_FAIL(SEO_ERR_MEMORY, "more than %d operators", EVENTS_MAX);
    g_timing.group_of[at] = g;
    SEO_TRY(seo_event_open(dev, &g_timing.from[at]));
    SEO_TRY(seo_event_open(dev, &g_timing.to[at]));
    SEO_TRY(seo_event_record(g_timing.from[at]));
done:
    return err;
}

static seo_err time_end(void) {
    return seo_event_record(g_timing.to[g_timing.count++]);
}

static group group_of_matmul(const seo_matmul_args *a) {
    if (a->layout == SEO_MATMUL_NT) return GROUP_matmul;
    return a->layout == SEO_MATMUL_NN ? GROUP_matmul_dx : GROUP_matmul_dw;
}

#define GROUP_OF(op, a)                                                                            \
    (GROUP_##op == GROUP_matmul ? group_of_matmul((const seo_matmul_args *)(const void *)(a))      \
                                : GROUP_##op)
#define SEO_OP(op)                                                                                 \
    static seo_err timed_##op(seo_device *dev, const seo_##op##_args *a) {                         \
        seo_err err = time_begin(dev, GROUP_OF(op, a));                                            \
        if (err == SEO_OK) err = g_timing.original->op(dev, a);                                    \
        return err == SEO_OK ? time_end() : err;                                                   \
    }
#include "kernels/ops.def"
#undef SEO_OP

/* The device's own operators with events around them; without graphs, in which an event has no
 * time. */
static void time_operators(seo_device *dev) {
    g_timing.original = dev->backend;
    g_timing.timed = *dev->backend;
#define SEO_OP(op) g_timing.timed.op = timed_##op;
#include "kernels/ops.def"
#undef SEO_OP
    g_timing.timed.capture_begin = NULL;
    dev->backend = &g_timing.timed;
}

static void drop_events(void) {
    for (int64_t i = 0; i < EVENTS_MAX && g_timing.from[i]; i++) {
        seo_event_close(g_timing.from[i]);
        seo_event_close(g_timing.to[i]);
        g_timing.from[i] = g_timing.to[i] = NULL;
    }
    g_timing.count = 0;
}

static seo_err print_groups(double step_s) {
    seo_err err = SEO_OK;
    double ms[GROUP_COUNT] = {0}, sum = 0;
    int64_t calls[GROUP_COUNT] = {0};
    for (int64_t i = 0; i < g_timing.count; i++) {
        double one = 0;
        SEO_TRY(seo_event_elapsed(g_timing.from[i], g_timing.to[i], &one));
        ms[g_timing.group_of[i]] += one;
        calls[g_timing.group_of[i]]++;
        sum += one;
    }
    printf("{\"kind\": \"groups\", \"step_ms\": %.3f, \"sum_ms\": %.3f, \"groups\": {",
           step_s * 1e3, sum);
    bool first = true;
    for (int g = 0; g < GROUP_COUNT; g++) {
        if (calls[g] == 0) continue;
        printf("%s\"%s\": {\"ms\": %.4f, \"calls\": %lld}", first ? "" : ", ", k_group_names[g],
               ms[g], (long long)calls[g]);
        first = false;
    }
    printf("}}\n");
done:
    return err;
}

/* ---- a dataset of made-up tokens ---- */

/* As unequal as words in a text: the number u in (0, 1) gives token V u^4. */
static seo_err make_data(const char *folder, const seo_config *config) {
    seo_err err = SEO_OK;
    seo_dataset_writer *writer = NULL;
    char sha256[SEO_SHA256_HEX], path[] = "made-up";
    int32_t ids[DOCUMENT];
    seo_manifest_source source = {.path = path};
    const int64_t vocabulary = config->model.vocab_size;
    const int64_t documents = 4 * config->train.batch_tokens / DOCUMENT + 8;
    const seo_rng_key key = {.seed = 3, .purpose = SEO_PURPOSE_TEST};
    seo_sha256_hex("", 0, sha256);
    memcpy(source.sha256, sha256, sizeof sha256);
    SEO_TRY(seo_dataset_writer_open(
        &(seo_dataset_writer_args){
            .folder = folder, .vocab_size = vocabulary, .eot_id = 0, .tokenizer_sha256 = sha256},
        &writer));
    for (int64_t d = 0; d < documents; d++) {
        for (int64_t i = 0; i < DOCUMENT; i++) {
            const float u = seo_uniform_from(seo_rng_u32(key, (uint64_t)(d * DOCUMENT + i)));
            ids[i] = (int32_t)((float)vocabulary * u * u * u * u);
        }
        const seo_document document = {.ids = ids, .count = DOCUMENT, .text_bytes = 4 * DOCUMENT};
        SEO_TRY(seo_dataset_writer_add(writer, SEO_SPLIT_TRAIN, &document));
    }
    const seo_dataset_origin origin = {.sources = &source, .source_count = 1, .provenance = "{}"};
    SEO_TRY(seo_dataset_writer_commit(writer, &origin, NULL));
done:
    seo_dataset_writer_close(writer);
    return err;
}

/* ---- steps ---- */

typedef struct bench {
    const char *config;
    const char *sets[SETS_MAX];
    int64_t set_count, steps, threads;
    const char *work;
    bool groups;
    double seconds[STEPS_MAX];
} bench;

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static seo_err print_steps(bench *b, const seo_run *run, double loss) {
    seo_err err = SEO_OK;
    int64_t parameters = 0, free_bytes = 0, total_bytes = 0;
    const seo_model_config *m = &run->config.model;
    const double width = (double)m->num_layers * (double)m->hidden_size * (double)m->seq_len;
    SEO_TRY(seo_model_count(m, &parameters));
    SEO_TRY(seo_device_memory(run->dev, &free_bytes, &total_bytes));
    qsort(b->seconds, (size_t)b->steps, sizeof b->seconds[0], ascending);
    const double median = (b->seconds[(b->steps - 1) / 2] + b->seconds[b->steps / 2]) / 2;
    const double rate = (double)run->config.train.batch_tokens / median;
    const double palm = 6.0 * (double)parameters + 12.0 * width;
    const double half = 6.0 * (double)parameters + 6.0 * width;
    seo_buf device = {0}, config = {0};
    seo_buf_json_string(&device, seo_device_name(run->dev), strlen(seo_device_name(run->dev)));
    seo_buf_json_string(&config, b->config, strlen(b->config));
    printf("{\"kind\": \"step\", \"config\": %s, \"device\": %s, \"parameters\": %lld", config.data,
           device.data, (long long)parameters);
    printf(", \"batch_tokens\": %lld, \"micro_batch\": %lld, \"seq_len\": %lld, \"steps\": %lld",
           (long long)run->config.train.batch_tokens, (long long)run->config.train.micro_batch,
           (long long)m->seq_len, (long long)b->steps);
    printf(", \"ms\": %.3f, \"ms_min\": %.3f, \"ms_max\": %.3f, \"tokens_per_s\": %.1f",
           median * 1e3, b->seconds[0] * 1e3, b->seconds[b->steps - 1] * 1e3, rate);
    printf(", \"flop_per_token_palm\": %.0f, \"flop_per_token_half\": %.0f", palm, half);
    printf(", \"tflops_palm\": %.3f, \"tflops_half\": %.3f", palm * rate * 1e-12,
           half * rate * 1e-12);
    printf(", \"memory_bytes\": %lld, \"free_bytes\": %lld, \"loss\": %.4f}\n",
           (long long)seo_device_bytes(run->dev), (long long)free_bytes, loss);
    fflush(stdout);
    seo_buf_free(&config);
    seo_buf_free(&device);
done:
    return err;
}

static seo_err one_step(seo_run *run, int64_t number, double *seconds, double *loss) {
    seo_step_result result;
    const double start = seo_clock_s();
    const seo_err err = seo_step_run(run->step, number, number - 1, &result);
    *seconds = seo_clock_s() - start;
    if (err == SEO_OK && !result.finite) {
        return SEO_FAIL(SEO_ERR_NUMERIC, "the loss of step %lld is not finite", (long long)number);
    }
    *loss = result.loss;
    return err;
}

static seo_err open_run(bench *b, const char *work, const char *data, seo_train_args *args,
                        seo_run *run) {
    seo_err err = SEO_OK;
    bool finished = false;
    *args = (seo_train_args){.config_path = b->config,
                             .sets = b->sets,
                             .set_count = b->set_count,
                             .run_dir = work,
                             .threads = (int32_t)b->threads};
    SEO_TRY(seo_config_load(b->config, b->sets, b->set_count, &run->config));
    SEO_TRY(make_data(data, &run->config));
    SEO_TRY(seo_run_open(run, args, &finished));
    SEO_ASSERT(!finished);
done:
    return err;
}

/* Steps first, then a step operator by operator, in a run of its own: a graph that was captured
 * holds no events. */
static seo_err measure(bench *b, bool groups, const char *work, const char *data) {
    seo_err err = SEO_OK;
    seo_run run = {0};
    seo_train_args args;
    double seconds = 0, loss = 0;
    SEO_TRY(open_run(b, work, data, &args, &run));
    if (groups) time_operators(run.dev);
    for (int64_t i = 1; i <= WARM_UP_STEPS; i++) {
        drop_events();
        SEO_TRY(one_step(&run, i, &seconds, &loss));
    }
    for (int64_t i = 0; i < (groups ? 1 : b->steps); i++) {
        drop_events();
        SEO_TRY(one_step(&run, WARM_UP_STEPS + 1 + i, &b->seconds[i], &loss));
    }
    SEO_TRY(groups ? print_groups(b->seconds[0]) : print_steps(b, &run, loss));
done:
    drop_events();
    seo_run_close(&run);
    return err;
}

static seo_err run_in_scratch(bench *b, bool groups) {
    seo_err err = SEO_OK;
    char folder[SEO_PATH_MAX], run[SEO_PATH_MAX], data[SEO_PATH_MAX], set[SEO_PATH_MAX + 16];
    snprintf(folder, sizeof folder, "%s/bench_train-XXXXXX", b->work);
    if (mkdtemp(folder) == NULL) {
        return SEO_FAIL(SEO_ERR_IO, "%s: no scratch folder can be made there; give --work DIR",
                        b->work);
    }
    SEO_TRY(seo_path_join(run, folder, "run"));
    SEO_TRY(seo_path_join(data, folder, "data"));
    snprintf(set, sizeof set, "data.path=%s", data);
    b->sets[b->set_count++] = set;
    err = measure(b, groups, run, data);
    b->set_count--;
done:
    if (seo_dir_remove(folder) != SEO_OK) seo_log_failure();
    return err;
}

static bool read_options(bench *b, int argc, char **argv) {
    static const char *const always[] = {"train.steps=100000", "eval.every=0", "checkpoint.every=0",
                                         "schedule.warmup_steps=1"};
    for (int64_t i = 0; i < SEO_COUNT_OF(always); i++) b->sets[b->set_count++] = always[i];
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] != '-' && !b->config) {
            b->config = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--groups") == 0) {
            b->groups = true;
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--set") == 0 && *value && b->set_count < SETS_MAX - 1) {
            b->sets[b->set_count++] = value;
        } else if (strcmp(argv[i - 1], "--work") == 0 && *value) {
            b->work = value;
        } else if (strcmp(argv[i - 1], "--steps") == 0) {
            if (!seo_parse_int(value, &b->steps) || b->steps < 1 || b->steps > STEPS_MAX)
                return false;
        } else if (strcmp(argv[i - 1], "--threads") == 0) {
            if (!seo_parse_int(value, &b->threads) || b->threads < 0 || b->threads > 4096)
                return false;
        } else {
            return false;
        }
    }
    return b->config != NULL;
}

int main(int argc, char **argv) {
    static bench b = {.steps = 8, .work = "."};
    if (!read_options(&b, argc, argv)) {
        fprintf(stderr, "usage: bench_train CONFIG [--set KEY=VALUE]... [--steps N] [--threads N] "
                        "[--work DIR] [--groups]\n");
        return 2;
    }
    seo_log_set_level(SEO_LOG_WARN);
    seo_err err = run_in_scratch(&b, false);
    if (err == SEO_OK && b.groups) err = run_in_scratch(&b, true);
    if (err == SEO_OK) return 0;
    seo_log_failure();
    return err == SEO_ERR_USAGE || err == SEO_ERR_UNSUPPORTED || err == SEO_ERR_MEMORY ? 2 : 1;
}
