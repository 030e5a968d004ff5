/* The loader over rows of other objectives, and with a batch that grows: what ranks make together
 * is the batch of one rank, and every rank knows the targets of all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/groups.h"
#include "data/loader.h"
#include "data/manifest.h"
#include "rows_fixture.h"

enum { SEQ_LEN = 32, BATCH = 16, PICKS = 5 };

static seo_loader_args usual(rows_world *w, seo_objective objective) {
    return (seo_loader_args){.datasets = &w->ds,
                             .dataset_count = 1,
                             .seq_len = SEQ_LEN,
                             .batch_sequences = BATCH,
                             .local_count = BATCH,
                             .seed = 11,
                             .shuffle = true,
                             .prefetch = 2,
                             .objective = objective,
                             .tokenizer = w->tok,
                             .document_mask = true,
                             .mask_fraction = 0.15,
                             .max_predictions = PICKS,
                             .short_sequences = 0.1};
}

static seo_loader *open_loader(seo_loader_args args) {
    seo_loader *loader = NULL;
    const seo_err err = seo_loader_open(&args, &loader);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    assert_int_equal(err, SEO_OK);
    return loader;
}

/* An array of the batch against a row's; both are there or neither. */
static void check_array(const int32_t *got, const int32_t *want, int64_t width, int64_t r) {
    assert_int_equal(got != NULL, width > 0);
    if (got == NULL) return;
    assert_memory_equal(got + r * width, want, (size_t)width * sizeof *got);
}

/* The batch's sequence r against its row, made by itself. Returns how many targets count. */
static int64_t check_row(const seo_loader *loader, const seo_batch *batch, int64_t r) {
    const seo_rows *rows = seo_loader_rows(loader);
    const seo_row_shape shape = seo_rows_shape(rows);
    int64_t targets = 0;
    rows_room row;
    rows_make(rows, batch->places[r], &row);
    assert_memory_equal(batch->ids + r * batch->stride, row.ids,
                        (size_t)shape.ids * sizeof(int32_t));
    check_array(batch->types, row.types, shape.types, r);
    check_array(batch->spans, row.spans, shape.spans, r);
    check_array(batch->picks, row.picks, shape.picks, r);
    check_array(batch->pick_targets, row.pick_targets, shape.picks, r);
    check_array(batch->labels, &row.label, shape.label, r);
    if (shape.ids > SEQ_LEN) assert_ptr_equal(batch->targets, batch->ids + 1);
    if (shape.ids == SEQ_LEN) assert_null(batch->targets);
    assert_int_equal(batch->pick_count, shape.picks);
    assert_int_equal(seo_rows_targets(rows, batch->places[r], &targets), SEO_OK);
    return targets;
}

static void ranks_share_batches_of_all_objectives(void **state) {
    rows_world *w = *state;
    const seo_objective objectives[] = {SEO_OBJECTIVE_NEXT_TOKEN, SEO_OBJECTIVE_MASKED,
                                        SEO_OBJECTIVE_SENTENCE_PAIRS};
    enum { STEPS = 12 };
    for (int64_t o = 0; o < SEO_COUNT_OF(objectives); o++) {
        for (int64_t ranks = 1; ranks <= 4; ranks *= 2) {
            int64_t totals[STEPS] = {0}, told[STEPS] = {0};
            for (int64_t rank = 0; rank < ranks; rank++) {
                seo_loader_args args = usual(w, objectives[o]);
                args.first_sequence = rank * BATCH / ranks;
                args.local_count = BATCH / ranks;
                seo_loader *loader = open_loader(args);
                for (int64_t step = 0; step < STEPS; step++) {
                    seo_batch batch;
                    assert_int_equal(seo_loader_get(loader, step, &batch), SEO_OK);
                    assert_int_equal(batch.sequences, BATCH / ranks);
                    for (int64_t r = 0; r < batch.sequences; r++) {
                        const seo_order_place place =
                            seo_loader_place(loader, step, args.first_sequence + r);
                        assert_memory_equal(&place, &batch.places[r], sizeof place);
                        totals[step] += check_row(loader, &batch, r);
                    }
                    if (rank > 0) assert_int_equal(batch.total_targets, told[step]);
                    told[step] = batch.total_targets;
                }
                seo_loader_close(loader);
            }
            assert_memory_equal(totals, told, sizeof totals);
        }
    }
}

