/* The layer tested by what it must find: each planted bug is reported by the flavours that can see
 * it, as the right kind of error; the right kernels report nothing under any schedule. Without
 * these, the layer could turn into a yes-man unnoticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <simt_options.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simt/bugs/bugs.h"
#include "tests/simt/layer_check.h"

/* What notices a bug. early, late: forward order, asynchronous work at issue or as late as may be.
 * schedules: how many of the 12 must notice it at least. Several verdicts are separated by |. */
struct planted_bug {
    const char *name;
    enum family family;
    int bug;
    const char *early, *late;
    int schedules;
    const char *asan, *check;
};

static const struct planted_bug planted[] = {
    {"norm: no barrier before the read", FAMILY_NORM, NORM_NO_SYNC_BEFORE_READ, "wrong", "wrong",
     12, "wrong", "uninitialised"},
    {"norm: no barrier before the reuse", FAMILY_NORM, NORM_NO_SYNC_BEFORE_REUSE, "wrong", "wrong",
     6, "wrong", "race"},
    {"norm: one vector too many", FAMILY_NORM, NORM_ONE_VECTOR_TOO_MANY, "wrong", "wrong", 12,
     "asan:heap-buffer-overflow", "out-of-bounds"},
    {"norm: unwritten slots", FAMILY_NORM, NORM_UNWRITTEN_SLOTS, "wrong", "wrong", 12, "wrong",
     "uninitialised"},
    {"mma: no barrier before the read", FAMILY_MMA, MMA_NO_SYNC_BEFORE_READ, "wrong", "wrong", 6,
     "wrong", "race|uninitialised"},
    {"mma: no barrier before the reuse", FAMILY_MMA, MMA_NO_SYNC_BEFORE_REUSE, "wrong", "wrong", 6,
     "wrong", "race"},
    {"mma: one row too many", FAMILY_MMA, MMA_ONE_ROW_TOO_MANY, "none", "none", 0,
     "asan:heap-buffer-overflow", "out-of-bounds"},
    {"mma: tail not zeroed", FAMILY_MMA, MMA_TAIL_NOT_ZEROED, "wrong", "wrong", 12, "wrong",
     "uninitialised"},
    {"mma: swizzles differ", FAMILY_MMA, MMA_SWIZZLES_DIFFER, "wrong", "wrong", 12, "wrong",
     "wrong"},
    {"mma: no swizzle", FAMILY_MMA, MMA_NO_SWIZZLE, "none", "none", 0, "none", "none"},
    {"mma: waits for too few", FAMILY_MMA, MMA_WAITS_FOR_TOO_FEW, "none", "wrong", 6, "wrong",
     "race"},
    {"wgmma: no fence after mbarrier.init", FAMILY_WGMMA, WGMMA_NO_INIT_FENCE, "none", "none", 0,
     "none", "proxy-fence"},
    {"wgmma: producer's phase", FAMILY_WGMMA, WGMMA_PRODUCER_PHASE, "deadlock", "deadlock", 12,
     "deadlock", "deadlock"},
    {"wgmma: consumer's phase", FAMILY_WGMMA, WGMMA_CONSUMER_PHASE, "deadlock", "tma", 12, "tma",
     "deadlock"},
    {"wgmma: expected bytes", FAMILY_WGMMA, WGMMA_TX_BYTES, "mbarrier", "tma", 12, "tma", "race"},
    {"wgmma: no wgmma.fence", FAMILY_WGMMA, WGMMA_NO_FENCE, "wgmma", "wgmma", 12, "wgmma", "wgmma"},
    {"wgmma: stage released early", FAMILY_WGMMA, WGMMA_EARLY_RELEASE, "none", "wrong", 6, "wrong",
     "race"},
    {"wgmma: no wait", FAMILY_WGMMA, WGMMA_NO_WAIT, "wgmma", "wgmma", 12, "wgmma", "wgmma"},
    {"wgmma: no proxy fence before the store", FAMILY_WGMMA, WGMMA_NO_PROXY_FENCE, "none", "none",
     0, "none", "proxy-fence"},
    {"wgmma: no barrier before the store", FAMILY_WGMMA, WGMMA_NO_BARRIER, "wrong", "wrong", 6,
     "wrong", "uninitialised|race"},
    {"wgmma: map without swizzle", FAMILY_WGMMA, WGMMA_MAP_WITHOUT_SWIZZLE, "wrong", "wrong", 12,
     "wrong", "wrong"},
    {"wgmma: stride in the descriptor", FAMILY_WGMMA, WGMMA_DESC_STRIDE, "wrong", "wrong", 12,
     "wrong", "wrong"},
    {"wgmma: swizzle in the descriptor", FAMILY_WGMMA, WGMMA_DESC_MODE, "wrong", "wrong", 12,
     "wrong", "wrong"},
    {"no __syncwarp", FAMILY_MICRO, MICRO_NO_SYNCWARP, "none", "none", 0, "none", "uninitialised"},
    {"blocks add plainly", FAMILY_MICRO, MICRO_BLOCKS_ADD_PLAINLY, "none", "none", 0, "none",
     "race"},
    {"right: blocks add atomically", FAMILY_MICRO, MICRO_BLOCKS_ADD_ATOMICALLY, "none", "none", 0,
     "none", "none"},
    {"shuffle in a branch", FAMILY_MICRO, MICRO_DIVERGENT_SHUFFLE, "divergence", "divergence", 12,
     "divergence", "divergence"},
    {"shuffle beyond its mask", FAMILY_MICRO, MICRO_SHUFFLE_BEYOND_MASK, "divergence", "divergence",
     12, "divergence", "divergence"},
    {"misaligned vector", FAMILY_MICRO, MICRO_MISALIGNED_VECTOR, "none", "none", 0,
     "ubsan:reference binding", "none"},
    {"count of a named barrier", FAMILY_MICRO, MICRO_BARRIER_COUNT, "deadlock", "deadlock", 12,
     "deadlock", "deadlock"},
    {"right: barrier after an exit", FAMILY_MICRO, MICRO_BARRIER_AFTER_EXIT, "none", "none", 0,
     "none", "none"},
    {"spin on a block that is not resident", FAMILY_MICRO, MICRO_SPIN_ON_ABSENT_BLOCK, "livelock",
     "livelock", 3, "livelock", "livelock"},
    {"static array overrun", FAMILY_MICRO, MICRO_STATIC_OVERRUN, "none", "none", 0,
     "asan:use-after-poison", "out-of-bounds"},
    {"dynamic array overrun", FAMILY_MICRO, MICRO_DYNAMIC_OVERRUN, "none", "none", 0,
     "asan:use-after-poison", "out-of-bounds"},
    {"mbarrier: one arrives twice", FAMILY_MICRO, MICRO_MBARRIER_ARRIVES_TWICE, "mbarrier",
     "mbarrier", 12, "mbarrier", "mbarrier"},
    {"mbarrier: used before a barrier", FAMILY_MICRO, MICRO_MBARRIER_NO_SYNC, "none", "none", 6,
     "none", "mbarrier"},
    {"mbarrier: overwritten", FAMILY_MICRO, MICRO_MBARRIER_OVERWRITTEN, "mbarrier", "mbarrier", 12,
     "mbarrier", "mbarrier"},
    {"index overflow", FAMILY_MICRO, MICRO_INDEX_OVERFLOW, "none", "none", 0,
     "ubsan:signed integer", "none"},
    {"unwritten global memory", FAMILY_MICRO, MICRO_UNWRITTEN_GLOBAL, "none", "none", 0, "none",
     "uninitialised"},
    {"right: last block sums, fenced", FAMILY_MICRO, MICRO_LAST_BLOCK_FENCED, "none", "none", 0,
     "none", "none"},
    {"last block sums, unfenced", FAMILY_MICRO, MICRO_LAST_BLOCK_UNFENCED, "none", "none", 0,
     "none", "race"},
    {"right: exchange with barriers", FAMILY_MICRO, MICRO_EXCHANGE_SYNCED, "none", "none", 0,
     "none", "none"},
    {"exchange without a barrier", FAMILY_MICRO, MICRO_EXCHANGE_UNSYNCED, "none", "none", 0, "none",
     "race"},
    {"source of a copy overwritten", FAMILY_MICRO, MICRO_COPY_SOURCE_OVERWRITTEN, "none", "none", 0,
     "none", "race"},
    {"right: last warp sums, fenced", FAMILY_MICRO, MICRO_LAST_WARP_FENCED, "none", "none", 0,
     "none", "none"},
    {"last warp sums, unfenced", FAMILY_MICRO, MICRO_LAST_WARP_UNFENCED, "none", "none", 0, "none",
     "race"},
};
enum { PLANTED = sizeof planted / sizeof planted[0] };

