/* What the lanes of a warp do together (shuffles, votes, ldmatrix, mma.sync), the barriers of a
 * block, cp.async and atomics. There is no hidden convergence: lanes run far apart between two
 * collectives, and meet only in one. */
#include "simt_internal.h"

#include <algorithm>

namespace simt {

/* ---- meeting of lanes ---- */

static collective_op *find_pending(warp &w, const char *kind, uint32_t mask, uint32_t caller) {
    for (int i = 0; i < w.pending_count; i++) {
        collective_op &op = w.pending[i];
        if (op.mask == mask) return &op;
        if (!(op.mask & mask)) continue;
        die(SIMT_DIVERGENCE, caller, "%s with mask %08x while lanes %08x wait in %s with mask %08x",
            kind, mask, op.arrived, op.kind, op.mask);
    }
    return nullptr;
}

void collective(const char *kind, uint32_t mask, void *arg, collective_fn fn, uint32_t caller) {
    cuda_thread *t = current_thread();
    warp &w = *t->in_warp;
    uint32_t bit = 1u << t->lane;
    if (!(mask & bit)) {
        die(SIMT_DIVERGENCE, caller, "%s: lane %d is not in its own mask %08x", kind, t->lane,
            mask);
    }
    mask &= w.existing;
    if (mask & ~w.live) {
        die(SIMT_DIVERGENCE, caller, "%s with mask %08x, but lanes %08x of the warp have exited",
            kind, mask, mask & ~w.live);
    }
    collective_op *op = find_pending(w, kind, mask, caller);
    if (!op) {
        op = &w.pending[w.pending_count++];
        op->kind = kind;
        op->mask = mask;
        op->arrived = 0;
        op->run = fn;
    } else if (op->kind != kind) {
        die(SIMT_DIVERGENCE, caller,
            "lanes of one warp meet in different instructions: %s here, %s in lanes %08x", kind,
            op->kind, op->arrived);
    }
    op->arrived |= bit;
    op->args[t->lane] = arg;
    if (op->arrived != mask) {
        wait_in(AT_COLLECTIVE, kind, mask, 0, caller);
        return;
    }
    void *args[LANES];
    memcpy(args, op->args, sizeof args);
    *op = w.pending[--w.pending_count];
    current_worker->stats.collectives++;
    t->caller = caller;
    fn(w, mask, args);
    stop_if_failed();
    for (uint32_t rest = mask & ~bit; rest; rest &= rest - 1) {
        make_ready(&lane_of(w, __builtin_ctz(rest)));
    }
}

/* ---- shuffles and votes ---- */

struct shuffle_arg {
    uint64_t value, result;
    int operand, width;
    shuffle_kind kind;
};

static int shuffle_source(const shuffle_arg &a, int lane) {
    int segment = lane & ~(a.width - 1);
    int source;
    switch (a.kind) {
    case SHUFFLE_INDEX: return segment + (a.operand & (a.width - 1));
    case SHUFFLE_UP: source = lane - a.operand; return source < segment ? lane : source;
    case SHUFFLE_DOWN: source = lane + a.operand; break;
    default: source = lane ^ a.operand; break;
    }
    return source >= segment + a.width ? lane : source;
}

static void shuffle_run(warp &w, uint32_t mask, void **args) {
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        shuffle_arg &a = *(shuffle_arg *)args[lane];
        int source = shuffle_source(a, lane);
        bool taking_part = mask >> source & 1;
        if (!taking_part && (w.existing >> source & 1)) {
            report(&lane_of(w, lane), SIMT_DIVERGENCE, lane_of(w, lane).caller,
                   "shuffle reads lane %d, which is not in mask %08x", source, mask);
            return;
        }
        a.result = taking_part ? ((shuffle_arg *)args[source])->value : a.value;
    }
}

uint64_t shuffle(uint32_t mask, uint64_t value, int operand, shuffle_kind kind, int width) {
    shuffle_arg a{value, value, operand, width, kind};
    collective("__shfl_sync", mask, &a, shuffle_run, CALLER());
    return a.result;
}