/* Groups are of the ids that the model is fed, masks and all. */
static void groups_are_of_masked_ids(void **state) {
    rows_world *w = *state;
    enum { MICRO = 4 };
    seo_loader_args args = usual(w, SEO_OBJECTIVE_SENTENCE_PAIRS);
    args.micro_batch = MICRO;
    seo_loader *loader = open_loader(args);
    seo_batch batch;
    assert_int_equal(seo_loader_get(loader, 3, &batch), SEO_OK);
    for (int64_t m = 0; m < BATCH / MICRO; m++) {
        const int64_t n = MICRO * SEQ_LEN;
        int32_t *want = calloc((size_t)seo_groups_size(n), sizeof *want);
        assert_non_null(want);
        seo_groups_build(batch.ids + m * n, n, want);
        const int32_t *got = batch.groups + m * batch.groups_stride;
        const size_t pieces = (size_t)(want[0] * SEO_GROUPS_RECORD);
        assert_memory_equal(got, want, (size_t)(SEO_GROUPS_HEAD + n) * sizeof *want);
        assert_memory_equal(got + seo_groups_pieces_at(n), want + seo_groups_pieces_at(n),
                            pieces * sizeof *want);
        free(want);
    }
    seo_loader_close(loader);
}

/* A damaged block is named by every rank whose batch needs to know what is in it. */
static void damage_is_named(void **state) {
    (void)state;
    rows_world w;
    seo_manifest manifest;
    seo_batch batch;
    char path[SEO_PATH_MAX];
    unsigned char byte = 0;
    rows_world_open(&w, (rows_text){.documents = 20, .least = 100, .most = 100});
    assert_int_equal(seo_manifest_load(w.folder, &manifest), SEO_OK);
    assert_int_equal(seo_path_join(path, w.folder, manifest.shards[0].file), SEO_OK);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)manifest.shards[0].token_offset, SEEK_SET), 0);
    assert_int_equal(fread(&byte, 1, 1, file), 1);
    assert_int_equal(fseek(file, (long)manifest.shards[0].token_offset, SEEK_SET), 0);
    assert_int_not_equal(fputc(byte ^ 1, file), EOF);
    assert_int_equal(fclose(file), 0);
    seo_loader_args args = usual(&w, SEO_OBJECTIVE_SENTENCE_PAIRS);
    args.local_count = 1;
    seo_loader *loader = open_loader(args);
    assert_int_equal(seo_loader_get(loader, 2, &batch), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), manifest.shards[0].file));
    assert_non_null(strstr(seo_err_detail(), "block 0 is damaged"));
    seo_loader_close(loader);
    seo_manifest_free(&manifest);
    rows_world_close(&w);
}

/* ---- a batch that grows ---- */

static seo_ramp *open_ramp(int64_t start, int64_t unit, int64_t tokens) {
    seo_ramp *ramp = NULL;
    assert_int_equal(seo_ramp_open(&(seo_ramp_args){.full_sequences = BATCH,
                                                    .start_sequences = start,
                                                    .unit_sequences = unit,
                                                    .ramp_tokens = tokens,
                                                    .seq_len = SEQ_LEN},
                                   &ramp),
                     SEO_OK);
    return ramp;
}

