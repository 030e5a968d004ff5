/* A model whose parameters and gradients are spread over ranks: initial values are those of the
 * whole, and passes over windows give the bits of passes over the whole, also when everything that
 * is not in use is spoilt. All ranks are models of one process, one after the other, and the
 * exchange is by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "odd_device.h"
#include "tiny_model.h"

enum { ROW_TOKENS = TINY_POSITIONS + 1, RANKS_MAX = 4 };

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

typedef struct ranks {
    seo_device *dev;
    int32_t count;
    seo_model *models[RANKS_MAX];
    int32_t current; /* whose pass it is */
    int64_t in_use;  /* blocks, bit by bit */
} ranks;

static void open_ranks(ranks *r, int32_t count, const seo_model_args *like) {
    *r = (ranks){.count = count, .dev = odd_device_open((odd_options){.bf16 = true})};
    for (int32_t rank = 0; rank < count; rank++) {
        seo_model_args args = *like;
        args.dev = r->dev;
        args.shard.rank = rank;
        args.shard.ranks = count;
        ok(seo_model_open(&args, &r->models[rank]));
    }
}

static void close_ranks(ranks *r) {
    for (int32_t rank = 0; rank < r->count; rank++) seo_model_close(r->models[rank]);
    seo_device_close(r->dev);
}

static char *element(seo_tensor t, int64_t at) {
    return (char *)t.data + at * seo_dtype_bytes(t.dtype);
}

/* Chunks of the shards of all ranks against the whole of a model with as many parts. */
static void initial_values(void **state) {
    (void)state;
    const seo_model_config config = tiny_config(0);
    const struct {
        seo_dtype storage;
        bool no_master;
        int32_t zero;
    } kinds[] = {{SEO_DTYPE_F32, false, 3},
                 {SEO_DTYPE_BF16, false, 1},
                 {SEO_DTYPE_BF16, false, 3},
                 {SEO_DTYPE_BF16, true, 3}};
    for (int64_t k = 0; k < SEO_COUNT_OF(kinds); k++) {
        seo_model_args args = {.config = &config,
                               .mode = SEO_MODEL_TRAIN,
                               .batch = 1,
                               .seed = 5,
                               .storage = kinds[k].storage,
                               .no_master = kinds[k].no_master,
                               .shard = {.zero = kinds[k].zero, .parts = 4}};
        ranks r;
        seo_model *whole = NULL;
        open_ranks(&r, 4, &args);
        args.dev = r.dev;
        args.shard = (seo_shard_wish){.parts = 4};
        ok(seo_model_open(&args, &whole));
        const seo_tensor want = seo_model_trained(whole);
        assert_int_equal(seo_model_trained_layout(whole), SEO_LAYOUT_WHOLE);
        for (int32_t rank = 0; rank < r.count; rank++) {
            const seo_model *m = r.models[rank];
            const seo_shards *shards = seo_model_shards(m);
            assert_int_equal(seo_model_trained_layout(m), SEO_LAYOUT_SHARD);
            const seo_tensor got = seo_model_trained(m);
            for (int64_t s = 0; s < shards->segment_count; s++) {
                const seo_segment *g = &shards->segments[s];
                const int64_t at = rank * g->chunk, each = seo_dtype_bytes(got.dtype);
                assert_memory_equal(element(got, g->shard_first), element(want, g->first + at),
                                    (size_t)(g->chunk * each));
                if (seo_model_read_layout(m) == SEO_LAYOUT_WINDOWS && g->block >= 0) continue;
                const seo_tensor read = seo_model_read_segment(m, s),
                                 all = seo_model_read_segment(whole, s);
                assert_memory_equal(element(read, at), element(all, at),
                                    (size_t)(g->chunk * seo_dtype_bytes(read.dtype)));
            }
        }
        seo_model_close(whole);
        close_ranks(&r);
    }
}

