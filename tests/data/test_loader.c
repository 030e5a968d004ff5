/* The loader gives f(step), whatever was asked before, by how many ranks, and after how many
 * restarts. The cases are other programs' reported resume bugs. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/groups.h"
#include "data/loader.h"
#include "data/shard.h"
#include "tests/support/dataset_fixture.h"

enum { SEQ_LEN = 64, BATCH = 8, WIDTH = SEQ_LEN + 1 };

typedef struct world {
    fixture f[2];
    seo_dataset *ds[2];
    int32_t *tokens[2];
    int64_t windows[2];
} world;

static void make_world(world *w) {
    for (int i = 0; i < 2; i++) {
        int64_t count = 0;
        w->f[i] = fixture_usual();
        w->f[i].seed = 10 + (uint64_t)i;
        w->f[i].documents = i == 0 ? 60 : 25;
        w->f[i].shard_tokens = 5000;
        fixture_make(&w->f[i]);
        assert_int_equal(seo_dataset_open(w->f[i].folder, "train", &w->ds[i]), SEO_OK);
        w->tokens[i] = fixture_tokens(&w->f[i], SEO_SPLIT_TRAIN, &count);
        w->windows[i] = seo_dataset_windows(w->ds[i], SEQ_LEN);
        assert_int_equal(w->windows[i], (count - 1) / SEQ_LEN);
    }
}

static void free_world(world *w) {
    for (int i = 0; i < 2; i++) {
        seo_dataset_close(w->ds[i]);
        free(w->tokens[i]);
        fixture_remove(&w->f[i]);
    }
}

static seo_loader_args usual_args(world *w, int64_t datasets) {
    return (seo_loader_args){.datasets = w->ds,
                             .dataset_count = datasets,
                             .seq_len = SEQ_LEN,
                             .batch_sequences = BATCH,
                             .local_count = BATCH,
                             .seed = 5,
                             .shuffle = true,
                             .prefetch = 3};
}

static seo_loader *open_loader(const seo_loader_args *args) {
    seo_loader *loader = NULL;
    const seo_err err = seo_loader_open(args, &loader);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    assert_int_equal(err, SEO_OK);
    return loader;
}

static seo_order *open_order(const world *w, const seo_loader_args *args) {
    seo_order *order = NULL;
    assert_int_equal(seo_order_open(&(seo_order_args){.source_count = args->dataset_count,
                                                      .windows = w->windows,
                                                      .weights = args->weights,
                                                      .seed = args->seed,
                                                      .shuffle = args->shuffle},
                                    &order),
                     SEO_OK);
    return order;
}

/* The batch of `step` against the pure function and the text itself. */
static void check_step(const world *w, const seo_order *order, const seo_loader_args *args,
                       seo_loader *loader, int64_t step) {
    seo_batch batch;
    const seo_err err = seo_loader_get(loader, step, &batch);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    assert_int_equal(err, SEO_OK);
    assert_int_equal(batch.step, step);
    assert_int_equal(batch.sequences, args->local_count);
    assert_int_equal(batch.seq_len, SEQ_LEN);
    assert_null(batch.groups); /* none asked for */
    assert_true(batch.wait_s >= 0);
    for (int64_t r = 0; r < batch.sequences; r++) {
        const seo_order_place place = seo_order_at(order, step * BATCH + args->first_sequence + r);
        assert_int_equal(batch.places[r].source, place.source);
        assert_int_equal(batch.places[r].epoch, place.epoch);
        assert_int_equal(batch.places[r].window, place.window);
        /* Of any rank's sequence. */
        const seo_order_place any = seo_loader_place(loader, step, args->first_sequence + r);
        assert_memory_equal(&any, &place, sizeof place);
        const seo_order_place first = seo_loader_place(loader, step, 0),
                              wanted = seo_order_at(order, step * BATCH);
        assert_memory_equal(&first, &wanted, sizeof wanted);
        assert_memory_equal(batch.ids + r * WIDTH, w->tokens[place.source] + place.window * SEQ_LEN,
                            WIDTH * sizeof(int32_t));
    }
}

