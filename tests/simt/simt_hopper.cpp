/* mbarriers, fences of the async proxy, and TMA. A TMA load is queued: it completes at issue, at a
 * random moment, or when nothing else can run; loads complete in random order. */
#include "simt_internal.h"

#include <algorithm>

namespace simt {

/* ---- mbarrier ---- */

/* Stands in the 8 bytes of a live mbarrier: a store over it is noticed. */
static const uint64_t MBARRIER_MARK = 0x6d62617200c0ffeeull;
static const int64_t TX_LIMIT = (1 << 20) - 1;

/* The mbarrier at an address, or null after a report. for_tma: it is given to the async proxy. */
static mbarrier *find_mbarrier(cuda_thread *t, uint32_t addr, bool for_tma, uint32_t caller) {
    block &b = *t->in_block;
    auto found = b.mbarriers.find(addr);
    if (found == b.mbarriers.end() || !found->second.valid) {
        report(t, SIMT_MBARRIER, caller, "mbarrier at +0x%x used before mbarrier.init", addr);
        return nullptr;
    }
    uint64_t content;
    memcpy(&content, smem_at(b, addr), sizeof content);
    if (content != MBARRIER_MARK) {
        report(t, SIMT_MBARRIER, caller,
               "mbarrier at +0x%x: its 8 bytes were overwritten by ordinary stores", addr);
        return nullptr;
    }
    mbarrier &m = found->second;
    if (!checking) return &m;
    if (m.init_clock > known_clock(b, *t, t->ordered, m.init_agent)) {
        report(t, SIMT_MBARRIER, caller,
               "mbarrier at +0x%x used without a barrier after mbarrier.init by %s", addr,
               agent_name(b, m.init_agent).c_str());
        return nullptr;
    }
    if (for_tma && m.init_clock > known_clock(b, *t, t->visible, m.init_agent)) {
        report(t, SIMT_PROXY_FENCE, caller,
               "mbarrier at +0x%x given to TMA: no fence.mbarrier_init or fence.proxy.async after "
               "mbarrier.init",
               addr);
        return nullptr;
    }
    return &m;
}

void mbar_init(uint32_t bar, uint32_t arrivals) {
    uint32_t caller = CALLER();
    cuda_thread *t = current_thread();
    block &b = *t->in_block;
    if (bar % 8) die(SIMT_MBARRIER, caller, "mbarrier at +0x%x is not 8-byte aligned", bar);
    if (bar < WINDOW_START || bar + 8 > b.smem_end) {
        die(SIMT_OUT_OF_BOUNDS, caller, "mbarrier at +0x%x, outside the block's memory", bar);
    }
    if (arrivals < 1 || arrivals > TX_LIMIT) {
        die(SIMT_MBARRIER, caller, "mbarrier of %u arrivals", arrivals);
    }
    mbarrier &m = b.mbarriers[bar];
    if (m.valid && !m.waiting.empty()) {
        die(SIMT_MBARRIER, caller, "mbarrier.init of a barrier that threads wait for");
    }
    m = mbarrier{};
    m.arrivals = m.missing = arrivals;
    m.valid = true;
    memcpy(smem_at(b, bar), &MBARRIER_MARK, sizeof MBARRIER_MARK);
    if (!checking) return;
    m.init_agent = agent_of(b, *t, AGENT_THREAD);
    m.init_clock = t->ordered.own[AGENT_THREAD];
    m.released.assign((size_t)b.agent_count, 0);
    m.released_visible = m.released;
    m.acquired = m.acquired_visible = std::make_shared<const clock_vector>(m.released);
}

static void end_phase_if_complete(mbarrier &m) {
    if (m.missing || m.tx_bytes) return;
    m.phase++;
    m.missing = m.arrivals;
    if (checking) {
        m.acquired = std::make_shared<const clock_vector>(m.released);
        m.acquired_visible = std::make_shared<const clock_vector>(m.released_visible);
    }
    for (cuda_thread *t : m.waiting) make_ready(t);
    m.waiting.clear();
    current_worker->progress++;
}

static void arrive(cuda_thread *t, mbarrier &m, uint32_t bar, uint32_t arrivals, uint32_t caller) {
    check_release(*t->in_block, m, *t);
    if (m.missing < arrivals) {
        die(SIMT_MBARRIER, caller, "mbarrier +0x%x: more arrivals than its count %u in phase %llu",
            bar, m.arrivals, (unsigned long long)m.phase);
    }
    m.missing -= arrivals;
    end_phase_if_complete(m);
}

void mbar_arrive(uint32_t bar, uint32_t arrivals) {
    uint32_t caller = CALLER();
    cuda_thread *t = current_thread();
    mbarrier *m = find_mbarrier(t, bar, false, caller);
    stop_if_failed();
    arrive(t, *m, bar, arrivals, caller);
}

void mbar_expect_tx(uint32_t bar, uint32_t bytes, bool arriving) {
    uint32_t caller = CALLER();
    cuda_thread *t = current_thread();
    mbarrier *m = find_mbarrier(t, bar, false, caller);
    stop_if_failed();
    m->tx_bytes += bytes;
    if (m->tx_bytes > TX_LIMIT) die(SIMT_MBARRIER, caller, "tx-count overflow");
    if (arriving) arrive(t, *m, bar, 1, caller);
}

bool mbar_try_wait(uint32_t bar, uint32_t parity, bool wait) {
    uint32_t caller = CALLER();
    cuda_thread *t = current_thread();
    if (parity > 1) die(SIMT_MBARRIER, caller, "phase parity %u", parity);
    mbarrier *m = find_mbarrier(t, bar, false, caller);
    stop_if_failed();
    if ((m->phase & 1) == parity) {
        if (!wait) {
            wait_in(POLLING, "mbarrier.test_wait", bar, parity, caller);
            return false;
        }
        uint64_t phase = m->phase;
        m->waiting.push_back(t);
        wait_in(AT_MBARRIER, "mbarrier.try_wait", bar, parity, caller);
        m = &t->in_block->mbarriers[bar];
        if (m->phase > phase + 1) {
            die(SIMT_MBARRIER, caller,
                "mbarrier +0x%x went from phase %llu to %llu before this waiter ran: a wait by "
                "parity would have missed the phase",
                bar, (unsigned long long)phase, (unsigned long long)m->phase);
        }
    }
    check_acquire(*t, *m);
    return true;
}

void fence_proxy_async() {
    check_proxy_fence(*current_thread());
}
void fence_mbar_init() {
    check_proxy_fence(*current_thread());
}

/* ---- tensor maps ---- */

/* What the layer keeps in the 128 opaque bytes. */
struct tensor_map {
    uint32_t mark;
    uint16_t rank, element_bytes;
    uint32_t swizzle;
    char *base;
    uint64_t dim[5], stride[4];
    uint16_t box[5];
};
static const uint32_t TENSOR_MAP_MARK = 0x544d4150;
static_assert(sizeof(tensor_map) <= sizeof(CUtensorMap), "fits");

static tensor_map decode_map(const CUtensorMap &opaque) {
    tensor_map m;
    memcpy(&m, &opaque, sizeof m);
    return m;
}

/* 16-byte chunks of a row trade places by the bits of the address above 127, as TMA and wgmma do
 * it. Modes are those of CUtensorMapSwizzle. */
uint32_t swizzle(uint32_t addr, int mode) {
    static const uint32_t mask[] = {0, 1, 3, 7};
    return addr ^ (addr >> 7 & mask[mode]) << 4;
}

static uint32_t element_size(CUtensorMapDataType type) {
    switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8: return 1;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32: return 4;
    default: return 2;
    }
}

