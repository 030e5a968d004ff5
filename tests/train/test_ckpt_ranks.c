/* Checkpoints of several ranks: processes on this host that write one part each, for any number of
 * ranks to read; and whatever fails on one of them fails the save on all, and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "ranks_fixture.h"
#include "tests/support/ckpt_fixture.h"
#include "tests/support/fault.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/manifest.h"
#include "train/run_dir.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != SEO_OK) fail_msg("%s: %s", #call, seo_err_detail());                         \
    } while (0)

/* In a rank, where cmocka's jumps would lead into the parent's test: the message and the end. */
#define HOLD(condition, ...)                                                                       \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s: ", __LINE__, #condition);                                \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* One rank of a test. */
typedef struct rank {
    fixture *f;
    seo_world *world;
    int32_t number, size;
    ranks_shared *shared;
    seo_ckpt_range ranges[FIXTURE_TENSORS];
} rank;

typedef struct job {
    fixture *f;
    void (*act)(rank *r, const struct job *job);
    int64_t step;
    int32_t faulty;
} job;

/* Chunk `number` of `size` of every tensor, as far as there is one: small tensors have none on the
 * last ranks. */
static int64_t cut(const seo_ckpt_tensor *tensors, int32_t number, int32_t size,
                   seo_ckpt_range *out) {
    int64_t n = 0, count = 0;
    for (int64_t i = 0; i < FIXTURE_TENSORS; i++) {
        if (!seo_ckpt_shape_count(tensors[i].rank, tensors[i].dims, &count)) abort();
        const int64_t chunk = seo_div_up(count, size), first = number * chunk;
        if (first >= count) continue;
        out[n++] = (seo_ckpt_range){.tensor = i,
                                    .offset = first,
                                    .count = seo_min_i64(chunk, count - first),
                                    .data = tensors[i].data + first};
    }
    return n;
}

static void fill(rank *r, int64_t step) {
    fixture_fill(r->f, step);
    r->f->snapshot.ranges = r->ranges;
    r->f->snapshot.range_count = cut(r->f->tensors, r->number, r->size, r->ranges);
}

static seo_err save(rank *r, int64_t step) {
    fill(r, step);
    return seo_ckpt_save(r->f->run, 0, r->world, &r->f->snapshot);
}

static void barrier(rank *r) {
    const seo_err err = seo_world_agree(r->world, SEO_CHANNEL_SAVE, "the test", SEO_OK);
    HOLD(err == SEO_OK, "%s", seo_err_detail());
}

/* All must have got the same. */
static void same_everywhere(rank *r, seo_err err) {
    r->shared->flag[r->number] = (int64_t)err;
    barrier(r);
    for (int32_t k = 0; k < r->size; k++) {
        HOLD(r->shared->flag[k] == (int64_t)err, "rank %d has %d, rank %d %d: %s", (int)r->number,
             (int)err, (int)k, (int)r->shared->flag[k], seo_err_detail());
    }
    barrier(r);
}

/* This rank's chunks of the checkpoint are, bit for bit, what fixture_fill gave its step. */
static void check_values(rank *r, seo_ckpt *ckpt) {
    static float read[FIXTURE_VALUES];
    seo_ckpt_range wants[FIXTURE_TENSORS];
    fill(r, seo_ckpt_state_of(ckpt)->step);
    float *to = read;
    const int64_t count = r->f->snapshot.range_count;
    memset(read, 0x7f, sizeof read);
    for (int64_t i = 0; i < count; i++) {
        wants[i] = r->ranges[i];
        HOLD(seo_ckpt_find(ckpt, &r->f->tensors[wants[i].tensor], &wants[i].tensor) == SEO_OK, "%s",
             seo_err_detail());
        wants[i].data = to;
        to += wants[i].count;
    }
    HOLD(seo_ckpt_read_ranges(ckpt, wants, count) == SEO_OK, "%s", seo_err_detail());
    for (int64_t i = 0; i < count; i++) {
        HOLD(memcmp(wants[i].data, r->ranges[i].data, (size_t)wants[i].count * sizeof *to) == 0,
             "%s", r->f->tensors[r->ranges[i].tensor].name);
    }
}

