/* Every system call of a save, an opening and a start fails in turn, with ENOSPC and EIO, once and
 * from then on; and every write is cut short. Whatever fails: the earlier checkpoint stays good,
 * nothing half-written is accepted, what failed is said, and nothing crashes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/ckpt_fixture.h"
#include "tests/support/fault.h"
#include "train/checkpoint/layout.h"
#include "train/run_dir.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != SEO_OK) fail_msg("%s: %s", #call, seo_err_detail());                         \
    } while (0)

static const struct {
    fault_mode mode;
    int error;
} ways[] = {{FAULT_ONCE, ENOSPC}, {FAULT_ONCE, EIO}, {FAULT_ON, ENOSPC}, {FAULT_ON, EIO}};
enum { WAYS = sizeof ways / sizeof ways[0] };

/* The only calls whose failure a save may survive: closing what was only read, and clearing away.
 */
static bool may_be_ignored(const char *call) {
    static const char *const harmless[] = {"close /", "unlink /", "rmdir /", "opendir /"};
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        if (strncmp(call, harmless[i], strlen(harmless[i])) == 0) return true;
    }
    return false;
}

static void assert_steps(const fixture *f, int64_t newest, int64_t wanted) {
    char folder[SEO_PATH_MAX];
    seo_names names;
    OK(seo_path_join(folder, f->run, SEO_CKPT_FOLDER));
    OK(seo_dir_list(folder, &names));
    assert_int_equal(names.count, wanted);
    seo_names_free(&names);
    assert_int_equal(fixture_found(f), newest);
}

/* Saves step 2 over a good step 1 with the fault at call k; false when there is no such call. */
static bool save_with_fault(fixture *f, int64_t attempt, size_t way, int64_t k) {
    char path[SEO_PATH_MAX];
    fixture_fill(f, 2);
    fault_arm(ways[way].mode, f->run, k, ways[way].error);
    seo_err err = seo_ckpt_save(f->run, attempt, NULL, &f->snapshot);
    fault_disarm();
    const char *first = fault_first();
    if (first[0] == '\0') {
        assert_int_equal(err, SEO_OK);
        return false;
    }
    if (err == SEO_OK && !may_be_ignored(first)) fail_msg("saved in spite of: %s", first);
    if (err != SEO_OK && err != SEO_ERR_IO) fail_msg("%s: %s", first, seo_err_detail());
    if (err != SEO_OK && !strstr(seo_err_detail(), strerror(ways[way].error))) {
        fail_msg("%s was reported as: %s", first, seo_err_detail());
    }
    int64_t step = fixture_assert_newest(f);
    assert_true(err == SEO_OK ? step == 2 : step == 1 || step == 2);
    /* The disk is well again: the next save works and clears up. */
    fixture_fill(f, 2);
    OK(seo_ckpt_save(f->run, attempt, NULL, &f->snapshot));
    assert_int_equal(fixture_assert_newest(f), 2);
    fixture_path(f, 2, "", path);
    OK(seo_ckpt_remove(path));
    return true;
}

static void test_every_call_of_a_save(void **state) {
    fixture *f = *state;
    seo_run_dir run;
    OK(seo_run_dir_open(f->run, &run));
    fixture_fill(f, 1);
    OK(seo_ckpt_save(f->run, run.attempt, NULL, &f->snapshot));
    for (size_t way = 0; way < WAYS; way++) {
        int64_t k = 1;
        while (save_with_fault(f, run.attempt, way, k)) k++;
        assert_true(k > 40);
        char path[SEO_PATH_MAX];
        fixture_path(f, 2, "", path);
        OK(seo_ckpt_remove(path));
        assert_steps(f, 1, 1);
    }
    seo_run_dir_close(&run);
}

/* Where in the log the call on RUN/checkpoints/<name> stands; asserts that it does. */
static size_t place(const fixture *f, const char *call, const char *name, bool last) {
    char line[SEO_PATH_MAX + 64];
    snprintf(line, sizeof line, "%s %s/" SEO_CKPT_FOLDER "%s\n", call, f->run, name);
    const char *log = fault_log(), *found = strstr(log, line);
    if (!found) fail_msg("never called: %s", line);
    for (const char *next = found; last && next; next = strstr(next + 1, line)) found = next;
    return (size_t)(found - log);
}

