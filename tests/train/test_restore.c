/* A run's state from devices to a checkpoint and back, for ranks of which each holds a shard or the
 * whole, and how much memory that takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bf16.h"
#include "base/check.h"
#include "base/log.h"
#include "ranks_fixture.h"
#include "tests/support/peak.h"
#include "train/restore.h"

/* In a rank, where cmocka's jumps would lead into the parent's test. */
#define HOLD(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, seo_err_detail());          \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

enum { SETS = 3, BLOCKS = 3 };

static const char *const k_names[SETS] = {"parameters", "moment1", "moment2"};

typedef struct job {
    const char *folder;
    int64_t parts;
    seo_layout layout;
    seo_dtype last; /* of the last set */
    bool save;
    bool measure;
    int64_t rows, columns; /* of the largest tensor */
} job;

typedef struct holder {
    seo_params params;
    seo_shards shards;
    seo_device *dev;
    seo_param_set sets[SETS];
    seo_restore_list list;
    int64_t bytes, shard_bytes;
} holder;

static void add(seo_params *params, const char *name, int64_t block, int64_t rows,
                int64_t columns) {
    int64_t index;
    seo_param p = {.rank = columns ? 2 : 1, .dims = {rows, columns}, .block = block};
    snprintf(p.name, sizeof p.name, "%s", name);
    HOLD(seo_params_add(params, &p, &index) == SEO_OK);
}

static void make(const job *j, int32_t rank, int32_t size, holder *h) {
    *h = (holder){0};
    add(&h->params, "wte", SEO_PARAM_NO_BLOCK, j->rows, j->columns);
    for (int64_t b = 0; b < BLOCKS; b++) {
        char name[32];
        snprintf(name, sizeof name, "blocks.%d.weight", (int)b);
        add(&h->params, name, b, 301, 77);
        snprintf(name, sizeof name, "blocks.%d.bias", (int)b);
        add(&h->params, name, b, 301, 0);
    }
    add(&h->params, "norm_final", SEO_PARAM_NO_BLOCK, 7, 0);
    const seo_shard_wish wish = {.rank = rank, .ranks = size, .zero = 1, .parts = j->parts};
    HOLD(seo_shards_open(&h->params, &wish, &h->shards) == SEO_OK);
    HOLD(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &h->dev) == SEO_OK);
    h->list.dev = h->dev;
    for (int s = 0; s < SETS; s++) {
        const seo_dtype dtype = s == SETS - 1 ? j->last : SEO_DTYPE_F32;
        seo_param_set *set = &h->sets[s];
        HOLD(seo_param_set_plan(set, &h->params, &h->shards, j->layout, dtype, k_names[s]) ==
             SEO_OK);
        HOLD(seo_param_set_bind(set, h->dev) == SEO_OK);
        memset(set->flat.data, 0x7f, (size_t)set->bytes);
        HOLD(seo_restore_add(&h->list, k_names[s], &h->params, set) == SEO_OK);
    }
    for (int64_t i = 0; i < h->list.saved_count; i++) h->shard_bytes += h->list.saved[i].count * 4;
}

static void drop(holder *h) {
    seo_restore_list_free(&h->list);
    for (int s = 0; s < SETS; s++) seo_param_set_free(&h->sets[s]);
    seo_device_close(h->dev);
    seo_shards_free(&h->shards);
    seo_params_free(&h->params);
}

/* Exact in f32, and in bf16 where the set is of that type. */
static float value_of(int64_t tensor, int64_t element, seo_dtype dtype) {
    const int64_t mixed = (tensor * 1000003 + element * 7919) & 0xffffff;
    return (float)(dtype == SEO_DTYPE_BF16 ? mixed & 0xff : mixed);
}

static float get(const seo_tensor *t, int64_t i) {
    return t->dtype == SEO_DTYPE_BF16 ? seo_f32_from_bf16(((const uint16_t *)t->data)[i])
                                      : ((const float *)t->data)[i];
}

static void put(const seo_tensor *t, int64_t i, float value) {
    if (t->dtype == SEO_DTYPE_BF16) {
        ((uint16_t *)t->data)[i] = seo_bf16_from_f32(value);
    } else {
        ((float *)t->data)[i] = value;
    }
}

static void save(const job *j, seo_world *world, holder *h) {
    for (int64_t i = 0; i < h->list.saved_count; i++) {
        const seo_ckpt_range *r = &h->list.saved[i];
        const seo_tensor *t = &h->list.saved_at[i];
        for (int64_t e = 0; e < r->count; e++) {
            put(t, e, value_of(r->tensor, r->offset + e, t->dtype));
        }
    }
    const seo_ckpt_snapshot snapshot = {.state = {.step = 1},
                                        .tensors = h->list.tensors,
                                        .tensor_count = h->list.count,
                                        .ranges = h->list.saved,
                                        .range_count = h->list.saved_count,
                                        .fetch = seo_restore_fetch,
                                        .fetch_context = &h->list,
                                        .config_yaml = "x: 1\n"};
    const seo_ckpt_writer_args args = {.run_dir = j->folder, .world = world, .keep_last = 1};
    seo_ckpt_writer *writer;
    HOLD(seo_ckpt_writer_open(&args, &writer) == SEO_OK);
    const bool counted = peak_reset();
    const int64_t before = peak_bytes();
    HOLD(seo_ckpt_writer_submit(writer, &snapshot) == SEO_OK);
    HOLD(seo_ckpt_writer_wait(writer) == SEO_OK);
    /* The copy is the shard alone; the rest is HDF5's and the buffers of digests. */
    if (j->measure && counted && PEAK_IS_OURS) {
        HOLD(peak_bytes() - before < h->shard_bytes + (16 << 20));
    }
    seo_ckpt_writer_close(writer);
}