static void steps_follow_the_function(void **state) {
    world *w = *state;
    const double weights[] = {0.7, 0.3};
    for (int64_t datasets = 1; datasets <= 2; datasets++) {
        for (int64_t prefetch = 1; prefetch <= 64; prefetch *= 8) {
            seo_loader_args args = usual_args(w, datasets);
            args.prefetch = prefetch;
            args.weights = weights;
            seo_order *order = open_order(w, &args);
            seo_loader *loader = open_loader(&args);
            for (int64_t step = 0; step < 200; step++) check_step(w, order, &args, loader, step);
            seo_loader_close(loader);
            seo_order_close(order);
        }
    }
}

static void any_step_can_be_asked_for(void **state) {
    world *w = *state;
    const seo_loader_args args = usual_args(w, 2);
    seo_order *order = open_order(w, &args);
    seo_loader *loader = open_loader(&args);
    const int64_t steps[] = {0, 1, 1, 0, 500, 501, 499, 2, 1000000, 3, 4, 5, 7, 6, 6, 1000001};
    for (int64_t i = 0; i < SEO_COUNT_OF(steps); i++) {
        check_step(w, order, &args, loader, steps[i]);
    }
    seo_batch batch;
    assert_int_equal(seo_loader_get(loader, -1, &batch), SEO_ERR_ARG);
    assert_int_equal(seo_loader_get(loader, INT64_MAX, &batch), SEO_ERR_ARG);
    check_step(w, order, &args, loader, 8);
    seo_loader_close(loader);
    seo_order_close(order);
}

/* Stopped and started anew after each of these steps: twice in a row, inside epoch 2, exactly at
 * the end of an epoch and one step around it. */
static void resumes_anywhere(void **state) {
    world *w = *state;
    const seo_loader_args args = usual_args(w, 1);
    seo_order *order = open_order(w, &args);
    const int64_t epoch = w->windows[0] / BATCH;
    const int64_t stops[] = {3, 3, 4, 9, epoch - 1, epoch, epoch + 1, epoch + 2, 2 * epoch + 5};
    int64_t step = 0;
    for (int64_t i = 0; i < SEO_COUNT_OF(stops); i++) {
        seo_loader *loader = open_loader(&args);
        for (; step < stops[i]; step++) check_step(w, order, &args, loader, step);
        check_step(w, order, &args, loader, step); /* asked for, and lost by the stop */
        seo_loader_close(loader);
    }
    seo_order_close(order);
}

static void every_window_once_an_epoch(void **state) {
    world *w = *state;
    seo_loader_args args = usual_args(w, 1);
    seo_loader *loader = open_loader(&args);
    unsigned char *seen = calloc((size_t)w->windows[0], 1);
    assert_non_null(seen);
    const int64_t steps = 3 * w->windows[0] / BATCH;
    for (int64_t step = 0; step < steps; step++) {
        seo_batch batch;
        assert_int_equal(seo_loader_get(loader, step, &batch), SEO_OK);
        for (int64_t r = 0; r < BATCH; r++) {
            assert_int_equal(seen[batch.places[r].window]++, batch.places[r].epoch);
        }
    }
    free(seen);
    seo_loader_close(loader);
}

/* However many ranks share the work, and also when their number changes, the global batch is the
 * same. */
static void ranks_make_the_same_batches(void **state) {
    world *w = *state;
    const int64_t ranks[] = {1, 2, 4, 8, 2, 1};
    int64_t step = 0;
    for (int64_t c = 0; c < SEO_COUNT_OF(ranks); c++) {
        const int64_t n = ranks[c], last = step + 40;
        for (int64_t rank = 0; rank < n; rank++) {
            seo_loader_args args = usual_args(w, 2);
            args.first_sequence = rank * BATCH / n;
            args.local_count = BATCH / n;
            seo_order *order = open_order(w, &args);
            seo_loader *loader = open_loader(&args);
            for (int64_t t = step; t < last; t++) check_step(w, order, &args, loader, t);
            seo_loader_close(loader);
            seo_order_close(order);
        }
        step = last;
    }
}

