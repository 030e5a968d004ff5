/* Saving, finding, reading, keeping and comparing checkpoints on a healthy disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/ckpt_fixture.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/manifest.h"

#define PART "part-0000-of-0001.h5"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != SEO_OK) fail_msg("%s: %s", #call, seo_err_detail());                         \
    } while (0)

static bool exists(const fixture *f, int64_t step) {
    char path[SEO_PATH_MAX];
    seo_path_kind kind;
    fixture_path(f, step, "", path);
    OK(seo_path_look(path, &kind));
    return kind == SEO_PATH_DIR;
}

static void test_reads_back_bit_for_bit(void **state) {
    fixture *f = *state;
    static float again[FIXTURE_VALUES];
    seo_ckpt_tensor into[FIXTURE_TENSORS];
    fixture_fill(f, 7);
    /* Bit patterns that a conversion would change. */
    const uint32_t odd[] = {0x80000000u, 0x7fc12345u, 0x7f800001u, 0xff800000u, 1u};
    memcpy(f->values, odd, sizeof odd);
    OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
    seo_ckpt *ckpt;
    OK(seo_ckpt_open(f->run, NULL, &ckpt));
    assert_int_equal(seo_ckpt_tensor_count(ckpt), FIXTURE_TENSORS);
    int64_t total = 0;
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        into[i] = seo_ckpt_tensor_at(ckpt, i);
        assert_string_equal(into[i].name, f->tensors[i].name);
        assert_null(into[i].data);
        total = f->tensors[i].data - f->values;
        into[i].data = again + total;
    }
    OK(seo_ckpt_read(ckpt, into, FIXTURE_TENSORS));
    assert_memory_equal(again, f->values, (size_t)(total + 120) * sizeof(float));
    /* Every field of the state, its floats by their bits. */
    const seo_ckpt_state *a = seo_ckpt_state_of(ckpt), *b = &f->snapshot.state;
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->tokens, b->tokens);
    assert_true(a->seed == b->seed);
    assert_memory_equal(&a->loss_mean, &b->loss_mean, sizeof a->loss_mean);
    assert_memory_equal(&a->train_seconds, &b->train_seconds, sizeof a->train_seconds);
    assert_int_equal(a->bad_in_row, b->bad_in_row);
    assert_int_equal(a->spike_count, b->spike_count);
    assert_memory_equal(a->spike_window, b->spike_window, sizeof a->spike_window);
    assert_int_equal(a->skipped_steps, b->skipped_steps);
    assert_string_equal(a->precision, "bf16");
    assert_string_equal(a->config_hash, b->config_hash);
    assert_string_equal(a->data_sha256, b->data_sha256);
    assert_string_equal(a->tokenizer_sha256, b->tokenizer_sha256);
    seo_ckpt_close(ckpt);
}

static void test_floats_of_the_state(void **state) {
    fixture *f = *state;
    fixture_fill(f, 1);
    const double values[] = {0.1, -0.0, 5e-324, 1e308 * 10.0, -1e308 * 10.0, 0.0 / -1.0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        seo_ckpt *ckpt;
        f->snapshot.state.step = (int64_t)i + 1;
        f->snapshot.state.loss_mean = values[i];
        OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
        OK(seo_ckpt_open(f->run, NULL, &ckpt));
        assert_memory_equal(&seo_ckpt_state_of(ckpt)->loss_mean, &values[i], sizeof values[i]);
        seo_ckpt_close(ckpt);
    }
}

static void test_missing_and_misshapen_tensors(void **state) {
    fixture *f = *state;
    float value[16];
    seo_ckpt *ckpt;
    fixture_save(f, 3);
    OK(seo_ckpt_open(f->run, NULL, &ckpt));
    seo_ckpt_tensor absent = {.name = "parameters/absent", .rank = 1, .dims = {1}, .data = value};
    assert_int_equal(seo_ckpt_read(ckpt, &absent, 1), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), "parameters/absent"));
    seo_ckpt_tensor thin = {
        .name = "parameters/blocks.0.norm.bias", .rank = 1, .dims = {11}, .data = value};
    assert_int_equal(seo_ckpt_read(ckpt, &thin, 1), SEO_ERR_FORMAT);
    thin.dims[0] = 12;
    OK(seo_ckpt_read(ckpt, &thin, 1));
    seo_ckpt_close(ckpt);
}

static void read_part(const fixture *f, int64_t step, char **data, int64_t *bytes) {
    char path[SEO_PATH_MAX];
    fixture_path(f, step, PART, path);
    OK(seo_file_read(path, 1 << 24, data, bytes));
}

