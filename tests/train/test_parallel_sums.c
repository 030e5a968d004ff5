/* The exchange around passes, with passes that are none: they enter and leave segments as a model
 * does, add whole numbers to the gradients, and look at the parameters. Sums of whole numbers are
 * exact in any order, so that every element of every mode has one right value; and what a window
 * holds between enter and leave is compared with what was trained. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/threads_comm.h"
#include "base/check.h"
#include "tiny_model.h"
#include "train/parallel.h"

enum { PASSES_IN_ALL = 16, STEPS = 2 };

typedef struct setup {
    int32_t ranks;
    int32_t zero;
    int64_t slots;
    seo_dtype wire;
    bool forget;      /* the mistake: a pass leaves a segment before it has added to it */
    int64_t wrong[8]; /* elements by rank */
} setup;

typedef struct team_rank {
    setup *of;
    int32_t rank;
    seo_model *model;
    seo_parallel *parallel;
    const seo_shards *shards;
    int64_t wrong;
} team_rank;

/* What pass `number` of all adds to an element: small enough for a bf16 wire. */
static float addend(int64_t step, int64_t number, int64_t element) {
    return (float)((number * 31 + element * 7 + step * 5) % 13 - 6);
}

/* The parameters after `step` steps. */
static float parameter(int64_t step, int64_t element) {
    return (float)(element % 1009 + step * 1024);
}

static void look(team_rank *r, int64_t step, int64_t segment) {
    const seo_segment *s = &r->shards->segments[segment];
    const seo_tensor seen = seo_model_read_segment(r->model, segment);
    for (int64_t i = 0; i < s->count; i++) {
        const float want = parameter(step, s->first + i);
        if (((const float *)seen.data)[i] != want) r->wrong++;
    }
}

static void add(team_rank *r, int64_t step, int64_t number, int64_t segment) {
    const seo_segment *s = &r->shards->segments[segment];
    const seo_tensor grads = seo_model_grad_segment(r->model, segment);
    for (int64_t i = 0; i < s->count; i++) {
        ((float *)grads.data)[i] += addend(step, number, s->first + i);
    }
}

static seo_err enter(const seo_pass_hooks *hooks, int64_t segment, bool backward) {
    return hooks ? hooks->enter(hooks->context, segment, backward) : SEO_OK;
}

static seo_err leave(const seo_pass_hooks *hooks, int64_t segment, bool backward) {
    return hooks ? hooks->leave(hooks->context, segment, backward) : SEO_OK;
}

static seo_err forward(team_rank *r, const seo_pass_hooks *hooks, int64_t step) {
    seo_err err = SEO_OK;
    const int64_t last = r->shards->segment_count - 1;
    for (int64_t s = 0; s <= last; s++) {
        SEO_TRY(enter(hooks, s, false));
        look(r, step, s);
        if (s > 0 && s < last) SEO_TRY(leave(hooks, s, false));
    }
done:
    return err;
}

/* As a family does it: a block is entered before the one above it is left, and what lies outside
 * the blocks is left at the end. */
static seo_err backward(team_rank *r, const seo_pass_hooks *hooks, int64_t step, int64_t number) {
    seo_err err = SEO_OK;
    const int64_t last = r->shards->segment_count - 1;
    add(r, step, number, last);
    SEO_TRY(enter(hooks, last - 1, true));
    for (int64_t s = last - 1; s >= 1; s--) {
        if (s > 1) SEO_TRY(enter(hooks, s - 1, true));
        look(r, step, s);
        add(r, step, number, s);
        if (!r->of->forget || s != 2) SEO_TRY(leave(hooks, s, true));
    }
    add(r, step, number, 0);
    SEO_TRY(leave(hooks, last, true));
    SEO_TRY(leave(hooks, 0, true));
done:
    return err;
}

static seo_tensor own_grads(const team_rank *r, int64_t segment) {
    const seo_segment *s = &r->shards->segments[segment];
    seo_tensor shard = seo_model_grad_shard(r->model);
    if (seo_tensor_given(&shard)) {
        return seo_tensor_1d((float *)shard.data + s->shard_first, SEO_DTYPE_F32, s->chunk);
    }
    const seo_tensor whole = seo_model_grad_segment(r->model, segment);
    return seo_tensor_1d((float *)whole.data + r->rank * s->chunk, SEO_DTYPE_F32, s->chunk);
}