static char report[1 << 16];
static int failures;

static void set_schedule(int order, int async) {
    simt_options_get()->order = order;
    simt_options_get()->async = async;
}
static void expect(const struct planted_bug *row, const char *where, const char *verdict,
                   const char *allowed) {
    if (layer_verdict_is(verdict, allowed)) return;
    print_error("%s, %s: %s, should be %s\n", row->name, where, verdict, allowed);
    failures++;
}

static void plain_verdicts(const struct planted_bug *row) {
    set_schedule(SIMT_FORWARD, SIMT_EARLY);
    expect(row, "early", layer_run(row->family, row->bug), row->early);
    set_schedule(SIMT_FORWARD, SIMT_LATE);
    expect(row, "late", layer_run(row->family, row->bug), row->late);
    int noticed = 0;
    for (int i = 0; i < simt_schedule_count(); i++) {
        simt_set_schedule(i);
        if (strcmp(layer_run(row->family, row->bug), "none") != 0) noticed++;
    }
    bool enough = row->schedules == 0 ? noticed == 0 : noticed >= row->schedules;
    if (enough) return;
    print_error("%s: %d of 12 schedules notice it, not %d\n", row->name, noticed, row->schedules);
    failures++;
}

static void test_planted_bugs(void **unused) {
    (void)unused;
    simt_options_get()->quiet = 1;
    simt_options_get()->symbols = 0;
    failures = 0;
    for (int i = 0; i < PLANTED; i++) {
        const struct planted_bug *row = &planted[i];
        if (simt_has_asan()) {
            set_schedule(SIMT_FORWARD, SIMT_LATE);
            expect(row, "asan", layer_run_in_child(row->family, row->bug, report, sizeof report),
                   row->asan);
        } else if (simt_is_checking()) {
            set_schedule(SIMT_FORWARD, SIMT_EARLY);
            expect(row, "check", layer_run(row->family, row->bug), row->check);
        } else {
            plain_verdicts(row);
        }
    }
    simt_options_get()->symbols = 1;
    assert_int_equal(failures, 0);
}