/* All open the run: the same checkpoint everywhere, and its values. */
static int64_t open_newest(rank *r) {
    seo_ckpt *ckpt = NULL;
    const seo_err err = seo_ckpt_open(r->f->run, r->world, &ckpt);
    same_everywhere(r, err);
    if (err != SEO_OK) return -1 - (int64_t)err;
    const int64_t step = seo_ckpt_state_of(ckpt)->step;
    check_values(r, ckpt);
    seo_ckpt_close(ckpt);
    same_everywhere(r, (seo_err)step);
    return step;
}

static int run_rank(const ranks_plan *plan, int32_t number, ranks_shared *shared) {
    const job *j = plan->context;
    rank *r = calloc(1, sizeof *r);
    if (!r || ranks_open(plan, number, shared, &r->world) != SEO_OK) {
        fprintf(stderr, "%s\n", seo_err_detail());
        return 1;
    }
    r->f = j->f;
    r->number = number;
    r->size = plan->size;
    r->shared = shared;
    j->act(r, j);
    seo_world_close(r->world);
    free(r);
    return 0;
}

/* Runs it with so many ranks; all must end well. */
static void with_ranks(fixture *f, int32_t size, const job *what) {
    job j = *what;
    ranks r;
    j.f = f;
    const ranks_plan plan = {
        .size = size, .join_s = 20.0, .folder = f->run, .act = run_rank, .context = &j};
    ranks_start(&plan, &r);
    ranks_wait(&plan, &r, 240.0);
    for (int32_t k = 0; k < size; k++) {
        if (r.status[k] != 0)
            fail_msg("rank %d of %d ended with %d:\n%s", k, size, r.status[k], r.output);
    }
    ranks_end(&r);
}

static void act_save(rank *r, const job *j) {
    const seo_err err = save(r, j->step);
    HOLD(err == SEO_OK, "%s", seo_err_detail());
}

static void act_open(rank *r, const job *j) {
    const int64_t step = open_newest(r);
    HOLD(step == j->step, "%lld: %s", (long long)step, seo_err_detail());
}

static void test_any_number_reads_any_number(void **state) {
    fixture *f = *state;
    for (int32_t size = 1; size <= 5; size++) {
        with_ranks(f, size, &(job){.act = act_save, .step = size});
        assert_int_equal(fixture_assert_newest(f), size);
        for (int32_t readers = 1; readers <= 5; readers++) {
            with_ranks(f, readers, &(job){.act = act_open, .step = size});
        }
    }
    seo_buf report = {0};
    OK(seo_ckpt_verify(f->run, &report));
    assert_non_null(strstr(report.data, "in 5 parts"));
    seo_buf_free(&report);
}

/* The same state in other parts counts as saved, another state does not. */
static void act_save_again(rank *r, const job *j) {
    seo_err err = save(r, 1);
    same_everywhere(r, err);
    HOLD(err == SEO_OK, "%s", seo_err_detail());
    fill(r, 1);
    if (r->number == j->faulty) r->f->values[0] += 1.0f;
    err = seo_ckpt_save(r->f->run, 0, r->world, &r->f->snapshot);
    same_everywhere(r, err);
    HOLD(err == SEO_ERR_USAGE && strstr(seo_err_detail(), "other values"), "%s", seo_err_detail());
}

static void test_same_step(void **state) {
    fixture *f = *state;
    with_ranks(f, 3, &(job){.act = act_save, .step = 1});
    with_ranks(f, 3, &(job){.act = act_save_again, .faulty = 0});
    with_ranks(f, 2, &(job){.act = act_save_again, .faulty = 0});
    with_ranks(f, 1, &(job){.act = act_save_again, .faulty = 0});
    assert_int_equal(fixture_assert_newest(f), 1);
}