/* ---- one box ---- */

/* One row of a box: its bytes [begin, end) exist in the tensor, the rest is filled with zeros. */
struct box_row {
    char *global; /* of the first byte of the row; null where none exists */
    uint32_t begin, end;
    uint32_t smem; /* before the swizzle */
};

template <class Fn> static void for_rows(const tensor_map &m, const bulk_op &op, Fn fn) {
    int index[5] = {0};
    uint32_t row_bytes = (uint32_t)m.box[0] * m.element_bytes;
    uint32_t smem = op.smem;
    for (;;) {
        bool inside = true;
        char *global = m.base;
        for (int i = 1; i < m.rank; i++) {
            int64_t at = (int64_t)op.at[i] + index[i];
            if (at < 0 || at >= (int64_t)m.dim[i]) {
                inside = false;
            } else {
                global += (uint64_t)at * m.stride[i - 1];
            }
        }
        int64_t begin = std::max<int64_t>(0, -(int64_t)op.at[0]);
        int64_t end = std::min<int64_t>(m.box[0], (int64_t)m.dim[0] - op.at[0]);
        bool exists = inside && end > begin;
        global += (int64_t)op.at[0] * m.element_bytes;
        fn(box_row{exists ? global : nullptr, (uint32_t)(begin * m.element_bytes),
                   (uint32_t)(std::max(begin, end) * m.element_bytes), smem});
        smem += row_bytes;
        int i = 1;
        while (i < m.rank && ++index[i] == m.box[i]) index[i++] = 0;
        if (i >= m.rank) return;
    }
}