/* Groups of each micro-batch are those of its inputs, for a size that divides the batch, one that
 * does not, and one larger than it. */
static void groups_of_micro_batches(void **state) {
    world *w = *state;
    const int64_t sizes[] = {2, 3, 2 * BATCH};
    for (int64_t c = 0; c < SEO_COUNT_OF(sizes); c++) {
        seo_loader_args args = usual_args(w, 2);
        args.micro_batch = sizes[c];
        seo_loader *loader = open_loader(&args);
        for (int64_t step = 0; step < 5; step++) {
            seo_batch batch;
            assert_int_equal(seo_loader_get(loader, step, &batch), SEO_OK);
            assert_non_null(batch.groups);
            for (int64_t first = 0, m = 0; first < BATCH; first += sizes[c], m++) {
                const int64_t rows = seo_min_i64(sizes[c], BATCH - first), n = rows * SEQ_LEN;
                int32_t ids[BATCH * SEQ_LEN];
                int32_t *want = calloc((size_t)seo_groups_size(n), sizeof *want);
                for (int64_t r = 0; r < rows; r++) {
                    memcpy(ids + r * SEQ_LEN, batch.ids + (first + r) * WIDTH,
                           SEQ_LEN * sizeof *ids);
                }
                seo_groups_build(ids, n, want);
                const int32_t *got = batch.groups + m * batch.groups_stride;
                const int64_t pieces = want[0], joins = want[1];
                assert_memory_equal(got, want, (size_t)seo_groups_pieces_at(n) * sizeof *want);
                assert_memory_equal(got + seo_groups_pieces_at(n), want + seo_groups_pieces_at(n),
                                    (size_t)(pieces * SEO_GROUPS_RECORD) * sizeof *want);
                assert_memory_equal(got + seo_groups_joins_at(n), want + seo_groups_joins_at(n),
                                    (size_t)(joins * SEO_GROUPS_RECORD) * sizeof *want);
                free(want);
            }
        }
        seo_loader_close(loader);
    }
}

static void unshuffled_is_text_order(void **state) {
    world *w = *state;
    seo_loader_args args = usual_args(w, 1);
    args.shuffle = false;
    seo_loader *loader = open_loader(&args);
    seo_batch batch;
    assert_int_equal(seo_loader_get(loader, 1, &batch), SEO_OK);
    for (int64_t r = 0; r < BATCH; r++) assert_int_equal(batch.places[r].window, BATCH + r);
    assert_memory_equal(batch.ids, w->tokens[0] + BATCH * SEQ_LEN, WIDTH * sizeof(int32_t));
    seo_loader_close(loader);
}

/* Damage is met by the thread and told by the call that needs the batch, with file and block, each
 * time it is asked for; other steps go on. */
static void damage_is_reported_by_its_step(void **state) {
    (void)state;
    fixture f = fixture_usual();
    seo_dataset *ds = NULL;
    seo_manifest manifest;
    char path[SEO_PATH_MAX];
    f.shard_tokens = 1 << 20;
    fixture_make(&f);
    assert_int_equal(seo_manifest_load(f.folder, &manifest), SEO_OK);
    fixture_path(&f, "train-00000.h5", path);
    fixture_flip(path, manifest.shards[0].token_offset + 2 * SEO_SHARD_BLOCK_TOKENS, 1);
    assert_int_equal(seo_dataset_open(f.folder, "train", &ds), SEO_OK);
    seo_loader *loader = open_loader(&(seo_loader_args){.datasets = &ds,
                                                        .dataset_count = 1,
                                                        .seq_len = SEQ_LEN,
                                                        .batch_sequences = BATCH,
                                                        .local_count = BATCH,
                                                        .prefetch = 4});
    const int64_t bad = SEO_SHARD_BLOCK_TOKENS / (SEQ_LEN * BATCH);
    seo_batch batch;
    for (int64_t step = 0; step < bad - 1; step++) {
        assert_int_equal(seo_loader_get(loader, step, &batch), SEO_OK);
    }
    for (int again = 0; again < 3; again++) {
        assert_int_equal(seo_loader_get(loader, bad, &batch), SEO_ERR_FORMAT);
        assert_non_null(strstr(seo_err_detail(), "train-00000.h5: block 1 is damaged"));
        assert_non_null(strstr(seo_err_detail(), "step 128"));
        assert_int_equal(seo_loader_get(loader, 2 * bad + 5, &batch), SEO_OK);
    }
    seo_loader_close(loader);
    seo_dataset_close(ds);
    seo_manifest_free(&manifest);
    fixture_remove(&f);
}