static void read_back(const job *j, seo_world *world, holder *h) {
    seo_ckpt *ckpt;
    const bool counted = peak_reset();
    const int64_t before = peak_bytes();
    HOLD(seo_ckpt_open(j->folder, world, &ckpt) == SEO_OK);
    HOLD(seo_restore_read(&h->list, ckpt) == SEO_OK);
    /* One buffer of 4 Mi numbers, however large the tensors are. */
    if (j->measure && counted && PEAK_IS_OURS) HOLD(peak_bytes() - before < (16 << 20) + (8 << 20));
    seo_ckpt_close(ckpt);
    int64_t values = 0;
    for (int64_t i = 0; i < h->list.read_count; i++) {
        const seo_ckpt_range *r = &h->list.read[i];
        const seo_tensor *t = &h->list.read_to[i];
        values += r->count;
        for (int64_t e = 0; e < r->count; e++) {
            HOLD(get(t, e) == value_of(r->tensor, r->offset + e, t->dtype));
        }
    }
    if (j->layout == SEO_LAYOUT_WHOLE) HOLD(values == SETS * seo_params_elements(&h->params));
}

static int run_rank(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    const job *j = plan->context;
    seo_world *world;
    holder h;
    HOLD(ranks_open(plan, rank, shared, &world) == SEO_OK);
    make(j, rank, plan->size, &h);
    if (j->save) {
        save(j, world, &h);
    } else {
        read_back(j, world, &h);
    }
    HOLD(seo_world_agree(world, SEO_CHANNEL_RUN, "the end", SEO_OK) == SEO_OK);
    drop(&h);
    seo_world_close(world);
    return 0;
}

static void with_ranks(int32_t size, job j) {
    ranks r;
    const ranks_plan plan = {
        .size = size, .join_s = 20.0, .folder = j.folder, .act = run_rank, .context = &j};
    ranks_start(&plan, &r);
    ranks_wait(&plan, &r, 120.0);
    for (int32_t k = 0; k < size; k++) {
        if (r.status[k] != 0)
            fail_msg("rank %d of %d ended with %d:\n%s", k, size, r.status[k], r.output);
    }
    ranks_end(&r);
}

static int set_up(void **state) {
    char *folder = strdup("/dev/shm/seodang-restore-XXXXXX");
    if (!folder || !mkdtemp(folder)) return -1;
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_QUIET});
    *state = folder;
    return 0;
}

static int tear_down(void **state) {
    const seo_err err = seo_dir_remove(*state);
    free(*state);
    return err == SEO_OK ? 0 : -1;
}

/* Shards of 1 to 4 ranks, whole sets, padding for 8 parts: each is read as each other. */
static void layouts(void **state) {
    static const struct {
        int32_t size;
        int64_t parts;
        seo_layout layout;
    } ways[] = {{1, 0, SEO_LAYOUT_WHOLE},
                {3, 0, SEO_LAYOUT_SHARD},
                {2, 8, SEO_LAYOUT_WHOLE},
                {4, 8, SEO_LAYOUT_SHARD},
                {1, 8, SEO_LAYOUT_SHARD}};
    char path[SEO_PATH_MAX];
    for (size_t w = 0; w < SEO_COUNT_OF(ways); w++) {
        snprintf(path, sizeof path, "%s/%d", (char *)*state, (int)w);
        assert_int_equal(seo_dir_make(path), SEO_OK);
        job j = {.folder = path, .rows = 517, .columns = 33, .last = SEO_DTYPE_BF16, .save = true};
        j.parts = ways[w].parts;
        j.layout = ways[w].layout;
        with_ranks(ways[w].size, j);
        j.save = false;
        for (size_t r = 0; r < SEO_COUNT_OF(ways); r++) {
            j.parts = ways[r].parts;
            j.layout = ways[r].layout;
            with_ranks(ways[r].size, j);
        }
    }
}

/* 150 MB of state: saving takes the shard once more, reading one buffer. */
static void memory(void **state) {
    job j = {.folder = *state, .rows = 6000, .columns = 2000, .save = true, .measure = true};
    j.layout = SEO_LAYOUT_SHARD;
    with_ranks(3, j);
    j.save = false;
    with_ranks(2, j);
    j.layout = SEO_LAYOUT_WHOLE;
    with_ranks(1, j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layouts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
