/* metrics.jsonl: its lines, what a resume cuts off, and a disk that is full for a while. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/log.h"
#include "train/metrics.h"

typedef struct scratch {
    char folder[64], path[128];
} scratch;

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static int make(void **state) {
    scratch *s = calloc(1, sizeof *s);
    snprintf(s->folder, sizeof s->folder, "/tmp/seodang-test-XXXXXX");
    if (!mkdtemp(s->folder)) return 1;
    snprintf(s->path, sizeof s->path, "%s/metrics.jsonl", s->folder);
    *state = s;
    return 0;
}

static int clear(void **state) {
    scratch *s = *state;
    const seo_err err = seo_dir_remove(s->folder);
    free(s);
    return err != SEO_OK;
}

static void write_steps(seo_metrics *m, int64_t first, int64_t last) {
    for (int64_t step = first; step <= last; step++) {
        seo_metrics_write(m, &(seo_metrics_record){.step = step,
                                                   .loss = 1.0 / (double)step,
                                                   .loss_mean = 0.1,
                                                   .grad_norm = 2,
                                                   .lr = 6e-4,
                                                   .tokens = step * 512,
                                                   .ms = 12.5});
    }
}

static void append(const scratch *s, const char *text) {
    FILE *file = fopen(s->path, "a");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* The text of the file, which the caller frees. */
static void read_text(const scratch *s, char **text) {
    int64_t bytes = 0;
    ok(seo_file_read(s->path, 1 << 20, text, &bytes));
}

/* Lines of steps first..last and nothing else. */
static void holds(const scratch *s, int64_t first, int64_t last) {
    char *text = NULL;
    read_text(s, &text);
    char *line = text;
    for (int64_t step = first; step <= last; step++) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_int_equal(json_integer_value(json_object_get(object, "step")), step);
        assert_int_equal(json_integer_value(json_object_get(object, "tokens")), step * 512);
        json_decref(object);
        line = end + 1;
    }
    assert_string_equal(line, "");
    free(text);
}

static void lines(void **state) {
    const scratch *s = *state;
    seo_metrics *m = NULL;
    const seo_metrics_eval eval = {.loss = 2.5, .perplexity = 12.18, .bits_per_byte = 3.6};
    ok(seo_metrics_open(s->path, 0, &m));
    seo_metrics_write(m, &(seo_metrics_record){.step = 1,
                                               .loss = 3.5,
                                               .loss_mean = 3.25,
                                               .grad_norm = NAN,
                                               .lr = 1e-3,
                                               .tokens = 512,
                                               .skipped = true,
                                               .eval = &eval,
                                               .tokens_per_s = 1000,
                                               .ms = 512,
                                               .data_wait_ms = 0.5,
                                               .eta_s = 60,
                                               .memory_bytes = 4096});
    ok(seo_metrics_sync(m));
    seo_metrics_close(m);
    char *text = NULL;
    read_text(s, &text);
    assert_string_equal(
        text,
        "{\"step\": 1, \"loss\": 3.5, \"loss_mean\": 3.25, \"grad_norm\": null, \"lr\": 0.001, "
        "\"tokens\": 512, \"skipped\": true, \"eval_loss\": 2.5, \"eval_perplexity\": 12.18, "
        "\"eval_bits_per_byte\": 3.6, \"time\": {\"tokens_per_s\": 1000.000, \"ms\": 512.000, "
        "\"data_wait_ms\": 0.500, \"memory_bytes\": 4096, \"eta_s\": 60.000}}\n");
    free(text);
}

static void cut_on_resume(void **state) {
    const scratch *s = *state;
    seo_metrics *m = NULL;
    ok(seo_metrics_open(s->path, 0, &m));
    write_steps(m, 1, 9);
    seo_metrics_close(m);
    append(s, "{\"step\": 10, \"loss\": 0.");
    ok(seo_metrics_open(s->path, 9, &m)); /* the torn line alone */
    seo_metrics_close(m);
    holds(s, 1, 9);
    append(s, "{\"step\": 10, \"loss\": 0.\n\n");
    ok(seo_metrics_open(s->path, 4, &m));
    holds(s, 1, 4);
    write_steps(m, 5, 7);
    seo_metrics_close(m);
    holds(s, 1, 7);
    ok(seo_metrics_open(s->path, 0, &m)); /* killed before the first checkpoint */
    write_steps(m, 1, 2);
    seo_metrics_close(m);
    holds(s, 1, 2);
}