static void copy_chunk(block &b, const tensor_map &m, bool store, const box_row &row, uint32_t x) {
    const uint32_t chunk = 16;
    char *shared = smem_at(b, swizzle(row.smem + x, (int)m.swizzle));
    uint32_t begin = std::max(row.begin, x);
    uint32_t end = std::min(row.end, x + chunk);
    bool any = row.global && end > begin;
    if (store) {
        if (any) memcpy(row.global + begin, shared + (begin - x), end - begin);
        return;
    }
    memset(shared, 0, chunk);
    if (any) memcpy(shared + (begin - x), row.global + begin, end - begin);
}

static void bulk_run(block &b, bulk_op &op) {
    if (op.done) return;
    op.done = true;
    tensor_map m = decode_map(op.map);
    uint32_t row_bytes = (uint32_t)m.box[0] * m.element_bytes;
    current_worker->stats.tma_boxes++;
    current_worker->progress++;
    for_rows(m, op, [&](const box_row &row) {
        for (uint32_t x = 0; x < row_bytes; x += 16) copy_chunk(b, m, op.store, row, x);
    });
    if (op.store) return;
    auto found = b.mbarriers.find(op.bar);
    if (found == b.mbarriers.end()) return;
    mbarrier &bar = found->second;
    bar.tx_bytes -= op.bytes;
    if (checking) {
        uint32_t &released = bar.released[agent_of(b, *op.issuer, AGENT_TMA)];
        released = std::max(released, op.clock);
    }
    if (bar.tx_bytes < -TX_LIMIT) report(op.issuer, SIMT_MBARRIER, 0, "tx-count underflow");
    end_phase_if_complete(bar);
}

static void check_bulk(block &b, cuda_thread *t, const tensor_map &m, bulk_op &op,
                       uint32_t caller) {
    uint32_t agent = agent_of(b, *t, AGENT_TMA);
    op.clock = agent_tick(b, agent);
    check_shared(b, *t, agent, op.clock, op.smem, op.bytes, !op.store, caller);
    for_rows(m, op, [&](const box_row &row) {
        if (!row.global) return;
        check_global(b, *t, AGENT_TMA, op.clock, row.global + row.begin, row.end - row.begin,
                     op.store, caller);
    });
    stop_if_failed();
}

static void bulk_issue(bulk_op op, const CUtensorMap *map, const int *at, int rank,
                       uint32_t caller) {
    cuda_thread *t = current_thread();
    block &b = *t->in_block;
    tensor_map m{};
    if ((uintptr_t)map % 64 == 0) m = decode_map(*map);
    if (m.mark != TENSOR_MAP_MARK) {
        die(SIMT_TMA, caller, "not a tensor map, or not 64-byte aligned: %p", (const void *)map);
    }
    if (m.rank != rank) {
        die(SIMT_TMA, caller, "%d-d instruction with a %d-d tensor map", rank, m.rank);
    }
    if (op.smem % 128) {
        die(SIMT_TMA, caller, "TMA shared address +0x%x is not 128-byte aligned", op.smem);
    }
    op.map = *map;
    op.group = t->bulk_group;
    op.issuer = t;
    op.bytes = m.element_bytes;
    for (int i = 0; i < rank; i++) {
        op.at[i] = at[i];
        op.bytes *= m.box[i];
    }
    if (op.smem < WINDOW_START || op.smem + op.bytes > b.smem_end) {
        die(SIMT_OUT_OF_BOUNDS, caller,
            "TMA box of %u bytes at shared +0x%x leaves the block's shared memory (end +0x%x)",
            op.bytes, op.smem, b.smem_end);
    }
    if (!op.store) {
        find_mbarrier(t, op.bar, true, caller);
        stop_if_failed();
    }
    if (checking) check_bulk(b, t, m, op, caller);
    int async = options().async;
    bool now =
        async == SIMT_EARLY || (async == SIMT_EITHER && (random_next(*current_worker) & 3) == 0);
    if (now && !op.store) {
        bulk_run(b, op);
        stop_if_failed();
        return;
    }
    if (!now && !op.store && options().poison) memset(smem_at(b, op.smem), 0xff, op.bytes);
    if (now) bulk_run(b, op);
    b.bulk.push_back(op);
}