struct vote_arg {
    int predicate;
    uint32_t votes, mask;
};
static void vote_run(warp &, uint32_t mask, void **args) {
    uint32_t votes = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (((vote_arg *)args[lane])->predicate) votes |= 1u << lane;
    }
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        vote_arg &a = *(vote_arg *)args[__builtin_ctz(rest)];
        a.votes = votes;
        a.mask = mask;
    }
}
uint32_t ballot(uint32_t mask, int predicate) {
    vote_arg a{predicate, 0, 0};
    collective("a vote", mask, &a, vote_run, CALLER());
    return a.votes;
}
bool all_lanes(uint32_t mask, int predicate) {
    vote_arg a{predicate, 0, 0};
    collective("a vote", mask, &a, vote_run, CALLER());
    return a.votes == a.mask;
}
bool elect_one() {
    vote_arg a{1, 0, 0};
    collective("elect.sync", FULL_MASK, &a, vote_run, CALLER());
    return __builtin_ctz(a.mask) == current_thread()->lane;
}

static void syncwarp_run(warp &w, uint32_t mask, void **) {
    cuda_thread *lanes[LANES];
    int count = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        lanes[count++] = &lane_of(w, __builtin_ctz(rest));
    }
    check_join(*w.in_block, lanes, count);
}
void syncwarp(uint32_t mask) {
    collective("__syncwarp", mask, nullptr, syncwarp_run, CALLER());
}

void setmaxnreg(int registers) {
    bool legal = registers % 8 == 0 && registers >= 24 && registers <= 256;
    if (!legal) die(SIMT_LAUNCH, CALLER(), "setmaxnreg %d", registers);
}
void trap() {
    die(SIMT_TRAP, CALLER(), "__trap()");
}
void threadfence() {
    current_thread()->fenced_global = true;
}

/* ---- barriers of a block ---- */

void barrier_try(block &b, int id) {
    named_barrier &barrier = b.barriers[id];
    int need = barrier.threads ? barrier.threads : b.live;
    if (!barrier.arrived || barrier.arrived < need) return;
    current_worker->stats.barriers++;
    check_join(b, barrier.participants.data(), (int)barrier.participants.size());
    barrier.arrived = 0;
    barrier.threads = 0;
    barrier.participants.clear();
    for (cuda_thread *t : barrier.waiting) make_ready(t);
    barrier.waiting.clear();
}

static void barrier_enter(int id, int threads, bool wait, uint32_t caller) {
    cuda_thread *t = current_thread();
    block &b = *t->in_block;
    if (id < 0 || id > 15) die(SIMT_DIVERGENCE, caller, "named barrier %d", id);
    named_barrier &barrier = b.barriers[id];
    if (threads % LANES || threads > b.warp_count * LANES) {
        die(SIMT_DIVERGENCE, caller, "barrier %d of %d threads in a block of %d", id, threads,
            b.thread_count);
    }
    if (barrier.arrived && barrier.threads != threads) {
        die(SIMT_DIVERGENCE, caller, "barrier %d: this thread says %d threads, others said %d", id,
            threads, barrier.threads);
    }
    barrier.threads = threads;
    barrier.arrived++;
    if (checking) barrier.participants.push_back(t);
    if (!wait) {
        barrier_try(b, id);
        return;
    }
    barrier.waiting.push_back(t);
    t->state = AT_BARRIER;
    t->waits_in = threads ? "bar.sync" : "__syncthreads";
    t->wait_operand = (uint32_t)id;
    t->wait_detail = (uint32_t)threads;
    t->caller = caller;
    barrier_try(b, id);
    to_scheduler();
}
void bar_sync(int id, int threads) {
    barrier_enter(id, threads, true, CALLER());
}
void bar_arrive(int id, int threads) {
    barrier_enter(id, threads, false, CALLER());
}

/* ---- cp.async ---- */

void copy_run(block &b, copy_op &op) {
    if (op.done) return;
    op.done = true;
    char *dst = smem_at(b, op.dst);
    memcpy(dst, op.src, op.src_bytes);
    memset(dst + op.src_bytes, 0, (size_t)(op.bytes - op.src_bytes));
}

static bool takes_effect_now() {
    int async = options().async;
    return async == SIMT_EARLY || (async == SIMT_EITHER && (random_next(*current_worker) & 1));
}

