#include "run_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"

static const char k_config[] = "model: {num_layers: 1, num_heads: 2, hidden_size: 16, seq_len: 16, "
                               "vocab_size: 40, dropout: 0.1}\n"
                               "data: {path: %s}\n"
                               "train: {steps: 12, batch_tokens: 64, micro_batch: 2, seed: 3}\n"
                               "optimizer: {lr: 1e-2}\n"
                               "schedule: {name: constant, warmup_steps: 2}\n"
                               "eval: {every: 4, tokens: 0}\n"
                               "checkpoint: {every: 5, keep_last: 2}\n";

static fixture small(uint64_t seed) {
    fixture f = fixture_usual();
    f.vocab_size = 40;
    f.documents = 50;
    f.document_most = 60;
    f.seed = seed;
    return f;
}

int run_bench_make(void **state) {
    run_bench *b = calloc(1, sizeof *b);
    char text[8192];
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_QUIET});
    b->data = small(1);
    b->other = small(2);
    fixture_make(&b->data);
    fixture_make(&b->other);
    fixture_folder(&b->scratch);
    fixture_path(&b->scratch, "run.yaml", b->config);
    const int bytes = snprintf(text, sizeof text, k_config, b->data.folder);
    SEO_ASSERT(seo_file_write_atomic(b->config, text, bytes) == SEO_OK);
    *state = b;
    return 0;
}

int run_bench_clear(void **state) {
    run_bench *b = *state;
    fixture_remove(&b->data);
    fixture_remove(&b->other);
    fixture_remove(&b->scratch);
    free(b);
    return 0;
}

seo_err run_train(const run_bench *b, const char *name, run_words w) {
    char folder[SEO_PATH_MAX];
    int64_t count = 0;
    fixture_path(&b->scratch, name, folder);
    while (w.sets[count]) count++;
    return seo_train(&(seo_train_args){.config_path = b->config,
                                       .sets = w.sets,
                                       .set_count = count,
                                       .run_dir = folder,
                                       .threads = 1,
                                       .allow = &w.allow,
                                       .allow_count = w.allow ? 1 : 0,
                                       .from_scratch = w.from_scratch,
                                       .open_cuda = w.open_cuda});
}

void run_ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

json_t *run_metrics(const run_bench *b, const char *run) {
    char name[128], path[SEO_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    snprintf(name, sizeof name, "%s/metrics.jsonl", run);
    fixture_path(&b->scratch, name, path);
    run_ok(seo_file_read(path, 1 << 20, &text, &bytes));
    json_t *list = json_array();
    for (char *line = text; *line != '\0';) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        json_t *object = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(object);
        json_object_del(object, "time");
        json_array_append_new(list, object);
        line = end + 1;
    }
    free(text);
    return list;
}

void run_same_metrics(const run_bench *b, const char *run, const char *as) {
    json_t *one = run_metrics(b, run), *two = run_metrics(b, as);
    assert_true(json_array_size(one) > 0);
    assert_true(json_equal(one, two));
    json_decref(one);
    json_decref(two);
}

void run_same_state(const run_bench *b, const char *run, const char *as) {
    char one[SEO_PATH_MAX], two[SEO_PATH_MAX];
    seo_buf report = {0};
    bool same = false;
    fixture_path(&b->scratch, run, one);
    fixture_path(&b->scratch, as, two);
    run_ok(seo_ckpt_diff(one, two, &same, &report));
    if (!same) fail_msg("%s", report.data);
    seo_buf_free(&report);
}

void run_open(const run_bench *b, const char *name, seo_ckpt **out) {
    char folder[SEO_PATH_MAX];
    fixture_path(&b->scratch, name, folder);
    run_ok(seo_ckpt_open(folder, NULL, out));
}

float *run_values(seo_ckpt *ckpt, const char *name, int64_t *count) {
    char full[SEO_CKPT_NAME_MAX];
    snprintf(full, sizeof full, "parameters/%s", name);
    for (int64_t i = 0; i < seo_ckpt_tensor_count(ckpt); i++) {
        seo_ckpt_tensor t = seo_ckpt_tensor_at(ckpt, i);
        if (strcmp(t.name, full) != 0) continue;
        *count = t.dims[0] * (t.rank == 2 ? t.dims[1] : 1);
        t.data = malloc((size_t)*count * sizeof *t.data);
        assert_non_null(t.data);
        run_ok(seo_ckpt_read(ckpt, &t, 1));
        return t.data;
    }
    fail_msg("no parameter %s", name);
    return NULL;
}