static void test_same_state_same_bytes(void **state) {
    fixture *f = *state;
    char *first, *second, folder[SEO_PATH_MAX];
    int64_t first_bytes, second_bytes;
    fixture_save(f, 5);
    read_part(f, 5, &first, &first_bytes);
    fixture_path(f, 5, "", folder);
    OK(seo_ckpt_remove(folder));
    assert_false(exists(f, 5));
    sleep(1); /* a stored time would show */
    fixture_save(f, 5);
    read_part(f, 5, &second, &second_bytes);
    assert_int_equal(first_bytes, second_bytes);
    assert_memory_equal(first, second, (size_t)first_bytes);
    free(first);
    free(second);
}

static void test_none(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX];
    seo_ckpt *ckpt;
    assert_int_equal(fixture_found(f), -1 - SEO_ERR_MISSING);
    OK(seo_path_join(path, f->run, SEO_CKPT_FOLDER));
    OK(seo_dir_make(path));
    assert_int_equal(fixture_found(f), -1 - SEO_ERR_MISSING);
    OK(seo_path_join(path, path, "tmp.5.1"));
    OK(seo_dir_make(path));
    assert_int_equal(fixture_found(f), -1 - SEO_ERR_MISSING);
    OK(seo_path_join(path, f->run, "no-such-run"));
    assert_int_equal(seo_ckpt_open(path, NULL, &ckpt), SEO_ERR_MISSING);
}

/* What keeps us from looking must never be taken for "there is none". Root passes permission bits,
 * so the folder is made unreadable in ways that hold for root too. */
static void test_unreadable_is_an_error(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX], inner[SEO_PATH_MAX];
    OK(seo_path_join(path, f->run, SEO_CKPT_FOLDER));
    OK(seo_file_write_atomic(path, "x", 1));
    assert_int_equal(fixture_found(f), -1 - SEO_ERR_IO);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(path, path), 0);
    assert_int_equal(fixture_found(f), -1 - SEO_ERR_IO);
    assert_int_equal(unlink(path), 0);
    seo_ckpt *ckpt;
    OK(seo_path_join(inner, f->tokenizer, "run"));
    assert_int_equal(seo_ckpt_open(inner, NULL, &ckpt), SEO_ERR_IO);
    assert_int_equal(seo_ckpt_open(f->tokenizer, NULL, &ckpt), SEO_ERR_IO);
    /* A part that is a loop of links: not damage of this checkpoint, and no reason to go back. */
    fixture_save(f, 1);
    fixture_save(f, 2);
    fixture_path(f, 2, PART, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(path, path), 0);
    assert_int_equal(fixture_found(f), -1 - SEO_ERR_IO);
}

static void test_existing_step(void **state) {
    fixture *f = *state;
    fixture_save(f, 4);
    fixture_save(f, 4); /* the same: kept */
    f->values[0] += 1.0f;
    assert_int_equal(seo_ckpt_save(f->run, 0, NULL, &f->snapshot), SEO_ERR_USAGE);
    assert_int_equal(fixture_found(f), 4);
    /* A damaged one is replaced, and nothing is left beside it. */
    char path[SEO_PATH_MAX];
    seo_names names;
    fixture_path(f, 4, PART, path);
    assert_int_equal(truncate(path, 100), 0);
    OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
    assert_int_equal(fixture_found(f), 4);
    OK(seo_path_join(path, f->run, SEO_CKPT_FOLDER));
    OK(seo_dir_list(path, &names));
    assert_int_equal(names.count, 1);
    seo_names_free(&names);
}

static void test_leftovers(void **state) {
    fixture *f = *state;
    char folder[SEO_PATH_MAX], path[SEO_PATH_MAX];
    const char *gone[] = {"tmp.3.1", "tmp.4.12"}, *stay[] = {"tmp.mine", "tmp.3.x", "notes"};
    seo_path_kind kind;
    OK(seo_path_join(folder, f->run, SEO_CKPT_FOLDER));
    for (size_t i = 0; i < 2; i++) {
        OK(seo_path_join(path, folder, gone[i]));
        OK(seo_dir_make(path));
        OK(seo_path_join(path, path, "part"));
        OK(seo_file_write_atomic(path, "x", 1));
    }
    for (size_t i = 0; i < 3; i++) {
        OK(seo_path_join(path, folder, stay[i]));
        OK(seo_dir_make(path));
    }
    fixture_save(f, 9);
    for (size_t i = 0; i < 2; i++) {
        OK(seo_path_join(path, folder, gone[i]));
        OK(seo_path_look(path, &kind));
        assert_int_equal(kind, SEO_PATH_NONE);
    }
    for (size_t i = 0; i < 3; i++) {
        OK(seo_path_join(path, folder, stay[i]));
        OK(seo_path_look(path, &kind));
        assert_int_equal(kind, SEO_PATH_DIR);
    }
    assert_int_equal(fixture_found(f), 9);
}

