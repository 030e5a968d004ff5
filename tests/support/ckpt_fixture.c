#include "tests/support/ckpt_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "train/checkpoint/layout.h"

/* Scalars, long thin, matrices, a tensor of four dimensions; two groups. */
static const struct {
    const char *name;
    int32_t rank;
    int64_t dims[4];
} shapes[FIXTURE_TENSORS] = {
    {"parameters/embed.token.weight", 2, {17, 12}},
    {"parameters/blocks.0.attn.qkv.weight", 2, {12, 36}},
    {"parameters/blocks.0.norm.bias", 1, {12}},
    {"parameters/one", 1, {1}},
    {"moment1/embed.token.weight", 2, {17, 12}},
    {"moment2/embed.token.weight", 2, {17, 12}},
    {"moment2/four", 4, {2, 3, 4, 5}},
};

int fixture_setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    /* In memory where there is such a place: the tests sync some ten thousand times. */
    snprintf(f->run, sizeof f->run, "/dev/shm/seodang-ckpt-XXXXXX");
    if (!mkdtemp(f->run)) {
        snprintf(f->run, sizeof f->run, "/tmp/seodang-ckpt-XXXXXX");
        assert_non_null(mkdtemp(f->run));
    }
    assert_int_equal(seo_path_join(f->tokenizer, f->run, "tok.json"), SEO_OK);
    assert_int_equal(seo_file_write_atomic(f->tokenizer, "{\"model\": {}}\n", 14), SEO_OK);
    float *data = f->values;
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        seo_ckpt_tensor *t = &f->tensors[i];
        int64_t count = 1;
        snprintf(t->name, sizeof t->name, "%s", shapes[i].name);
        t->rank = shapes[i].rank;
        memcpy(t->dims, shapes[i].dims, sizeof t->dims);
        for (int32_t d = 0; d < t->rank; d++) count *= t->dims[d];
        t->data = data;
        data += count;
    }
    assert_true(data - f->values <= FIXTURE_VALUES);
    const seo_log_options quiet = {.level = SEO_LOG_QUIET};
    seo_log_setup(&quiet);
    *state = f;
    return 0;
}

int fixture_teardown(void **state) {
    fixture *f = *state;
    seo_err err = seo_dir_remove(f->run);
    free(f);
    return err == SEO_OK ? 0 : -1;
}

void fixture_fill(fixture *f, int64_t step) {
    uint32_t x = (uint32_t)step * 2654435761u + 1u;
    for (int i = 0; i < FIXTURE_VALUES; i++) {
        x = x * 1664525u + 1013904223u;
        f->values[i] = (float)(int32_t)x * 0x1p-30f;
    }
    f->snapshot = (seo_ckpt_snapshot){
        .state = {.step = step,
                  .tokens = step * 512,
                  .seed = 0xfedcba9876543210u,
                  .loss_mean = 1.0 / 3.0 + (double)step,
                  .train_seconds = 0.1 * (double)step,
                  .skipped_steps = 2,
                  .spike_count = 2,
                  .spike_window = {1.0 / 7.0, -0.0},
                  .precision = "bf16"},
        .tensors = f->tensors,
        .tensor_count = FIXTURE_TENSORS,
        .config_yaml = "model: {family: gpt2}\n",
        .tokenizer_path = f->tokenizer,
    };
    memset(f->snapshot.state.config_hash, 'a', sizeof f->snapshot.state.config_hash - 1);
    memset(f->snapshot.state.data_sha256, 'b', sizeof f->snapshot.state.data_sha256 - 1);
}

void fixture_save(fixture *f, int64_t step) {
    fixture_fill(f, step);
    if (seo_ckpt_save(f->run, 0, NULL, &f->snapshot) != SEO_OK) fail_msg("%s", seo_err_detail());
}

void fixture_path(const fixture *f, int64_t step, const char *name, char out[SEO_PATH_MAX]) {
    char step_name[SEO_CKPT_STEP_NAME_MAX];
    seo_ckpt_step_name(step_name, step);
    int n = snprintf(out, SEO_PATH_MAX, "%s/" SEO_CKPT_FOLDER "/%s%s%s", f->run, step_name,
                     name[0] ? "/" : "", name);
    assert_true(n > 0 && n < SEO_PATH_MAX);
}

int64_t fixture_found(const fixture *f) {
    seo_ckpt *ckpt;
    seo_err err = seo_ckpt_open(f->run, NULL, &ckpt);
    if (err != SEO_OK) return -1 - (int64_t)err;
    int64_t step = seo_ckpt_state_of(ckpt)->step;
    seo_ckpt_close(ckpt);
    return step;
}

int64_t fixture_assert_newest(fixture *f) {
    static float saved[FIXTURE_VALUES];
    seo_ckpt *ckpt;
    if (seo_ckpt_open(f->run, NULL, &ckpt) != SEO_OK) fail_msg("%s", seo_err_detail());
    int64_t step = seo_ckpt_state_of(ckpt)->step;
    fixture_fill(f, step);
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        seo_ckpt_tensor t = f->tensors[i];
        int64_t count = 1;
        for (int32_t d = 0; d < t.rank; d++) count *= t.dims[d];
        t.data = saved;
        if (seo_ckpt_read(ckpt, &t, 1) != SEO_OK) fail_msg("%s", seo_err_detail());
        assert_memory_equal(saved, f->tensors[i].data, (size_t)count * sizeof *saved);
    }
    seo_ckpt_close(ckpt);
    return step;
}