/* What a power cut would test, by the order of the calls: a file is synced after its last write,
 * all are before the manifest is begun, the folder after the manifest, the rename after that, then
 * the folder above; and only then is the older checkpoint taken apart, its manifest first. */
static void test_order_of_the_commit(void **state) {
    fixture *f = *state;
    seo_ckpt_writer *writer;
    const seo_ckpt_writer_args args = {.run_dir = f->run, .keep_last = 1};
    static const char *const files[] = {"/tmp.2.0/part-0000-of-0001.h5", "/tmp.2.0/config.yaml",
                                        "/tmp.2.0/tokenizer.json", "/tmp.2.0/manifest.json"};
    /* The first save makes RUN/checkpoints: RUN is synced before anything counts as saved. */
    char line[SEO_PATH_MAX + 64];
    fault_arm(FAULT_ONCE, f->run, INT64_MAX, EIO);
    fixture_save(f, 1);
    fault_disarm();
    snprintf(line, sizeof line, "fsync %s\n", f->run);
    assert_non_null(strstr(fault_log(), line));
    assert_true(strstr(fault_log(), line) < fault_log() + place(f, "rename", "/tmp.1.0", false));
    fixture_fill(f, 2);
    OK(seo_ckpt_writer_open(&args, &writer));
    fault_arm(FAULT_ONCE, f->run, INT64_MAX, EIO);
    OK(seo_ckpt_writer_submit(writer, &f->snapshot));
    OK(seo_ckpt_writer_wait(writer));
    fault_disarm();
    seo_ckpt_writer_close(writer);
    size_t manifest = place(f, "open-to-write", files[3], false);
    for (int i = 0; i < 4; i++) {
        assert_true(place(f, "write", files[i], true) < place(f, "fsync", files[i], true));
        if (i < 3) assert_true(place(f, "fsync", files[i], true) < manifest);
    }
    size_t renamed = place(f, "rename", "/tmp.2.0", false);
    size_t folder = place(f, "fsync", "/tmp.2.0", true), above = place(f, "fsync", "", true);
    size_t unlinked = place(f, "unlink", "/step-00000001/manifest.json", false);
    assert_true(place(f, "fsync", files[3], true) < folder);
    assert_true(folder < renamed && renamed < above && above < unlinked);
    assert_true(unlinked < place(f, "fsync", "/step-00000001", false));
    assert_true(place(f, "fsync", "/step-00000001", false) <
                place(f, "unlink", "/step-00000001/part-0000-of-0001.h5", false));
}

static void test_every_write_falls_short(void **state) {
    fixture *f = *state;
    fixture_fill(f, 1);
    fault_arm(FAULT_ON, f->run, 1, 0);
    seo_err err = seo_ckpt_save(f->run, 0, NULL, &f->snapshot);
    fault_disarm();
    assert_int_equal(err, SEO_OK);
    assert_true(strstr(fault_first(), "/") != NULL);
    assert_int_equal(fixture_assert_newest(f), 1);
}

/* A disk that stores one wrong bit and reports success: reading back before the commit finds it,
 * and the checkpoint never comes to be. */
static void test_every_write_lies(void **state) {
    fixture *f = *state;
    fixture_save(f, 1);
    int64_t lies = 0, found = 0;
    for (int64_t k = 1;; k++) {
        char path[SEO_PATH_MAX];
        fixture_fill(f, 2);
        fault_arm(FAULT_ONCE, f->run, k, FAULT_LIE);
        seo_err err = seo_ckpt_save(f->run, 0, NULL, &f->snapshot);
        fault_disarm();
        if (fault_first()[0] == '\0') break;
        bool lied = strncmp(fault_first(), "write ", 6) == 0;
        if (!lied && err != SEO_OK) fail_msg("%s: %s", fault_first(), seo_err_detail());
        assert_int_equal(fixture_assert_newest(f), err == SEO_OK ? 2 : 1);
        lies += lied;
        found += err != SEO_OK;
        fixture_path(f, 2, "", path);
        OK(seo_dir_remove(path));
    }
    assert_true(lies >= 8 && found >= lies - 2);
}