/* A wrong alarm would be as bad: no schedule, and no more of them than the tests use. */
static void test_right_kernels(void **unused) {
    (void)unused;
    simt_options_get()->quiet = 0;
    for (int i = 0; i < simt_schedule_count(); i++) {
        simt_set_schedule(i);
        assert_string_equal(layer_run(FAMILY_NORM, NORM_RIGHT), "none");
        assert_string_equal(layer_run(FAMILY_MMA, MMA_RIGHT), "none");
        assert_string_equal(layer_run(FAMILY_WGMMA, WGMMA_RIGHT), "none");
    }
    simt_options_get()->preempt = 50;
    assert_string_equal(layer_run(FAMILY_NORM, NORM_RIGHT), "none");
    assert_string_equal(layer_run(FAMILY_WGMMA, WGMMA_RIGHT), "none");
    simt_options_get()->preempt = 0;
    simt_options_get()->workers = 2;
    assert_string_equal(layer_run(FAMILY_MMA, MMA_RIGHT), "none");
    assert_string_equal(layer_run(FAMILY_WGMMA, WGMMA_RIGHT), "none");
    simt_options_get()->workers = 1;
}

/* Blocks that wait for each other need to be resident together. */
static void test_resident_blocks(void **unused) {
    (void)unused;
    simt_options_get()->quiet = simt_is_checking();
    simt_options_get()->gang = 2;
    for (int i = 0; i < simt_schedule_count(); i++) {
        simt_set_schedule(i);
        const char *verdict = layer_run(FAMILY_MICRO, MICRO_SPIN_ON_ABSENT_BLOCK);
        /* The flag itself is a race by the checker's rules: nothing but its value orders it. */
        assert_true(layer_verdict_is(verdict, simt_is_checking() ? "race" : "none"));
    }
    simt_options_get()->gang = 1;
}