typedef struct reader {
    const world *w;
    pthread_t thread;
    bool same;
} reader;

static void *read_windows(void *argument) {
    reader *r = argument;
    int32_t out[WIDTH];
    r->same = true;
    for (int64_t window = 0; window < r->w->windows[0]; window++) {
        r->same &= seo_dataset_read(r->w->ds[0], window * SEQ_LEN, WIDTH, out) == SEO_OK &&
                   memcmp(out, r->w->tokens[0] + window * SEQ_LEN, sizeof out) == 0;
    }
    return NULL;
}

/* Threads that touch the blocks of one dataset for the first time, all at once. */
static void threads_share_a_dataset(void **state) {
    world *w = *state;
    reader readers[4];
    seo_dataset_close(w->ds[0]);
    assert_int_equal(seo_dataset_open(w->f[0].folder, "train", &w->ds[0]), SEO_OK);
    for (int i = 0; i < 4; i++) {
        readers[i].w = w;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_windows, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_true(readers[i].same);
    }
}

static void closing_is_possible_at_any_time(void **state) {
    world *w = *state;
    for (int64_t i = 0; i < 200; i++) {
        seo_loader_args args = usual_args(w, 2);
        seo_batch batch;
        args.prefetch = 1 + i % 64;
        seo_loader *loader = open_loader(&args);
        for (int64_t step = 0; step < i % 3; step++) {
            assert_int_equal(seo_loader_get(loader, step, &batch), SEO_OK);
        }
        seo_loader_close(loader);
    }
    seo_loader_close(NULL);
}

static void wrong_arguments_are_refused(void **state) {
    world *w = *state;
    seo_loader *loader = NULL;
    fixture wide = fixture_usual();
    seo_dataset *mixed[2] = {w->ds[0], NULL};
    wide.vocab_size = 70000;
    fixture_make(&wide);
    assert_int_equal(seo_dataset_open(wide.folder, "train", &mixed[1]), SEO_OK);
    seo_loader_args bad[8];
    for (int i = 0; i < 8; i++) bad[i] = usual_args(w, 2);
    bad[0].dataset_count = 0;
    bad[1].seq_len = 1000000;
    bad[2].local_count = BATCH + 1;
    bad[3].first_sequence = -1;
    bad[4].prefetch = 0;
    bad[5].prefetch = 65;
    bad[6].micro_batch = -1;
    bad[7].datasets = mixed;
    for (int i = 0; i < 8; i++) {
        assert_int_not_equal(seo_loader_open(&bad[i], &loader), SEO_OK);
        assert_null(loader);
    }
    assert_non_null(strstr(seo_err_detail(), "vocabular"));
    seo_dataset_close(mixed[1]);
    fixture_remove(&wide);
}

static int setup(void **state) {
    static world w;
    make_world(&w);
    *state = &w;
    return 0;
}

static int teardown(void **state) {
    free_world(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_follow_the_function),
        cmocka_unit_test(any_step_can_be_asked_for),
        cmocka_unit_test(resumes_anywhere),
        cmocka_unit_test(every_window_once_an_epoch),
        cmocka_unit_test(ranks_make_the_same_batches),
        cmocka_unit_test(groups_of_micro_batches),
        cmocka_unit_test(unshuffled_is_text_order),
        cmocka_unit_test(damage_is_reported_by_its_step),
        cmocka_unit_test(threads_share_a_dataset),
        cmocka_unit_test(closing_is_possible_at_any_time),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests_name("data.loader", tests, setup, teardown);
}