/* All chunks of a segment to where this rank's passes read it. */
static void gather(ranks *r, int64_t segment) {
    seo_model *mine = r->models[r->current];
    const seo_tensor to = seo_model_read_segment(mine, segment);
    const seo_segment *g = &seo_model_shards(mine)->segments[segment];
    if (seo_model_read_layout(mine) != SEO_LAYOUT_WINDOWS) return;
    ok(seo_model_refresh_segment(mine, segment));
    for (int32_t rank = 0; rank < r->count; rank++) {
        if (rank == r->current) continue;
        memcpy(element(to, rank * g->chunk),
               element(seo_model_trained(r->models[rank]), g->shard_first),
               (size_t)(g->chunk * seo_dtype_bytes(to.dtype)));
    }
}

/* Each rank's part of the gradients that the pass has made is added to its shard. */
static void reduce(ranks *r, int64_t segment) {
    const seo_tensor from = seo_model_grad_segment(r->models[r->current], segment);
    for (int32_t rank = 0; rank < r->count; rank++) {
        const seo_segment *g = &seo_model_shards(r->models[rank])->segments[segment];
        float *to = (float *)seo_model_grad_shard(r->models[rank]).data + g->shard_first;
        const float *part = (float *)from.data + rank * g->chunk;
        for (int64_t i = 0; i < g->chunk; i++) to[i] += part[i];
    }
}

static void spoil(seo_tensor t) {
    float *values = t.data;
    for (int64_t i = 0; i < seo_tensor_count(&t); i++) values[i] = NAN;
}

static seo_err enter(void *context, int64_t segment, bool backward) {
    ranks *r = context;
    seo_model *m = r->models[r->current];
    const int64_t block = seo_model_shards(m)->segments[segment].block;
    if (block == SEO_PARAM_NO_BLOCK) {
        assert_false(backward);
        gather(r, segment);
        return SEO_OK;
    }
    /* Entered once, and beside its neighbour at most. */
    assert_int_equal(r->in_use & ~(INT64_C(1) << (block + 1)), 0);
    r->in_use |= INT64_C(1) << block;
    gather(r, segment);
    if (backward) {
        const seo_tensor t = seo_model_grad_segment(m, segment);
        memset(t.data, 0, (size_t)seo_tensor_bytes(&t));
    }
    return SEO_OK;
}

static seo_err leave(void *context, int64_t segment, bool backward) {
    ranks *r = context;
    seo_model *m = r->models[r->current];
    const int64_t block = seo_model_shards(m)->segments[segment].block;
    if (backward) reduce(r, segment);
    if (block != SEO_PARAM_NO_BLOCK) {
        assert_true(r->in_use >> block & 1);
        r->in_use &= ~(INT64_C(1) << block);
    }
    if (backward) spoil(seo_model_grad_segment(m, segment));
    if (seo_model_read_layout(m) == SEO_LAYOUT_WINDOWS &&
        (backward || block != SEO_PARAM_NO_BLOCK)) {
        spoil(seo_model_read_segment(m, segment));
    }
    return SEO_OK;
}

static void assert_same(const seo_tensor *a, const seo_tensor *b) {
    if (b->rank > 0) assert_memory_equal(a->data, b->data, (size_t)seo_tensor_bytes(b));
}