/* Saves step 2 over step 1 with the fault at call k of one rank; false when it has no such call. */
static bool save_with_fault(rank *r, const job *j, fault_mode mode, int error, int64_t k) {
    const bool faulty = r->number == j->faulty;
    char path[SEO_PATH_MAX];
    if (faulty) fault_arm(mode, r->f->run, k, error);
    seo_err err = save(r, 2);
    if (faulty) fault_disarm();
    same_everywhere(r, err);
    HOLD(err == SEO_OK || err == SEO_ERR_IO, "%s", seo_err_detail());
    if (err != SEO_OK) {
        char who[16];
        snprintf(who, sizeof who, "rank %d", (int)j->faulty);
        HOLD(strstr(seo_err_detail(), who) && strstr(seo_err_detail(), strerror(error)), "%s",
             seo_err_detail());
    }
    r->shared->flag[r->number] = faulty && fault_first()[0] != '\0';
    barrier(r);
    const bool fired = r->shared->flag[j->faulty] != 0;
    HOLD(fired || err == SEO_OK, "%s", seo_err_detail());
    barrier(r);
    const int64_t found = open_newest(r);
    HOLD(err == SEO_OK ? found == 2 : found == 1 || found == 2, "found %lld", (long long)found);
    err = save(r, 2);
    HOLD(err == SEO_OK, "%s", seo_err_detail());
    barrier(r);
    fixture_path(r->f, 2, "", path);
    if (r->number == 0) HOLD(seo_ckpt_remove(path) == SEO_OK, "%s", seo_err_detail());
    barrier(r);
    return fired;
}

static void act_faults(rank *r, const job *j) {
    static const int errors[] = {ENOSPC, EIO};
    const seo_err err = save(r, 1);
    HOLD(err == SEO_OK, "%s", seo_err_detail());
    for (int64_t way = 0; way < 4; way++) {
        int64_t k = 1;
        const fault_mode mode = way < 2 ? FAULT_ONCE : FAULT_ON;
        while (save_with_fault(r, j, mode, errors[way % 2], k)) k++;
        HOLD(k > 10, "only %lld calls", (long long)k);
    }
}

static void test_every_call_of_one_rank(void **state) {
    for (int32_t faulty = 0; faulty < 3; faulty++) {
        fixture *f = *state;
        with_ranks(f, 3, &(job){.act = act_faults, .faulty = faulty});
        assert_int_equal(fixture_assert_newest(f), 1);
    }
}

/* One wrong bit on one rank's disk that the disk denies: found by reading back. */
static void act_lies(rank *r, const job *j) {
    char path[SEO_PATH_MAX];
    int64_t lies = 0;
    seo_err err = save(r, 1);
    for (int64_t k = 1;; k++) {
        if (r->number == j->faulty) fault_arm(FAULT_ONCE, r->f->run, k, FAULT_LIE);
        err = save(r, 2);
        if (r->number == j->faulty) fault_disarm();
        same_everywhere(r, err);
        const bool fired = r->number == j->faulty && fault_first()[0] != '\0';
        r->shared->flag[r->number] = fired;
        barrier(r);
        const bool more = r->shared->flag[j->faulty] != 0;
        barrier(r);
        const int64_t found = open_newest(r);
        HOLD(found == (err == SEO_OK ? 2 : 1), "%lld", (long long)found);
        lies += err != SEO_OK;
        fixture_path(r->f, 2, "", path);
        if (r->number == 0 && err == SEO_OK) HOLD(seo_ckpt_remove(path) == SEO_OK, "remove");
        barrier(r);
        if (!more) break;
    }
    HOLD(lies >= 4, "%lld lies were found", (long long)lies);
}

static void test_one_rank_lies(void **state) {
    fixture *f = *state;
    with_ranks(f, 2, &(job){.act = act_lies, .faulty = 1});
    assert_int_equal(fixture_assert_newest(f), 1);
}

/* What a power cut asks of a rank that is not the first: its part is synced after its last write,
 * then the folder that got a name. */
static void act_order(rank *r, const job *j) {
    char line[SEO_PATH_MAX + 160], part[SEO_CKPT_FILE_NAME_MAX];
    fault_arm(FAULT_ONCE, r->f->run, INT64_MAX, EIO);
    const seo_err err = save(r, j->step);
    fault_disarm();
    HOLD(err == SEO_OK, "%s", seo_err_detail());
    const char *log = fault_log(), *at = log, *written = NULL;
    seo_ckpt_part_name(part, r->number, r->size);
    snprintf(line, sizeof line, "write %s/" SEO_CKPT_FOLDER "/tmp.1.0/%s\n", r->f->run, part);
    while ((at = strstr(at, line)) != NULL) written = at++;
    snprintf(line, sizeof line, "fsync %s/" SEO_CKPT_FOLDER "/tmp.1.0/%s\n", r->f->run, part);
    const char *synced = strstr(log, line);
    snprintf(line, sizeof line, "fsync %s/" SEO_CKPT_FOLDER "/tmp.1.0\n", r->f->run);
    const char *folder = strstr(log, line);
    HOLD(written && synced && folder && written < synced && synced < folder, "%s", log);
    snprintf(line, sizeof line, "open-to-write %s/" SEO_CKPT_FOLDER "/tmp.1.0/manifest.json\n",
             r->f->run);
    const char *manifest = strstr(log, line);
    HOLD(r->number == 0 ? manifest && folder < manifest : !manifest, "%s", log);
}

