/* Checkpoints made from checkpoints: other parts, the same values; the mean of several; and neither
 * needs the memory that the whole would take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/support/ckpt_fixture.h"
#include "tests/support/peak.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/stream.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != SEO_OK) fail_msg("%s: %s", #call, seo_err_detail());                         \
    } while (0)

static const char *in(const fixture *f, const char *name) {
    static char path[4][SEO_PATH_MAX];
    static int next = 0;
    next = (next + 1) % 4;
    OK(seo_path_join(path[next], f->run, name));
    return path[next];
}

static void assert_same(const char *a, const char *b) {
    bool same;
    seo_buf report = {0};
    OK(seo_ckpt_diff(a, b, &same, &report));
    if (!same) fail_msg("%s", report.data);
    seo_buf_free(&report);
}

static void test_reshard(void **state) {
    fixture *f = *state;
    static const int64_t parts[] = {1, 2, 3, 7, 500};
    char name[32];
    fixture_save(f, 5);
    const char *from = f->run;
    for (size_t i = 0; i < SEO_COUNT_OF(parts); i++) {
        snprintf(name, sizeof name, "in-%d", (int)parts[i]);
        OK(seo_ckpt_reshard(from, in(f, name), parts[i]));
        from = in(f, name);
        assert_same(f->run, from);
        seo_ckpt *ckpt;
        OK(seo_ckpt_open(from, NULL, &ckpt));
        assert_int_equal(seo_ckpt_part_count(ckpt), parts[i]);
        const seo_ckpt_state *s = seo_ckpt_state_of(ckpt);
        assert_memory_equal(&s->loss_mean, &f->snapshot.state.loss_mean, sizeof s->loss_mean);
        assert_memory_equal(s->spike_window, f->snapshot.state.spike_window,
                            sizeof s->spike_window);
        seo_ckpt_close(ckpt);
    }
    OK(seo_ckpt_reshard(from, in(f, "back"), 1));
    assert_same(f->run, in(f, "back"));
    /* Back to one part: the same files as the first, byte for byte. */
    static const char *const files[] = {"part-0000-of-0001.h5", SEO_CKPT_CONFIG, SEO_CKPT_TOKENIZER,
                                        SEO_CKPT_MANIFEST};
    for (size_t i = 0; i < SEO_COUNT_OF(files); i++) {
        char first[SEO_PATH_MAX], folder[SEO_PATH_MAX], last[SEO_PATH_MAX];
        char a[SEO_XXH128_HEX], b[SEO_XXH128_HEX];
        fixture_path(f, 5, files[i], first);
        OK(seo_path_join(folder, in(f, "back"), SEO_CKPT_FOLDER "/step-00000005"));
        OK(seo_path_join(last, folder, files[i]));
        OK(seo_file_xxh128_hex(first, a));
        OK(seo_file_xxh128_hex(last, b));
        if (strcmp(a, b) != 0) fail_msg("%s has other bytes", files[i]);
    }
}

static void test_reshard_refuses(void **state) {
    fixture *f = *state;
    fixture_save(f, 5);
    OK(seo_ckpt_reshard(f->run, in(f, "two"), 2));
    assert_int_equal(seo_ckpt_reshard(f->run, in(f, "two"), 3), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "stands there already"));
    assert_int_equal(seo_ckpt_reshard(f->run, in(f, "none"), 0), SEO_ERR_USAGE);
    assert_int_equal(seo_ckpt_reshard(f->run, in(f, "none"), SEO_CKPT_PARTS_MAX + 1),
                     SEO_ERR_USAGE);
    assert_int_equal(seo_ckpt_reshard(in(f, "absent"), in(f, "none"), 1), SEO_ERR_MISSING);
}