static void test_prune(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX];
    for (int64_t step = 10; step <= 100; step += 10) fixture_save(f, step);
    OK(seo_ckpt_prune(f->run, 2, 30));
    for (int64_t step = 10; step <= 100; step += 10) {
        assert_int_equal(exists(f, step), step >= 90 || step % 30 == 0);
    }
    assert_int_equal(seo_ckpt_prune(f->run, 0, 0), SEO_ERR_ARG);
    /* A damaged one among the newest does not push a good one out. */
    fixture_path(f, 100, PART, path);
    assert_int_equal(truncate(path, 50), 0);
    OK(seo_ckpt_prune(f->run, 1, 0));
    assert_true(exists(f, 100) && exists(f, 90) && !exists(f, 60) && !exists(f, 30));
    assert_int_equal(fixture_found(f), 90);
}

static void test_set_aside(void **state) {
    fixture *f = *state;
    char aside[SEO_PATH_MAX], step[SEO_PATH_MAX];
    seo_ckpt *ckpt;
    OK(seo_ckpt_set_aside(f->run, aside));
    assert_string_equal(aside, "");
    for (int i = 0; i < 2; i++) {
        fixture_save(f, 6);
        OK(seo_ckpt_set_aside(f->run, aside));
        assert_int_equal(fixture_found(f), -1 - SEO_ERR_MISSING);
        OK(seo_path_join(step, aside, "step-00000006"));
        OK(seo_ckpt_open(step, NULL, &ckpt));
        seo_ckpt_close(ckpt);
    }
}

static void test_diff(void **state) {
    fixture *f = *state;
    char a[SEO_PATH_MAX], b[SEO_PATH_MAX];
    seo_buf report = {0};
    bool same;
    fixture_fill(f, 1);
    f->tensors[1].data[36 * 2 + 5] = 0.25f;
    OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
    fixture_path(f, 1, "", a);
    OK(seo_ckpt_diff(a, f->run, &same, &report));
    assert_true(same);
    assert_string_equal(report.data, "identical\n");
    f->snapshot.state.step = 2;
    f->tensors[1].data[36 * 2 + 5] = 0.75f;
    f->tensors[4].data[0] = -f->tensors[4].data[0];
    OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
    fixture_path(f, 2, "", b);
    seo_buf_clear(&report);
    OK(seo_ckpt_diff(a, b, &same, &report));
    assert_false(same);
    assert_non_null(strstr(report.data, "step: 1 and 2\n"));
    assert_non_null(strstr(report.data, "parameters/blocks.0.attn.qkv.weight: 1 of 432 values "
                                        "differ, first at [2, 5]: "));
    assert_non_null(strstr(report.data, "largest absolute difference 0.5\n"));
    assert_non_null(strstr(report.data, "moment1/embed.token.weight: 1 of 204 values differ, "
                                        "first at [0, 0]: "));
    assert_null(strstr(report.data, "identical"));
    seo_buf_free(&report);
}

static void test_describe_and_verify(void **state) {
    fixture *f = *state;
    seo_buf out = {0};
    seo_ckpt *ckpt;
    char path[SEO_PATH_MAX];
    fixture_save(f, 1);
    fixture_save(f, 2);
    OK(seo_ckpt_open(f->run, NULL, &ckpt));
    OK(seo_ckpt_describe(ckpt, SEO_CKPT_STYLE_TABLE, &out));
    assert_non_null(strstr(out.data, "parameters/blocks.0.attn.qkv.weight"));
    assert_non_null(strstr(out.data, "12 x 36"));
    seo_buf_clear(&out);
    OK(seo_ckpt_describe(ckpt, SEO_CKPT_STYLE_JSON, &out));
    assert_non_null(strstr(out.data, "\"step\": 2, "));
    seo_ckpt_close(ckpt);
    seo_buf_clear(&out);
    OK(seo_ckpt_verify(f->run, &out));
    fixture_path(f, 1, "tokenizer.json", path);
    assert_int_equal(truncate(path, 3), 0);
    seo_buf_clear(&out);
    assert_int_equal(seo_ckpt_verify(f->run, &out), SEO_ERR_FORMAT);
    assert_non_null(strstr(out.data, "step-00000002: good"));
    assert_non_null(strstr(out.data, "step-00000001/tokenizer.json: damaged: 3 bytes long"));
    seo_buf_free(&out);
}