static void missing_lines(void **state) {
    const scratch *s = *state;
    seo_metrics *m = NULL;
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_QUIET});
    ok(seo_metrics_open(s->path, 5, &m)); /* no file: a warning, then on */
    write_steps(m, 6, 7);
    seo_metrics_close(m);
    holds(s, 6, 7);
}

static void late_evaluation(void **state) {
    const scratch *s = *state;
    const seo_metrics_eval eval = {.loss = 2.5, .perplexity = 12.18, .bits_per_byte = 3.6};
    seo_metrics *m = NULL;
    ok(seo_metrics_open(s->path, 0, &m));
    write_steps(m, 1, 3);
    assert_false(seo_metrics_has_eval(m, 3));
    seo_metrics_close(m);
    ok(seo_metrics_open(s->path, 3, &m));
    assert_false(seo_metrics_has_eval(m, 3));
    ok(seo_metrics_add_eval(m, 3, &eval));
    assert_true(seo_metrics_has_eval(m, 3));
    ok(seo_metrics_add_eval(m, 2, &eval)); /* not the last line: nothing */
    write_steps(m, 4, 4);
    assert_false(seo_metrics_has_eval(m, 4));
    seo_metrics_close(m);
    holds(s, 1, 4);
    char *text = NULL;
    read_text(s, &text);
    const char *first = strstr(text, "eval_loss");
    assert_non_null(first);
    assert_null(strstr(first + 1, "eval_loss"));
    assert_non_null(strstr(text,
                           "\"tokens\": 1536, \"eval_loss\": 2.5, \"eval_perplexity\": 12.18, "
                           "\"eval_bits_per_byte\": 3.6, \"time\""));
    free(text);
}

/* A file size limit stands for the full disk. */
static void full_disk(void **state) {
    const scratch *s = *state;
    struct rlimit before, tight;
    seo_metrics *m = NULL;
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_QUIET});
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    ok(seo_metrics_open(s->path, 0, &m));
    write_steps(m, 1, 3);
    tight = before;
    tight.rlim_cur = 900; /* some bytes of a further line fit */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    write_steps(m, 4, 8);
    assert_int_equal(seo_metrics_sync(m), SEO_ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    holds(s, 1, 4); /* whole lines only */
    write_steps(m, 9, 9);
    ok(seo_metrics_sync(m));
    seo_metrics_close(m);
    holds(s, 1, 9);
}

/* What several ranks did stands with the times, which a comparison of runs leaves out. */
static void ranks(void **state) {
    const scratch *s = *state;
    seo_metrics *m = NULL;
    char *text = NULL;
    int64_t bytes = 0;
    const seo_metrics_ranks four = {.count = 4,
                                    .slowest = 2,
                                    .min_s = 0.5,
                                    .mean_s = 0.75,
                                    .max_s = 1.5,
                                    .comm_s = 0.25,
                                    .waited_s = 0.125,
                                    .sent_bytes = 1 << 20};
    ok(seo_metrics_open(s->path, 0, &m));
    seo_metrics_write(m, &(seo_metrics_record){.step = 1, .spike = true, .ranks = &four});
    seo_metrics_close(m);
    ok(seo_file_read(s->path, 1 << 16, &text, &bytes));
    json_t *line = json_loads(text, 0, NULL);
    assert_true(json_is_true(json_object_get(line, "spike")));
    assert_null(json_object_get(line, "ranks"));
    const json_t *r = json_object_get(json_object_get(line, "time"), "ranks");
    assert_int_equal(json_integer_value(json_object_get(r, "count")), 4);
    assert_int_equal(json_integer_value(json_object_get(r, "slowest")), 2);
    assert_true(json_number_value(json_object_get(r, "min_ms")) == 500);
    assert_true(json_number_value(json_object_get(r, "mean_ms")) == 750);
    assert_true(json_number_value(json_object_get(r, "max_ms")) == 1500);
    assert_true(json_number_value(json_object_get(r, "comm_ms")) == 250);
    assert_true(json_number_value(json_object_get(r, "waited_ms")) == 125);
    assert_int_equal(json_integer_value(json_object_get(r, "sent_bytes")), 1 << 20);
    json_decref(line);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines, make, clear),
        cmocka_unit_test_setup_teardown(cut_on_resume, make, clear),
        cmocka_unit_test_setup_teardown(missing_lines, make, clear),
        cmocka_unit_test_setup_teardown(late_evaluation, make, clear),
        cmocka_unit_test_setup_teardown(full_disk, make, clear),
        cmocka_unit_test_setup_teardown(ranks, make, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