/* Every sample of the run once, in its place, whoever makes it and wherever it was resumed. */
static void ranks_share_a_growing_batch(void **state) {
    rows_world *w = *state;
    enum { STEPS = 40, STOP = 17 };
    for (int64_t ranks = 1; ranks <= 4; ranks *= 2) {
        seo_ramp *ramp = open_ramp(4, 4, 200 * SEQ_LEN);
        int64_t samples[STEPS] = {0};
        for (int64_t rank = 0; rank < ranks; rank++) {
            seo_loader_args args = usual(w, SEO_OBJECTIVE_MASKED);
            args.first_sequence = rank * BATCH / ranks;
            args.local_count = BATCH / ranks;
            args.micro_batch = 3;
            args.ramp = ramp;
            seo_loader *loader = open_loader(args);
            for (int64_t step = 0; step < STEPS; step++) {
                seo_batch batch;
                if (step == STOP) {
                    seo_loader_close(loader);
                    loader = open_loader(args);
                }
                assert_int_equal(seo_loader_get(loader, step, &batch), SEO_OK);
                const seo_ramp_batch want = seo_ramp_at(ramp, step);
                assert_int_equal(batch.total_sequences, want.sequences);
                assert_int_equal(batch.sequences * ranks, want.sequences);
                for (int64_t r = 0; r < batch.sequences; r++) {
                    const seo_order_place place =
                        seo_loader_place(loader, step, rank * batch.sequences + r);
                    assert_memory_equal(&place, &batch.places[r], sizeof place);
                    (void)check_row(loader, &batch, r);
                }
                samples[step] += batch.sequences;
            }
            seo_loader_close(loader);
        }
        for (int64_t step = 0; step < STEPS; step++) {
            assert_int_equal(samples[step], seo_ramp_at(ramp, step).sequences);
        }
        seo_ramp_close(ramp);
    }
}

/* Samples follow each other as without a ramp: it moves borders of batches, not the order. */
static void a_ramp_keeps_the_order(void **state) {
    rows_world *w = *state;
    seo_ramp *ramp = open_ramp(1, 1, 500 * SEQ_LEN);
    seo_loader_args args = usual(w, SEO_OBJECTIVE_NEXT_TOKEN);
    seo_loader *plain = open_loader(args);
    args.ramp = ramp;
    seo_loader *grows = open_loader(args);
    for (int64_t step = 0, sample = 0; step < 60; step++) {
        for (int64_t j = 0; j < seo_ramp_at(ramp, step).sequences; j++, sample++) {
            const seo_order_place a = seo_loader_place(grows, step, j);
            const seo_order_place b = seo_loader_place(plain, sample / BATCH, sample % BATCH);
            assert_memory_equal(&a, &b, sizeof a);
        }
    }
    seo_loader_close(plain);
    seo_loader_close(grows);
    seo_ramp_close(ramp);
}

static void a_ramp_that_ranks_do_not_divide_is_refused(void **state) {
    rows_world *w = *state;
    seo_loader *loader = NULL;
    seo_ramp *ramp = open_ramp(2, 2, 100 * SEQ_LEN);
    seo_loader_args args = usual(w, SEO_OBJECTIVE_NEXT_TOKEN);
    args.ramp = ramp;
    args.local_count = BATCH / 4;
    assert_int_equal(seo_loader_open(&args, &loader), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "the number of ranks divides"));
    args.local_count = BATCH / 2;
    args.seq_len = SEQ_LEN + 1;
    assert_int_equal(seo_loader_open(&args, &loader), SEO_ERR_ARG);
    assert_null(loader);
    seo_ramp_close(ramp);
}

static int setup(void **state) {
    static rows_world w;
    rows_world_open(
        &w, (rows_text){.documents = 100, .least = 5, .most = 150, .unknown = 25, .stop = 10});
    *state = &w;
    return 0;
}

static int teardown(void **state) {
    rows_world_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_share_batches_of_all_objectives),
        cmocka_unit_test(groups_are_of_masked_ids),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(ranks_share_a_growing_batch),
        cmocka_unit_test(a_ramp_keeps_the_order),
        cmocka_unit_test(a_ramp_that_ranks_do_not_divide_is_refused),
    };
    return cmocka_run_group_tests_name("data.loader_rows", tests, setup, teardown);
}