void cp_async(uint32_t dst, const void *src, int bytes, int src_bytes) {
    uint32_t caller = CALLER();
    cuda_thread *t = current_thread();
    block &b = *t->in_block;
    current_worker->stats.cp_asyncs++;
    if (src_bytes < 0 || src_bytes > bytes) {
        die(SIMT_CP_ASYNC, caller, "cp.async of %d bytes with src-size %d", bytes, src_bytes);
    }
    if (dst % (uint32_t)bytes || (src_bytes && (uintptr_t)src % (uintptr_t)bytes)) {
        die(SIMT_MISALIGNED, caller, "cp.async of %d bytes: shared +0x%x, global %p", bytes, dst,
            src);
    }
    if (dst < WINDOW_START || dst + (uint32_t)bytes > b.smem_end) {
        die(SIMT_OUT_OF_BOUNDS, caller, "cp.async to shared +0x%x, outside the block's memory",
            dst);
    }
    copy_op op{src, dst, t->copy_group, 0, (uint8_t)bytes, (uint8_t)src_bytes, false};
    if (checking) {
        uint32_t agent = agent_of(b, *t, AGENT_CP_ASYNC);
        op.clock = agent_tick(b, agent);
        check_shared(b, *t, agent, op.clock, dst, (uint32_t)bytes, true, caller);
        if (src_bytes) {
            check_global(b, *t, AGENT_CP_ASYNC, op.clock, src, (size_t)src_bytes, false, caller);
        }
        stop_if_failed();
    }
    /* Read at issue too, so that ASan names this line and not the wait. */
    if (src_bytes) {
        (void)*(const volatile char *)src;
        (void)((const volatile char *)src)[src_bytes - 1];
    }
    if (takes_effect_now()) {
        copy_run(b, op);
    } else if (options().poison) {
        memset(smem_at(b, dst), 0xff, (size_t)bytes);
    }
    t->copies.push_back(op);
}
void cp_async_commit() {
    current_thread()->copy_group++;
}
void cp_async_wait(int keep) {
    cuda_thread *t = current_thread();
    uint32_t last_clock = 0;
    ptrdiff_t finished = 0;
    for (copy_op &op : t->copies) {
        if ((int)op.group + keep >= (int)t->copy_group) break;
        copy_run(*t->in_block, op);
        last_clock = op.clock;
        finished++;
    }
    t->copies.erase(t->copies.begin(), t->copies.begin() + finished);
    uint32_t &known = t->ordered.own[AGENT_CP_ASYNC];
    known = std::max(known, last_clock);
}

/* ---- ldmatrix, stmatrix ---- */

struct matrix_arg {
    uint32_t *r;
    uint32_t addr, caller;
    int tiles;
    bool transposed, store;
};
typedef uint16_t tile_8x8[8][8];

static bool matrix_row_ok(block &b, cuda_thread &t, const matrix_arg &a, uint32_t clock) {
    if (a.addr % 16) {
        report(&t, SIMT_MISALIGNED, a.caller, "ldmatrix row address +0x%x is not 16-byte aligned",
               a.addr);
        return false;
    }
    if (a.addr < WINDOW_START || a.addr + 16 > b.smem_end) {
        report(&t, SIMT_OUT_OF_BOUNDS, a.caller,
               "ldmatrix row address +0x%x is outside the block's shared memory (+0x%x..+0x%x)",
               a.addr, WINDOW_START, b.smem_end);
        return false;
    }
    if (!checking) return true;
    if (a.store) {
        uint32_t agent = agent_of(b, t, AGENT_THREAD);
        check_shared(b, t, agent, t.ordered.own[AGENT_THREAD], a.addr, 16, true, a.caller);
    } else {
        uint32_t agent = agent_of(b, t, AGENT_LDMATRIX);
        check_shared(b, t, agent, clock, a.addr, 16, false, a.caller);
    }
    return !current_worker->failed;
}

/* Wavefronts that 8 rows of 16 bytes need beyond the first: rows in one group of 4 banks queue. */
static unsigned bank_conflicts(const uint32_t *addr) {
    unsigned rows_in_group[8] = {0};
    unsigned most = 1;
    for (int i = 0; i < 8; i++) {
        if (std::find(addr, addr + i, addr[i]) != addr + i) continue;
        most = std::max(most, ++rows_in_group[addr[i] / 16 % 8]);
    }
    return most - 1;
}

/* Lane l holds elements (l / 4, 2 * (l % 4)) and the next of its row; transposed, of its column. */
static void exchange_tile(tile_8x8 &tile, void **args, int index, bool store, bool transposed) {
    for (int lane = 0; lane < LANES; lane++) {
        uint32_t &reg = ((matrix_arg *)args[lane])->r[index];
        int row = lane >> 2;
        int column = 2 * (lane & 3);
        uint16_t &low = transposed ? tile[column][row] : tile[row][column];
        uint16_t &high = transposed ? tile[column + 1][row] : tile[row][column + 1];
        if (!store) {
            reg = low | (uint32_t)high << 16;
        } else {
            low = (uint16_t)reg;
            high = (uint16_t)(reg >> 16);
        }
    }
}