/* The background writer: failures in saving and in removing old checkpoints. */
static void test_every_call_of_the_writer(void **state) {
    fixture *f = *state;
    seo_ckpt_writer *writer;
    const seo_ckpt_writer_args args = {.run_dir = f->run, .keep_last = 1};
    OK(seo_ckpt_writer_open(&args, &writer));
    fixture_save(f, 1);
    int64_t step = 2;
    for (size_t way = 0; way < WAYS; way++) {
        for (int64_t k = 1;; k++, step++) {
            fixture_fill(f, step);
            fault_arm(ways[way].mode, f->run, k, ways[way].error);
            OK(seo_ckpt_writer_submit(writer, &f->snapshot));
            seo_err err = seo_ckpt_writer_wait(writer);
            fault_disarm();
            assert_int_equal(seo_ckpt_writer_failures(writer) > 0, err != SEO_OK);
            int64_t found = fixture_assert_newest(f);
            assert_true(found == step || (err != SEO_OK && found < step));
            if (fault_first()[0] == '\0') break;
        }
        fixture_fill(f, ++step);
        OK(seo_ckpt_writer_submit(writer, &f->snapshot));
        OK(seo_ckpt_writer_wait(writer));
        assert_steps(f, step++, 1);
    }
    seo_ckpt_writer_close(writer);
}

/* A disk that fails while we look for checkpoints must never look like a disk without any, nor lead
 * back to an older one. */
static void test_every_call_of_opening(void **state) {
    fixture *f = *state;
    static float saved[FIXTURE_VALUES];
    fixture_save(f, 1);
    fixture_save(f, 2);
    for (size_t way = 0; way < WAYS; way++) {
        for (int64_t k = 1;; k++) {
            seo_ckpt *ckpt;
            fault_arm(ways[way].mode, f->run, k, ways[way].error);
            seo_err err = seo_ckpt_open(f->run, NULL, &ckpt);
            if (err == SEO_OK) {
                assert_int_equal(seo_ckpt_state_of(ckpt)->step, 2);
                seo_ckpt_tensor t = f->tensors[0];
                t.data = saved;
                err = seo_ckpt_read(ckpt, &t, 1);
                if (err == SEO_OK) {
                    assert_memory_equal(saved, f->values, 17 * 12 * sizeof *saved);
                }
            }
            seo_ckpt_close(ckpt);
            fault_disarm();
            if (fault_first()[0] == '\0') break;
            if (err != SEO_ERR_IO && !may_be_ignored(fault_first())) {
                fail_msg("%s gave: %s", fault_first(), seo_err_text(err));
            }
            if (err != SEO_OK && err != SEO_ERR_IO) fail_msg("%s", seo_err_detail());
        }
    }
}

/* Starting: either the folder is ours with the attempt counted, or it is an error. */
static void test_every_call_of_a_start(void **state) {
    fixture *f = *state;
    seo_run_dir run;
    int64_t last = 0;
    for (size_t way = 0; way < WAYS; way++) {
        for (int64_t k = 1;; k++) {
            fault_arm(ways[way].mode, f->run, k, ways[way].error);
            seo_err err = seo_run_dir_open(f->run, &run);
            fault_disarm();
            bool fired = fault_first()[0] != '\0';
            if (err == SEO_OK) {
                assert_true(run.attempt > last);
                last = run.attempt;
                OK(seo_run_dir_fence(f->run, run.attempt));
                seo_run_dir_close(&run);
                assert_true(!fired || may_be_ignored(fault_first()));
            } else {
                assert_int_equal(err, SEO_ERR_IO);
            }
            OK(seo_run_dir_open(f->run, &run));
            assert_true(run.attempt > last);
            last = run.attempt;
            seo_run_dir_close(&run);
            if (!fired) break;
        }
    }
}

int main(void) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_every_call_of_a_save),    CASE(test_every_write_lies),
        CASE(test_every_write_falls_short), CASE(test_every_call_of_the_writer),
        CASE(test_every_call_of_opening),   CASE(test_every_call_of_a_start),
        CASE(test_order_of_the_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