/* A reader that knows nothing of us reads the values. */
static void test_h5dump(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX], command[SEO_PATH_MAX + 128], line[256];
    if (system("command -v h5dump > /dev/null") != 0) {
        print_message("h5dump is not installed (package hdf5-tools): skipped\n");
        skip();
    }
    fixture_fill(f, 1);
    f->tensors[1].data[36 * 3 + 4] = 0.15625f;
    OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
    fixture_path(f, 1, PART, path);
    snprintf(command, sizeof command,
             "h5dump -y -d /parameters/blocks.0.attn.qkv.weight -s 3,4 -c 1,1 %s", path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    bool value = false, checksum = false, shape = false;
    while (fgets(line, sizeof line, pipe)) {
        value |= strstr(line, "0.15625") != NULL;
        shape |= strstr(line, "( 12, 36 ) / ( 12, 36 )") != NULL;
        checksum |= strstr(line, "global_shape") != NULL;
    }
    assert_int_equal(pclose(pipe), 0);
    assert_true(value && shape && checksum);
}

/* Sizes around the chunk limit, where rows are cut and the last chunk is padded. */
static void test_large_shapes(void **state) {
    fixture *f = *state;
    const int64_t shapes[][4] = {{(1 << 18) - 1, 1, 1, 1}, {1 << 18, 1, 1, 1},
                                 {(1 << 18) + 1, 1, 1, 1}, {3, 1 << 17, 1, 1},
                                 {2, 2, (1 << 18) + 3, 1}, {700, 1000, 1, 1}};
    float *data = malloc(sizeof *data << 21), *again = malloc(sizeof *again << 21);
    assert_true(data && again);
    for (int64_t i = 0; i < 1 << 21; i++) data[i] = (float)(i % 1000003);
    fixture_fill(f, 1);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        seo_ckpt *ckpt;
        seo_ckpt_tensor t = {.name = "parameters/w", .rank = 4, .data = data};
        memcpy(t.dims, shapes[i], sizeof t.dims);
        size_t bytes = (size_t)(t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3]) * sizeof *data;
        f->snapshot.state.step = (int64_t)i;
        f->snapshot.tensors = &t;
        f->snapshot.tensor_count = 1;
        OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
        OK(seo_ckpt_open(f->run, NULL, &ckpt));
        t.data = again;
        OK(seo_ckpt_read(ckpt, &t, 1));
        assert_memory_equal(again, data, bytes);
        seo_ckpt_close(ckpt);
    }
    free(data);
    free(again);
}

/* A checkpoint of format version 1, kept as it was written, of fixture_fill's step 3. */
static void test_version_1(void **state) {
    fixture *f = *state;
    float saved[FIXTURE_VALUES];
    seo_ckpt *ckpt;
    fixture_fill(f, 3);
    OK(seo_ckpt_open(SEO_SOURCE_DIR "/tests/golden/checkpoint_v1", NULL, &ckpt));
    const seo_ckpt_state *s = seo_ckpt_state_of(ckpt);
    assert_int_equal(s->step, 3);
    assert_memory_equal(&s->loss_mean, &f->snapshot.state.loss_mean, sizeof s->loss_mean);
    assert_int_equal(s->bad_in_row, 0);
    assert_int_equal(s->spike_count, 0);
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        seo_ckpt_tensor t = f->tensors[i];
        int64_t count;
        assert_true(seo_ckpt_shape_count(t.rank, t.dims, &count));
        t.data = saved;
        OK(seo_ckpt_read(ckpt, &t, 1));
        assert_memory_equal(saved, f->tensors[i].data, (size_t)count * sizeof *saved);
    }
    seo_ckpt_close(ckpt);
}

int main(void) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_reads_back_bit_for_bit),
        CASE(test_floats_of_the_state),
        CASE(test_missing_and_misshapen_tensors),
        CASE(test_same_state_same_bytes),
        CASE(test_none),
        CASE(test_unreadable_is_an_error),
        CASE(test_existing_step),
        CASE(test_leftovers),
        CASE(test_prune),
        CASE(test_set_aside),
        CASE(test_diff),
        CASE(test_describe_and_verify),
        CASE(test_h5dump),
        CASE(test_large_shapes),
        CASE(test_version_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