static void check_sums(team_rank *r, int64_t step) {
    for (int64_t s = 0; s < r->shards->segment_count; s++) {
        const seo_segment *at = &r->shards->segments[s];
        const seo_tensor own = own_grads(r, s);
        for (int64_t i = 0; i < at->chunk; i++) {
            const int64_t element = at->first + r->rank * at->chunk + i;
            float want = 0;
            for (int64_t n = 0; n < PASSES_IN_ALL; n++) want += addend(step, n, element);
            if (((const float *)own.data)[i] != want) r->wrong++;
        }
    }
}

/* An update: what is trained gets the next step's values, this rank's chunk alone where others
 * bring the rest. */
static seo_err update(team_rank *r, int64_t step) {
    seo_err err = SEO_OK;
    const seo_tensor trained = seo_model_trained(r->model);
    const seo_layout layout = seo_model_trained_layout(r->model);
    for (int64_t s = 0; s < r->shards->segment_count; s++) {
        const seo_segment *at = &r->shards->segments[s];
        const bool all = r->shards->zero == 0;
        const int64_t first = at->first + (all ? 0 : r->rank * at->chunk);
        float *to = (float *)trained.data + (layout == SEO_LAYOUT_SHARD ? at->shard_first : first);
        for (int64_t i = 0; i < (all ? at->count : at->chunk); i++) {
            to[i] = parameter(step, first + i);
        }
        SEO_TRY(seo_parallel_updated(r->parallel, s));
    }
done:
    return err;
}

static seo_err one_step(team_rank *r, int64_t step) {
    seo_err err = SEO_OK;
    const int64_t passes = PASSES_IN_ALL / r->of->ranks;
    SEO_TRY(seo_parallel_begin(r->parallel, passes));
    for (int64_t i = 0; i < passes; i++) {
        const seo_pass_hooks *hooks = NULL;
        SEO_TRY(seo_parallel_pass(r->parallel, i, &hooks));
        SEO_TRY(forward(r, hooks, step));
        SEO_TRY(backward(r, hooks, step, r->rank * passes + i));
        SEO_TRY(seo_parallel_passed(r->parallel, i));
    }
    SEO_TRY(seo_parallel_reduced(r->parallel));
    check_sums(r, step);
    SEO_TRY(update(r, step + 1));
    /* Passes that only read, twice: what the first one left in the windows is not what the second
     * one begins with. */
    SEO_TRY(forward(r, seo_parallel_reading(r->parallel), step + 1));
    SEO_TRY(forward(r, seo_parallel_reading(r->parallel), step + 1));
done:
    return err;
}

static seo_err body(void *context, seo_comm *comm, seo_device *dev) {
    seo_err err = SEO_OK;
    seo_model_config config = tiny_config(0);
    seo_memory_table planned = {0};
    team_rank r = {.of = context, .rank = seo_comm_rank(comm)};
    config.num_layers = 5;
    SEO_TRY(seo_model_open(&(seo_model_args){.dev = dev,
                                             .config = &config,
                                             .mode = SEO_MODEL_TRAIN,
                                             .batch = 1,
                                             .seed = 3,
                                             .shard = {.rank = r.rank,
                                                       .ranks = r.of->ranks,
                                                       .zero = r.of->zero,
                                                       .parts = r.of->slots}},
                           &r.model));
    r.shards = seo_model_shards(r.model);
    const int64_t before = seo_device_bytes(dev);
    SEO_TRY(seo_parallel_open(
        &(seo_parallel_args){
            .model = r.model, .comm = comm, .slots = r.of->slots, .wire = r.of->wire},
        &r.parallel));
    seo_parallel_measure(r.shards, r.of->slots, &planned);
    if (seo_memory_total(&planned) != seo_device_bytes(dev) - before) r.wrong++;
    SEO_TRY(update(&r, 0));
    for (int64_t step = 0; step < STEPS; step++) SEO_TRY(one_step(&r, step));
    r.of->wrong[r.rank] = r.wrong;
done:
    seo_parallel_close(r.parallel);
    seo_model_close(r.model);
    return err;
}