static void matrix_run(warp &w, uint32_t, void **args) {
    block &b = *w.in_block;
    const matrix_arg &first = *(matrix_arg *)args[0];
    uint32_t agent = agent_of(b, lane_of(w, 0), AGENT_LDMATRIX);
    uint32_t clock = agent_tick(b, agent);
    for (int index = 0; index < first.tiles; index++) {
        uint32_t addr[8];
        tile_8x8 tile;
        for (int row = 0; row < 8; row++) {
            int lane = index * 8 + row;
            const matrix_arg &a = *(matrix_arg *)args[lane];
            if (!matrix_row_ok(b, lane_of(w, lane), a, clock)) return;
            addr[row] = a.addr;
            if (!first.store) memcpy(tile[row], smem_at(b, a.addr), 16);
        }
        current_worker->stats.ldmatrix_tiles++;
        current_worker->stats.ldmatrix_conflicts += bank_conflicts(addr);
        exchange_tile(tile, args, index, first.store, first.transposed);
        if (!first.store) continue;
        for (int row = 0; row < 8; row++) memcpy(smem_at(b, addr[row]), tile[row], 16);
    }
    if (!checking || first.store) return;
    for (int lane = 0; lane < LANES; lane++) lane_of(w, lane).ordered.own[AGENT_LDMATRIX] = clock;
}
void ldmatrix(int tiles, bool transposed, uint32_t *r, uint32_t addr) {
    matrix_arg a{r, addr, CALLER(), tiles, transposed, false};
    collective("ldmatrix.sync.aligned", FULL_MASK, &a, matrix_run, a.caller);
}
void stmatrix(int tiles, bool transposed, uint32_t addr, const uint32_t *r) {
    matrix_arg a{(uint32_t *)r, addr, CALLER(), tiles, transposed, true};
    collective("stmatrix.sync.aligned", FULL_MASK, &a, matrix_run, a.caller);
}

/* ---- mma.sync ---- */

struct mma_arg {
    float *d;
    const uint32_t *a, *b;
    const float *c;
};

/* Fragments of m16n8k16: lane = 4 * group + t; rows group and group + 8, columns 2 t, 2 t + 1. */
static void mma_run(warp &, uint32_t, void **args) {
    float a[16][16], b[16][8], c[16][8];
    current_worker->stats.mmas++;
    for (int lane = 0; lane < LANES; lane++) {
        const mma_arg &x = *(mma_arg *)args[lane];
        int group = lane >> 2;
        int t = (lane & 3) * 2;
        for (int i = 0; i < 4; i++) {
            int row = group + (i & 1) * 8;
            int k = t + (i >> 1) * 8;
            a[row][k] = bf16_low(x.a[i]);
            a[row][k + 1] = bf16_high(x.a[i]);
            c[group + (i >> 1) * 8][t + (i & 1)] = x.c[i];
        }
        for (int i = 0; i < 2; i++) {
            int k = t + i * 8;
            b[k][group] = bf16_low(x.b[i]);
            b[k + 1][group] = bf16_high(x.b[i]);
        }
    }
    mma_core(8, a, &b[0][0], &c[0][0]);
    for (int lane = 0; lane < LANES; lane++) {
        const mma_arg &x = *(mma_arg *)args[lane];
        int group = lane >> 2;
        int t = (lane & 3) * 2;
        for (int i = 0; i < 4; i++) x.d[i] = c[group + (i >> 1) * 8][t + (i & 1)];
    }
}
void mma_m16n8k16_bf16(float *d, const uint32_t *a, const uint32_t *b, const float *c) {
    mma_arg x{d, a, b, c};
    collective("mma.sync.aligned", FULL_MASK, &x, mma_run, CALLER());
}

/* ---- atomics: real ones, since blocks may run on several OS threads ---- */

template <class T> T atomic_add(T *at, T value) {
    check_atomic(at, sizeof(T), CALLER());
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
template <class T> T atomic_exchange(T *at, T value) {
    check_atomic(at, sizeof(T), CALLER());
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
}
template <class T> T atomic_cas(T *at, T expected, T value) {
    check_atomic(at, sizeof(T), CALLER());
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}
#define SIMT_ATOMICS(T)                                                                            \
    template T atomic_add<T>(T *, T);                                                              \
    template T atomic_exchange<T>(T *, T);                                                         \
    template T atomic_cas<T>(T *, T, T);
SIMT_ATOMICS(int)
SIMT_ATOMICS(unsigned)
SIMT_ATOMICS(unsigned long long)

} // namespace simt