/* The counter that shows what no comparison can: an unswizzled tile is right and slow. */
static void test_bank_conflicts(void **unused) {
    (void)unused;
    simt_stats_clear();
    assert_string_equal(layer_run(FAMILY_MMA, MMA_RIGHT), "none");
    assert_true(simt_stats_get().ldmatrix_tiles > 0);
    assert_int_equal(simt_stats_get().ldmatrix_conflicts, 0);
    assert_string_equal(layer_run(FAMILY_MMA, MMA_NO_SWIZZLE), "none");
    assert_true(simt_stats_get().ldmatrix_conflicts > 0);
}

/* A base that is not aligned as on a device shows code that relies on it. */
static void test_misaligned_base(void **unused) {
    (void)unused;
    simt_options_get()->quiet = 1;
    simt_options_get()->smem_skew = 128;
    assert_string_equal(layer_run(FAMILY_WGMMA, WGMMA_RIGHT), "wgmma");
    simt_options_get()->smem_skew = 16;
    assert_string_equal(layer_run(FAMILY_WGMMA, WGMMA_RIGHT), "tma");
    simt_options_get()->smem_skew = 0;
}

/* A report names the kernel, the line, and for a race the other line too. */
static void test_report(void **unused) {
    (void)unused;
    simt_options_get()->quiet = 1;
    set_schedule(SIMT_FORWARD, SIMT_EARLY);
    layer_run(FAMILY_WGMMA, WGMMA_PRODUCER_PHASE);
    assert_non_null(strstr(simt_last_report(), "[deadlock] kernel at wgmma_bugs.cu:"));
    assert_non_null(strstr(simt_last_report(), "8 of 8 arrivals missing"));
    assert_non_null(strstr(simt_last_report(), ") at wgmma_bugs.cu:"));
    if (!simt_is_checking()) return;
    layer_run(FAMILY_WGMMA, WGMMA_EARLY_RELEASE);
    const char *text = simt_last_report();
    assert_non_null(strstr(text, "by TMA issued by thread 0 is not ordered after the read by wgmma "
                                 "of warp"));
    const char *first = strstr(text, "at wgmma_bugs.cu:");
    assert_non_null(first);
    const char *second = strstr(first + 1, "at wgmma_bugs.cu:");
    assert_non_null(second);
    assert_non_null(strstr(second + 1, "at wgmma_bugs.cu:"));
}

/* ---- what lanes get, against the formulas of the PTX ISA ---- */

static uint32_t *device_words(size_t count) {
    void *at;
    assert_int_equal(cudaMalloc(&at, count * sizeof(uint32_t)), cudaSuccess);
    return at;
}
static void words_to_host(uint32_t *host, uint32_t *device, size_t count) {
    assert_int_equal(cudaMemcpy(host, device, count * sizeof *host, cudaMemcpyDeviceToHost),
                     cudaSuccess);
    cudaFree(device);
}