static int64_t wrong_elements(setup s) {
    int64_t wrong = 0;
    if (threads_run(s.ranks, body, &s) != SEO_OK) fail_msg("%s", seo_err_detail());
    for (int32_t r = 0; r < s.ranks; r++) wrong += s.wrong[r];
    return wrong;
}

static void exact(void **state) {
    (void)state;
    for (int32_t ranks = 1; ranks <= 8; ranks *= 2) {
        for (int32_t zero = 0; zero <= 3; zero++) {
            for (int wire = 0; wire < 2; wire++) {
                const setup s = {
                    .ranks = ranks, .zero = zero, .wire = wire ? SEO_DTYPE_BF16 : SEO_DTYPE_F32};
                const int64_t wrong = wrong_elements(s);
                if (wrong > 0) {
                    fail_msg("%d ranks, zero %d, wire %d: %lld elements", ranks, zero, wire,
                             (long long)wrong);
                }
            }
        }
    }
}

static void exact_slots(void **state) {
    (void)state;
    for (int32_t ranks = 1; ranks <= 8; ranks *= 2) {
        for (int64_t slots = 8; slots <= 16; slots *= 2) {
            for (int32_t zero = 0; zero <= 1; zero++) {
                assert_int_equal(
                    wrong_elements((setup){.ranks = ranks, .zero = zero, .slots = slots}), 0);
            }
        }
    }
}

/* The numbers are such that a sum which is not made is missed. */
static void mistakes_show(void **state) {
    (void)state;
    for (int32_t zero = 0; zero <= 3; zero++) {
        assert_true(wrong_elements((setup){.ranks = 2, .zero = zero, .forget = true}) > 0);
    }
}

/* Settings that cannot be had are refused with the reason. */
static void refused(void **state) {
    (void)state;
    const struct {
        setup of;
        const char *says;
    } cases[] = {{{.ranks = 1, .slots = 6}, "not a power of two"},
                 {{.ranks = 2, .zero = 2, .slots = 8}, "parallel.zero 0 and 1"},
                 {{.ranks = 2, .zero = 1, .slots = 8, .wire = SEO_DTYPE_BF16}, "f32 alone"}};
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        setup s = cases[i].of;
        assert_int_equal(threads_run(s.ranks, body, &s), SEO_ERR_USAGE);
        assert_non_null(strstr(seo_err_detail(), cases[i].says));
    }
}

/* The same as one rank of an MPI job: what this rank sees wrong. */
static seo_err over_mpi(const char *plugin, int64_t *wrong) {
    seo_err err = SEO_OK;
    seo_comm *comm = NULL;
    seo_device *dev = NULL;
    SEO_TRY(seo_comm_open_mpi(&(seo_comm_mpi_options){.plugin = plugin}, &comm));
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &dev));
    SEO_TRY(seo_comm_attach(comm, dev));
    for (int i = 0; i < 12; i++) {
        setup s = {.ranks = seo_comm_size(comm), .zero = i % 4, .slots = i < 8 ? 0 : 8};
        if (i >= 4 && i < 8) s.wire = SEO_DTYPE_BF16;
        if (s.slots > 0 && s.zero >= 2) continue;
        SEO_TRY(body(&s, comm, dev));
        *wrong += s.wrong[seo_comm_rank(comm)];
    }
done:
    seo_comm_close(comm);
    seo_device_close(dev);
    return err;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        int64_t wrong = 0;
        const seo_err err = over_mpi(argv[1], &wrong);
        if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
        if (err == SEO_ERR_MISSING) return 77;
        if (wrong > 0) fprintf(stderr, "%lld elements are wrong\n", (long long)wrong);
        return err != SEO_OK || wrong > 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact), cmocka_unit_test(exact_slots),
                                       cmocka_unit_test(mistakes_show), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