static void test_order_of_the_commit(void **state) {
    fixture *f = *state;
    with_ranks(f, 3, &(job){.act = act_order, .step = 1});
    assert_int_equal(fixture_assert_newest(f), 1);
}

/* Rank 0 changes a file, all look. */
static void change(const char *path, int64_t at, bool cut_there) {
    unsigned char byte;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    HOLD(fd >= 0, "%s", path);
    if (cut_there) {
        HOLD(ftruncate(fd, at) == 0, "%s", path);
    } else {
        HOLD(pread(fd, &byte, 1, at) == 1, "%s", path);
        byte ^= (unsigned char)(1u << at % 8);
        HOLD(pwrite(fd, &byte, 1, at) == 1, "%s", path);
    }
    close(fd);
}

static void damage_file(rank *r, const char *name, bool cut_there) {
    char path[SEO_PATH_MAX], *good = NULL;
    int64_t bytes = 0;
    seo_ckpt *ckpt;
    fixture_path(r->f, 2, name, path);
    HOLD(seo_file_read(path, 1 << 24, &good, &bytes) == SEO_OK, "%s", path);
    barrier(r);
    for (int64_t at = 0; at < bytes; at += cut_there ? 211 : 61) {
        if (r->number == 0) change(path, at, cut_there);
        barrier(r);
        char folder[SEO_PATH_MAX];
        fixture_path(r->f, 2, "", folder);
        const seo_err err = seo_ckpt_open(folder, r->world, &ckpt);
        HOLD(err == SEO_ERR_FORMAT && strstr(seo_err_detail(), name), "byte %lld of %s: %s",
             (long long)at, name, err == SEO_OK ? "taken" : seo_err_detail());
        const bool newest = at % 8 == 0;
        if (newest) HOLD(open_newest(r) == 1, "not the one before");
        barrier(r);
        if (r->number == 0) HOLD(seo_file_write_atomic(path, good, bytes) == SEO_OK, "%s", path);
        barrier(r);
    }
    HOLD(open_newest(r) == 2, "the good one is not taken");
    free(good);
}

static void act_damage(rank *r, const job *j) {
    (void)j;
    char name[SEO_CKPT_FILE_NAME_MAX];
    HOLD(save(r, 1) == SEO_OK && save(r, 2) == SEO_OK, "%s", seo_err_detail());
    barrier(r);
    for (int32_t part = 0; part < r->size; part++) {
        seo_ckpt_part_name(name, part, r->size);
        damage_file(r, name, false);
        damage_file(r, name, true);
    }
    damage_file(r, SEO_CKPT_MANIFEST, false);
}

static void test_damaged_parts(void **state) {
    fixture *f = *state;
    with_ranks(f, 3, &(job){.act = act_damage});
}