/* Added in f64 in the given order, divided, rounded once. */
static void test_average(void **state) {
    fixture *f = *state;
    static float values[3][FIXTURE_VALUES], read[FIXTURE_VALUES];
    char paths[3][SEO_PATH_MAX];
    const char *list[3];
    for (int64_t k = 0; k < 3; k++) {
        fixture_save(f, 3 - k);
        memcpy(values[k], f->values, sizeof f->values);
        fixture_path(f, 3 - k, "", paths[k]);
        list[k] = paths[k];
    }
    OK(seo_ckpt_average(list, 3, in(f, "mean")));
    seo_ckpt *ckpt;
    OK(seo_ckpt_open(in(f, "mean"), NULL, &ckpt));
    assert_int_equal(seo_ckpt_state_of(ckpt)->step, 3);
    int64_t kept = 0;
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        seo_ckpt_tensor t = f->tensors[i];
        const int64_t at = t.data - f->values;
        int64_t count;
        if (strncmp(t.name, "parameters/", 11) != 0) continue;
        kept++;
        assert_true(seo_ckpt_shape_count(t.rank, t.dims, &count));
        t.data = read;
        OK(seo_ckpt_read(ckpt, &t, 1));
        for (int64_t e = 0; e < count; e++) {
            double sum = 0.0;
            for (int k = 0; k < 3; k++) sum += (double)values[k][at + e];
            const float mean = (float)(sum / 3.0);
            assert_memory_equal(&read[e], &mean, sizeof mean);
        }
    }
    assert_int_equal(seo_ckpt_tensor_count(ckpt), kept);
    seo_ckpt_close(ckpt);
}

static void test_average_refuses(void **state) {
    fixture *f = *state;
    char paths[3][SEO_PATH_MAX];
    fixture_save(f, 1);
    fixture_fill(f, 2);
    memset(f->snapshot.state.config_hash, 'c', 32);
    OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
    fixture_fill(f, 3);
    f->snapshot.tensor_count--;
    OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
    for (int64_t k = 0; k < 3; k++) fixture_path(f, k + 1, "", paths[k]);
    const char *const configs[] = {paths[0], paths[1]};
    assert_int_equal(seo_ckpt_average(configs, 2, in(f, "mean")), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "configurations"));
    assert_int_equal(seo_ckpt_average(configs, 0, in(f, "mean")), SEO_ERR_USAGE);
    /* Other moments do not matter: they are not averaged. */
    const char *const moments[] = {paths[0], paths[2]};
    OK(seo_ckpt_average(moments, 2, in(f, "mean")));
}

enum { LARGE_VALUES = 12 << 20, LARGE_TENSORS = 2 };

static void save_large(const char *folder) {
    float *values = malloc((size_t)LARGE_VALUES * LARGE_TENSORS * sizeof *values);
    assert_non_null(values);
    seo_ckpt_tensor tensors[LARGE_TENSORS];
    for (int64_t i = 0; i < (int64_t)LARGE_VALUES * LARGE_TENSORS; i++) values[i] = (float)i;
    for (int i = 0; i < LARGE_TENSORS; i++) {
        tensors[i] = (seo_ckpt_tensor){
            .rank = 2, .dims = {LARGE_VALUES / 4096, 4096}, .data = values + i * LARGE_VALUES};
        snprintf(tensors[i].name, sizeof tensors[i].name, "parameters/%d", i);
    }
    const seo_ckpt_snapshot snapshot = {.state = {.step = 1},
                                        .tensors = tensors,
                                        .tensor_count = LARGE_TENSORS,
                                        .config_yaml = "x: 1\n"};
    OK(seo_dir_make(folder));
    OK(seo_ckpt_save(folder, 0, NULL, &snapshot));
    free(values);
}

/* 0, or how it failed; in a process of its own, so that its peak is its own. */
static int remake_large(const char *from, const char *two, const char *mean) {
    bool same = false;
    seo_buf report = {0};
    const char *const both[] = {from, two};
    const bool counted = peak_reset();
    const int64_t before = peak_bytes();
    if (seo_ckpt_reshard(from, two, 2) != SEO_OK) return 1;
    if (seo_ckpt_diff(from, two, &same, &report) != SEO_OK || !same) return 2;
    if (seo_ckpt_average(both, 2, mean) != SEO_OK) return 3;
    if (seo_ckpt_diff(from, mean, &same, &report) != SEO_OK || !same) return 4;
    if (seo_ckpt_verify(two, &report) != SEO_OK) return 5;
    seo_buf_free(&report);
    /* Some pieces, chunks and blocks of a megabyte each; the checkpoint has 96. */
    return counted && PEAK_IS_OURS && peak_bytes() - before > (24 << 20) ? 6 : 0;
}

static void test_memory_is_bounded(void **state) {
    fixture *f = *state;
    char from[SEO_PATH_MAX], two[SEO_PATH_MAX], mean[SEO_PATH_MAX];
    OK(seo_path_join(from, f->run, "large"));
    OK(seo_path_join(two, f->run, "two"));
    OK(seo_path_join(mean, f->run, "mean"));
    save_large(from);
    int status;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(remake_large(from, two, mean));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_reshard),         CASE(test_reshard_refuses),   CASE(test_average),
        CASE(test_average_refuses), CASE(test_memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