static int shuffle_source(int kind, int lane, int operand, int width) {
    int base = lane / width * width;
    int source = lane;
    switch (kind) {
    case 0: return base + operand % width;
    case 1: source = lane - operand; return source >= base ? source : lane;
    case 2: source = lane + operand; break;
    default: source = lane ^ operand; break;
    }
    return source < base + width ? source : lane;
}
static void test_shuffles(void **unused) {
    (void)unused;
    uint32_t got[32];
    for (int kind = 0; kind < 4; kind++) {
        for (int width = 1; width <= 32; width *= 2) {
            for (int operand = 0; operand < 32; operand += 1 + operand / 4) {
                uint32_t *out = device_words(32);
                assert_int_equal(warp_shuffles(out, kind, operand, width), cudaSuccess);
                words_to_host(got, out, 32);
                for (int lane = 0; lane < 32; lane++) {
                    int source = shuffle_source(kind, lane, operand, width);
                    assert_int_equal(got[lane], 1000 + source);
                }
            }
        }
    }
}

static void test_votes(void **unused) {
    (void)unused;
    static const uint32_t predicates[] = {0, 0xffffffffu, 0x49249249u, 0x00001000u, 0x12345678u};
    const uint32_t mask = 0x49249249u;
    uint32_t got[32 * 4];
    for (size_t i = 0; i < sizeof predicates / sizeof predicates[0]; i++) {
        uint32_t *out = device_words(32 * 4);
        uint32_t votes = predicates[i] & mask;
        assert_int_equal(warp_votes(out, predicates[i]), cudaSuccess);
        words_to_host(got, out, 32 * 4);
        for (int lane = 0; lane < 32; lane++) {
            assert_int_equal(got[lane * 4 + 3], lane == 0);
            if (lane % 3) continue;
            assert_int_equal(got[lane * 4], votes);
            assert_int_equal(got[lane * 4 + 1], votes != 0);
            assert_int_equal(got[lane * 4 + 2], votes == mask);
        }
    }
}

/* Register j of a lane holds elements (lane / 4, 2 * (lane % 4)) and the next of tile j. */
static uint16_t half_of(const uint32_t *registers, int tile, int row, int column) {
    uint32_t pair = registers[(row * 4 + column / 2) * 4 + tile];
    return (uint16_t)(column % 2 ? pair >> 16 : pair);
}
static void test_matrices(void **unused) {
    (void)unused;
    uint32_t in[128], got[128];
    for (uint32_t i = 0; i < 128; i++) in[i] = (2 * i + 1) << 16 | 2 * i;
    for (int variant = 0; variant < 4; variant++) {
        uint32_t *device_in = device_words(128), *out = device_words(128);
        cudaMemcpy(device_in, in, sizeof in, cudaMemcpyHostToDevice);
        assert_int_equal(warp_matrices(out, device_in, variant & 1, variant >> 1), cudaSuccess);
        words_to_host(got, out, 128);
        cudaFree(device_in);
        bool transposed = variant == 1 || variant == 2;
        for (int i = 0; i < 4 * 64; i++) {
            int row = i / 8 % 8, column = i % 8;
            int from_row = transposed ? column : row, from_column = transposed ? row : column;
            assert_int_equal(half_of(got, i / 64, row, column),
                             half_of(in, i / 64, from_row, from_column));
        }
    }
}

static void test_hand_over(void **unused) {
    (void)unused;
    uint32_t got[32];
    for (int i = 0; i < simt_schedule_count(); i++) {
        uint32_t *out = device_words(32);
        simt_set_schedule(i);
        assert_int_equal(warp_hand_over(out), cudaSuccess);
        words_to_host(got, out, 32);
        for (uint32_t lane = 0; lane < 32; lane++) assert_int_equal(got[lane], 32 + lane);
    }
}