/* Parts that are missing, of another save, or in each other's place. */
static void act_strange_parts(rank *r, const job *j) {
    (void)j;
    char one[SEO_PATH_MAX], two[SEO_PATH_MAX], other[SEO_PATH_MAX], aside[SEO_PATH_MAX];
    HOLD(save(r, 1) == SEO_OK && save(r, 2) == SEO_OK, "%s", seo_err_detail());
    fixture_path(r->f, 2, "part-0001-of-0003.h5", two);
    fixture_path(r->f, 1, "part-0001-of-0003.h5", one);
    fixture_path(r->f, 2, "part-0002-of-0003.h5", other);
    HOLD(seo_path_join(aside, r->f->run, "aside") == SEO_OK, "path");
    const char *const places[] = {NULL, one, other};
    for (int i = 0; i < 3; i++) {
        barrier(r);
        if (r->number == 0) {
            HOLD(seo_rename(two, aside) == SEO_OK, "rename");
            if (places[i]) HOLD(seo_rename(places[i], two) == SEO_OK, "rename");
            if (i == 2) HOLD(seo_rename(aside, other) == SEO_OK, "rename");
        }
        barrier(r);
        const int64_t found = open_newest(r);
        /* With its part taken away step 1 is none, either. */
        HOLD(found == (i == 1 ? -1 - (int64_t)SEO_ERR_FORMAT : 1), "%lld", (long long)found);
        barrier(r);
        if (r->number == 0) {
            if (i == 2) HOLD(seo_rename(other, aside) == SEO_OK, "rename");
            if (places[i]) HOLD(seo_rename(two, places[i]) == SEO_OK, "rename");
            HOLD(seo_rename(aside, two) == SEO_OK, "rename");
        }
        barrier(r);
        HOLD(open_newest(r) == 2, "not good again");
    }
}

static void test_strange_parts(void **state) {
    fixture *f = *state;
    with_ranks(f, 3, &(job){.act = act_strange_parts});
}

/* A rank whose folder is another one, though its path is the same to look at. */
static void act_unshared(rank *r, const job *j) {
    char own[SEO_PATH_MAX];
    seo_ckpt *ckpt;
    HOLD(save(r, 1) == SEO_OK, "%s", seo_err_detail());
    if (r->number == j->faulty) {
        HOLD(seo_path_join(own, r->f->run, "of-this-host-alone") == SEO_OK, "path");
        HOLD(seo_dir_make(own) == SEO_OK, "%s", seo_err_detail());
        memcpy(r->f->run, own, sizeof own);
    }
    seo_err err = save(r, 2);
    same_everywhere(r, err);
    HOLD(err == SEO_ERR_IO && strstr(seo_err_detail(), "all hosts share") &&
             strstr(seo_err_detail(), "rank 1"),
         "%s", seo_err_detail());
    err = seo_ckpt_open(r->f->run, r->world, &ckpt);
    same_everywhere(r, err);
    HOLD(err == SEO_ERR_IO && strstr(seo_err_detail(), "all hosts share"), "%s", seo_err_detail());
}

static void test_folder_of_one_host(void **state) {
    fixture *f = *state;
    with_ranks(f, 2, &(job){.act = act_unshared, .faulty = 1});
    assert_int_equal(fixture_assert_newest(f), 1);
}

/* An attempt that has taken the folder over: nobody commits. */
static void act_fenced(rank *r, const job *j) {
    (void)j;
    char file[SEO_PATH_MAX];
    seo_run_dir dir = {.lock_fd = -1};
    if (r->number == 0) HOLD(seo_run_dir_open(r->f->run, &dir) == SEO_OK, "%s", seo_err_detail());
    barrier(r);
    fill(r, 1);
    seo_err err = seo_ckpt_save(r->f->run, dir.attempt, r->world, &r->f->snapshot);
    HOLD(err == SEO_OK, "%s", seo_err_detail());
    if (r->number == 0) {
        HOLD(seo_path_join(file, r->f->run, "attempt") == SEO_OK, "path");
        HOLD(seo_file_write_atomic(file, "attempt 9 host x process 1\n", 27) == SEO_OK, "write");
    }
    barrier(r);
    fill(r, 2);
    err = seo_ckpt_save(r->f->run, dir.attempt, r->world, &r->f->snapshot);
    same_everywhere(r, err);
    HOLD(err == SEO_ERR_LOCKED, "%s", seo_err_detail());
    if (r->number == 0) seo_run_dir_close(&dir);
}

static void test_fence(void **state) {
    fixture *f = *state;
    with_ranks(f, 3, &(job){.act = act_fenced});
    assert_int_equal(fixture_assert_newest(f), 1);
}

/* The background writers: one rank has no copy to give, once; old checkpoints go. */
static seo_err fetch(void *context, int64_t index, float *out) {
    const rank *r = context;
    const seo_ckpt_range *range = &r->ranges[index];
    if (r->f->snapshot.state.step == 2 && r->number == 1) {
        return SEO_FAIL(SEO_ERR_DEVICE, "the device gave nothing");
    }
    memcpy(out, range->data, (size_t)range->count * sizeof *out);
    return SEO_OK;
}