void tma_load(uint32_t dst, const CUtensorMap *map, const int *at, int rank, uint32_t bar) {
    bulk_op op{};
    op.smem = dst;
    op.bar = bar;
    bulk_issue(op, map, at, rank, CALLER());
}
void tma_store(const CUtensorMap *map, const int *at, int rank, uint32_t src) {
    bulk_op op{};
    op.smem = src;
    op.store = true;
    bulk_issue(op, map, at, rank, CALLER());
}
void bulk_commit() {
    current_thread()->bulk_group++;
}

void bulk_wait(int keep, bool) {
    cuda_thread *t = current_thread();
    block &b = *t->in_block;
    for (size_t i = 0; i < b.bulk.size();) {
        bulk_op &op = b.bulk[i];
        bool waited_for = op.store && op.issuer == t && (int)op.group + keep < (int)t->bulk_group;
        if (!waited_for) {
            i++;
            continue;
        }
        bulk_run(b, op);
        uint32_t &known = t->ordered.own[AGENT_TMA];
        known = std::max(known, op.clock);
        b.bulk.erase(b.bulk.begin() + (ptrdiff_t)i);
    }
}

bool bulk_load_one(worker &w) {
    uint64_t seen = 0;
    block *chosen_block = nullptr;
    size_t chosen = 0;
    for (block &b : w.blocks) {
        for (size_t i = 0; i < b.bulk.size(); i++) {
            if (b.bulk[i].store || random_next(w) % ++seen != 0) continue;
            chosen_block = &b;
            chosen = i;
        }
    }
    if (!chosen_block) return false;
    bulk_op op = chosen_block->bulk[chosen];
    chosen_block->bulk.erase(chosen_block->bulk.begin() + (ptrdiff_t)chosen);
    bulk_run(*chosen_block, op);
    return true;
}

} // namespace simt

using namespace simt;

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank,
                                void *base, const cuuint64_t *dim, const cuuint64_t *stride_bytes,
                                const cuuint32_t *box, const cuuint32_t *element_stride,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle mode,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
    static const uint32_t span[] = {0, 32, 64, 128};
    tensor_map m{};
    bool legal = (uintptr_t)map % 64 == 0 && (uintptr_t)base % 16 == 0 && rank >= 1 && rank <= 5 &&
                 interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
                 (unsigned)mode <= CU_TENSOR_MAP_SWIZZLE_128B;
    if (!legal) return CUDA_ERROR_INVALID_VALUE;
    m.mark = TENSOR_MAP_MARK;
    m.rank = (uint16_t)rank;
    m.element_bytes = (uint16_t)element_size(type);
    m.swizzle = mode;
    m.base = (char *)base;
    for (uint32_t i = 0; i < rank; i++) {
        if (!dim[i] || dim[i] > 1ull << 32 || !box[i] || box[i] > 256 || element_stride[i] != 1) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        m.dim[i] = dim[i];
        m.box[i] = (uint16_t)box[i];
        if (i + 1 == rank) break;
        uint64_t inner = i ? stride_bytes[i - 1] : m.element_bytes;
        if (stride_bytes[i] % 16 || stride_bytes[i] >= 1ull << 40 ||
            stride_bytes[i] < dim[i] * inner) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        m.stride[i] = stride_bytes[i];
    }
    uint32_t row_bytes = box[0] * m.element_bytes;
    if (row_bytes % 16 || (mode && row_bytes > span[mode])) return CUDA_ERROR_INVALID_VALUE;
    memset(map, 0, sizeof *map);
    memcpy(map, &m, sizeof m);
    return CUDA_SUCCESS;
}