static void test_wgmma_registers(void **unused) {
    (void)unused;
    enum { M = 64, N = 128, K = 16 };
    uint16_t a[M * K], b[K * N];
    static float got[M * N];
    /* Small integers: every sum is exact. */
    static const uint16_t bf16_of[] = {0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000}; /* -2 .. 2 */
    for (int i = 0; i < M * K; i++) a[i] = bf16_of[i * 7 % 5];
    for (int i = 0; i < K * N; i++) b[i] = bf16_of[i * 3 % 5];
    for (int i = 0; i < simt_schedule_count(); i++) {
        void *device_a, *device_b, *out;
        simt_set_schedule(i);
        cudaMalloc(&device_a, sizeof a);
        cudaMalloc(&device_b, sizeof b);
        cudaMalloc(&out, sizeof got);
        cudaMemcpy(device_a, a, sizeof a, cudaMemcpyHostToDevice);
        cudaMemcpy(device_b, b, sizeof b, cudaMemcpyHostToDevice);
        assert_int_equal(right_wgmma_registers(out, device_a, device_b), cudaSuccess);
        assert_int_equal(cudaMemcpy(got, out, sizeof got, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int at = 0; at < M * N; at++) {
            int sum = 0;
            for (int k = 0; k < K; k++) {
                sum += ((at / N * K + k) * 7 % 5 - 2) * ((k * N + at % N) * 3 % 5 - 2);
            }
            assert_true(got[at] == (float)sum);
        }
        cudaFree(device_a);
        cudaFree(device_b);
        cudaFree(out);
    }
}

/* Sums worked out by hand: exact with one rounding; sm_80, 8 terms at 24 bits behind the largest's
 * leading one; sm_90, 16 terms at 25 bits; both cut instead of rounding. */
static void test_mma_models(void **unused) {
    (void)unused;
    enum { TWO_M12 = 0x3980, TWO_M13 = 0x3900, ONE_HALF_TWO_M12 = 0x39c0, ONE = 0x3f80 };
    static const struct {
        uint16_t a, b;
        int terms;
        float c, sums[3];
    } rows[] = {
        /* 16 products of 2^-25 beside 1 */
        {TWO_M12, TWO_M13, 16, 1, {1 + 0x1p-21f, 1, 1 + 0x1p-21f}},
        {TWO_M12, TWO_M13, 16, -1, {-1 + 0x1p-21f, -1, -1 + 0x1p-21f}},
        /* one product of 1.5 * 2^-24 beside 1: rounds up, is cut */
        {TWO_M12, ONE_HALF_TWO_M12, 1, 1, {1 + 0x1p-23f, 1, 1}},
        /* no alignment lost */
        {ONE, ONE, 16, 0.5f, {16.5f, 16.5f, 16.5f}},
        {ONE, ONE, 0, -0x1p-126f, {-0x1p-126f, -0x1p-126f, -0x1p-126f}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int model = 0; model < 3; model++) {
            uint32_t got[128];
            uint32_t *out = device_words(128);
            simt_options_get()->mma_model = model;
            assert_int_equal(
                warp_product((float *)out, rows[i].a, rows[i].b, rows[i].terms, rows[i].c),
                cudaSuccess);
            words_to_host(got, out, 128);
            uint32_t right;
            memcpy(&right, &rows[i].sums[model], sizeof right);
            for (int at = 0; at < 128; at++) assert_int_equal(got[at], right);
        }
    }
    simt_options_get()->mma_model = SIMT_MMA_EXACT;
}

static int quiet_and_clean(void **unused) {
    (void)unused;
    simt_clear_error();
    (void)cudaGetLastError();
    simt_set_schedule(0);
    simt_options_get()->quiet = 0;
    return 0;
}

int main(void) {
#define LAYER_TEST(test) cmocka_unit_test_setup(test, quiet_and_clean)
    const struct CMUnitTest tests[] = {
        LAYER_TEST(test_shuffles),        LAYER_TEST(test_votes),
        LAYER_TEST(test_matrices),        LAYER_TEST(test_hand_over),
        LAYER_TEST(test_wgmma_registers), LAYER_TEST(test_right_kernels),
        LAYER_TEST(test_resident_blocks), LAYER_TEST(test_bank_conflicts),
        LAYER_TEST(test_misaligned_base), LAYER_TEST(test_mma_models),
        LAYER_TEST(test_planted_bugs),    LAYER_TEST(test_report)};
    layer_problems_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