static void act_writers(rank *r, const job *j) {
    (void)j;
    seo_ckpt_writer *writer;
    const seo_ckpt_writer_args args = {.run_dir = r->f->run, .world = r->world, .keep_last = 1};
    HOLD(seo_ckpt_writer_open(&args, &writer) == SEO_OK, "%s", seo_err_detail());
    for (int64_t step = 1; step <= 4; step++) {
        fill(r, step);
        r->f->snapshot.fetch = fetch;
        r->f->snapshot.fetch_context = r;
        HOLD(seo_ckpt_writer_submit(writer, &r->f->snapshot) == SEO_OK, "%s", seo_err_detail());
        memset(r->f->values, 0, sizeof r->f->values); /* the copy is the writer's own */
        if (step > 2) continue;
        const seo_err err = seo_ckpt_writer_wait(writer);
        HOLD(err == (step == 2 ? SEO_ERR_DEVICE : SEO_OK), "%s", seo_err_detail());
        HOLD(step == 1 || strstr(seo_err_detail(), "rank 1"), "%s", seo_err_detail());
        HOLD(seo_ckpt_writer_failures(writer) == (step == 2), "failures");
    }
    HOLD(seo_ckpt_writer_wait(writer) == SEO_OK, "%s", seo_err_detail());
    seo_ckpt_writer_close(writer);
    barrier(r);
    HOLD(open_newest(r) == 4, "not the last");
}

static void test_writers(void **state) {
    fixture *f = *state;
    with_ranks(f, 3, &(job){.act = act_writers});
    int64_t *steps, count;
    char folder[SEO_PATH_MAX];
    OK(seo_path_join(folder, f->run, SEO_CKPT_FOLDER));
    OK(seo_ckpt_list_steps(folder, &steps, &count));
    assert_int_equal(count, 1);
    free(steps);
}

/* A rank that dies in the middle of it: the others do not wait for ever. */
static void act_death(rank *r, const job *j) {
    HOLD(save(r, 1) == SEO_OK, "%s", seo_err_detail());
    if (r->number == j->faulty) _exit(0);
    const seo_err err = save(r, 2);
    HOLD(err == SEO_ERR_LOST, "%s", seo_err_detail());
}

static void test_death_of_a_rank(void **state) {
    fixture *f = *state;
    with_ranks(f, 3, &(job){.act = act_death, .faulty = 2});
    assert_int_equal(fixture_assert_newest(f), 1);
    fixture_save(f, 2);
    assert_int_equal(fixture_assert_newest(f), 2);
}

/* Ranges that leave a hole, or lie twice: refused before anything is written. */
static void act_holes(rank *r, const job *j) {
    (void)j;
    fill(r, 1);
    if (r->number == 1) r->ranges[0].count--;
    seo_err err = seo_ckpt_save(r->f->run, 0, r->world, &r->f->snapshot);
    same_everywhere(r, err);
    HOLD(err == SEO_ERR_ARG && strstr(seo_err_detail(), "cover"), "%s", seo_err_detail());
    fill(r, 1);
    if (r->number == 1) r->f->snapshot.state.step = 2;
    err = seo_ckpt_save(r->f->run, 0, r->world, &r->f->snapshot);
    same_everywhere(r, err);
    HOLD(err == SEO_ERR_USAGE && strstr(seo_err_detail(), "step"), "%s", seo_err_detail());
    HOLD(open_newest(r) < 0, "something was saved");
}

static void test_ranges_must_cover(void **state) {
    fixture *f = *state;
    with_ranks(f, 3, &(job){.act = act_holes});
}

int main(void) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_any_number_reads_any_number),
        CASE(test_same_step),
        CASE(test_every_call_of_one_rank),
        CASE(test_one_rank_lies),
        CASE(test_order_of_the_commit),
        CASE(test_damaged_parts),
        CASE(test_strange_parts),
        CASE(test_folder_of_one_host),
        CASE(test_fence),
        CASE(test_writers),
        CASE(test_death_of_a_rank),
        CASE(test_ranges_must_cover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