static void check_level(int32_t count, int32_t zero, const seo_model_config *config,
                        seo_recompute recompute) {
    seo_model_args args = {.config = config,
                           .mode = SEO_MODEL_TRAIN,
                           .batch = 1,
                           .seed = 5,
                           .recompute = recompute,
                           .shard = {.zero = zero}};
    ranks r;
    seo_model *whole = NULL;
    tiny_inputs in;
    tiny_make_inputs(config, 3, &in);
    open_ranks(&r, count, &args);
    args.dev = r.dev;
    args.recompute = SEO_RECOMPUTE_NONE;
    args.shard = (seo_shard_wish){.parts = count};
    ok(seo_model_open(&args, &whole));
    const seo_tensor one = seo_model_grads(whole)->flat;
    const seo_shards *shards = seo_model_shards(whole);
    float *sum = calloc((size_t)seo_tensor_count(&one), sizeof *sum);
    const seo_pass_hooks hooks = {.enter = enter, .leave = leave, .context = &r};
    for (int32_t rank = 0; rank < count; rank++) {
        tiny_model of = {.dev = r.dev, .model = whole};
        seo_pass_args pass = tiny_inputs_pass(&of, &in, rank, 1, 8);
        const seo_tensor losses = pass.losses, label_losses = pass.label_losses;
        ok(seo_model_zero_grads(whole));
        ok(seo_model_forward_backward(whole, &pass));
        for (int64_t i = 0; i < seo_tensor_count(&one); i++) sum[i] += ((float *)one.data)[i];
        r.current = rank;
        if (losses.rank > 0) pass.losses = seo_model_losses(r.models[rank]);
        if (label_losses.rank > 0) pass.label_losses = seo_model_label_losses(r.models[rank]);
        pass.hooks = &hooks;
        const seo_tensor shard = seo_model_grad_shard(r.models[rank]);
        float *kept = malloc((size_t)seo_tensor_bytes(&shard));
        memcpy(kept, shard.data, (size_t)seo_tensor_bytes(&shard));
        ok(seo_model_zero_grads(r.models[rank]));
        for (int64_t i = 0; i < seo_tensor_count(&shard); i++) {
            assert_true(((float *)shard.data)[i] == 0);
        }
        memcpy(shard.data, kept, (size_t)seo_tensor_bytes(&shard));
        free(kept);
        ok(seo_model_forward_backward(r.models[rank], &pass));
        assert_int_equal(r.in_use, 0);
        assert_same(&pass.losses, &losses);
        assert_same(&pass.label_losses, &label_losses);
    }
    for (int32_t rank = 0; rank < count; rank++) {
        const float *shard = seo_model_grad_shard(r.models[rank]).data;
        for (int64_t s = 0; s < shards->segment_count; s++) {
            const seo_segment *g = &seo_model_shards(r.models[rank])->segments[s];
            assert_memory_equal(shard + g->shard_first, sum + g->first + rank * g->chunk,
                                (size_t)g->chunk * sizeof *sum);
        }
    }
    free(sum);
    seo_model_close(whole);
    close_ranks(&r);
}

static void passes(void **state) {
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config none = tiny_case_config(&tiny_cases[i], 0),
                               some = tiny_case_config(&tiny_cases[i], 0.25);
        for (int32_t zero = 2; zero <= 3; zero++) {
            check_level(2, zero, &none, SEO_RECOMPUTE_NONE);
            check_level(3, zero, &some, SEO_RECOMPUTE_NONE);
            check_level(4, zero, &none, SEO_RECOMPUTE_FULL);
            check_level(2, zero, &some, SEO_RECOMPUTE_FULL);
            check_level(3, zero, &some, SEO_RECOMPUTE_SELECTIVE);
        }
    }
}

/* The forward alone, over windows of parameters. */
static void forward(void **state) {
    (void)state;
    const seo_model_config config = tiny_config(0);
    seo_model_args args = {
        .config = &config, .mode = SEO_MODEL_TRAIN, .batch = 1, .seed = 5, .shard = {.zero = 3}};
    ranks r;
    tiny_model whole;
    int32_t tokens[ROW_TOKENS];
    float values[TINY_WIDTH];
    tiny_tokens(tokens, 1, 3);
    open_ranks(&r, 2, &args);
    args.dev = r.dev;
    args.shard = (seo_shard_wish){0};
    whole.dev = r.dev;
    ok(seo_model_open(&args, &whole.model));
    whole.losses = seo_model_losses(whole.model);
    seo_pass_args pass = tiny_pass(&whole, tokens, 1, 1);
    ok(seo_model_forward(whole.model, &pass));
    const seo_pass_hooks hooks = {.enter = enter, .leave = leave, .context = &r};
    pass.hooks = &hooks;
    pass.losses = seo_model_losses(r.models[0]);
    ok(seo_model_forward(r.models[0], &pass));
    assert_memory_equal(pass.losses.data, whole.losses.data, TINY_POSITIONS * sizeof(float));
    assert_int_equal(r.in_use, 0);
    assert_int_equal(seo_model_get_param(r.models[0], "wpe", values, 1), SEO_ERR_UNSUPPORTED);
    seo_model_close(whole.model);
    close_ranks(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(initial_values), cmocka_unit_test(passes),
                                       cmocka_unit_test(forward)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
