/* wgmma: a collective of each warp of a warpgroup, which owns 16 of the 64 rows of the result, so
 * that the four warps are not synchronised for free. The accumulator is taken from the kernel until
 * wait_group: it sees NaN meanwhile. */
#include "simt_internal.h"

#include <algorithm>

namespace simt {

/* ---- operands in shared memory ---- */

/* Fields of a matrix descriptor, PTX ISA "Matrix descriptor format". */
struct operand_desc {
    uint32_t start, leading_bytes, stride_bytes, base_offset;
    int swizzle; /* numbered as CUtensorMapSwizzle */
};
static operand_desc decode_desc(uint64_t desc) {
    static const int swizzle_of_mode[] = {0, 3, 2, 1};
    operand_desc d;
    d.start = (uint32_t)(desc & 0x3fff) << 4;
    d.leading_bytes = (uint32_t)(desc >> 16 & 0x3fff) << 4;
    d.stride_bytes = (uint32_t)(desc >> 32 & 0x3fff) << 4;
    d.base_offset = (uint32_t)(desc >> 49 & 7);
    d.swizzle = swizzle_of_mode[desc >> 62];
    return d;
}

uint32_t wgmma_operand_addr(uint64_t desc, bool mn_major, int mn_index, int k_index) {
    static const uint32_t row_bytes[] = {16, 32, 64, 128};
    operand_desc d = decode_desc(desc);
    uint32_t row = row_bytes[d.swizzle];
    uint32_t mn = (uint32_t)mn_index;
    uint32_t k = (uint32_t)k_index;
    uint32_t offset;
    if (!mn_major) {
        offset = mn % 8 * row + mn / 8 * d.stride_bytes;
        offset += d.swizzle ? k * 2 : k / 8 * d.leading_bytes + k % 8 * 2;
    } else {
        uint32_t per_row = row / 2;
        uint32_t mn_step = d.swizzle ? d.leading_bytes : d.stride_bytes;
        uint32_t k_step = d.swizzle ? d.stride_bytes : d.leading_bytes;
        offset = mn % per_row * 2 + mn / per_row * mn_step + k % 8 * row + k / 8 * k_step;
    }
    return swizzle(d.start + offset, d.swizzle);
}

static float operand_at(block &b, uint64_t desc, bool mn_major, int mn, int k) {
    uint16_t half;
    memcpy(&half, smem_at(b, wgmma_operand_addr(desc, mn_major, mn, k)), sizeof half);
    return bf16_low(half);
}

static bool desc_is_legal(block &b, cuda_thread *t, uint64_t desc, bool mn_major, int size,
                          const char *name, uint32_t caller) {
    const uint64_t reserved = 0x3fffull << 48 & ~(7ull << 49);
    static const uint32_t pattern_mask[] = {0, 1, 3, 7};
    static const int pattern_bytes[] = {0, 256, 512, 1024};
    operand_desc d = decode_desc(desc);
    if (desc & reserved) {
        report(t, SIMT_WGMMA, caller, "wgmma descriptor %s: reserved bits are set: %016llx", name,
               (unsigned long long)desc);
        return false;
    }
    if (d.swizzle && (d.start >> 7 & pattern_mask[d.swizzle]) != d.base_offset) {
        report(t, SIMT_WGMMA, caller,
               "wgmma descriptor %s: +0x%x is not the start of a %d-byte swizzle pattern, and "
               "base_offset is %u",
               name, d.start, pattern_bytes[d.swizzle], d.base_offset);
        return false;
    }
    for (int i = 0; i < size; i += 8) {
        for (int k = 0; k < 16; k += 8) {
            uint32_t addr = wgmma_operand_addr(desc, mn_major, i, k);
            if (addr >= WINDOW_START && addr + 16 <= b.smem_end) continue;
            report(t, SIMT_OUT_OF_BOUNDS, caller,
                   "wgmma descriptor %s reads shared +0x%x, outside the block's shared memory "
                   "(end +0x%x)",
                   name, addr, b.smem_end);
            return false;
        }
    }
    return true;
}

/* ---- execution ---- */

static hidden_accumulator *find_hidden(warp &w, int lane, const float *d) {
    for (hidden_accumulator &h : w.accumulators[lane]) {
        if (h.d == d) return &h;
    }
    return nullptr;
}

/* Where element i of a lane's accumulator stands in the 16 x n result of its warp. */
static size_t result_index(int lane, int i, int n) {
    int row = (lane >> 2) + (i >> 1 & 1) * 8;
    int column = (i >> 2) * 8 + (lane & 3) * 2 + (i & 1);
    return (size_t)(row * n + column);
}

static void load_a(warp &w, const wgmma_op &op, float (*a)[16]) {
    if (!op.a_in_regs) {
        int first = (w.index & 3) * 16;
        for (int row = 0; row < 16; row++) {
            for (int k = 0; k < 16; k++) {
                a[row][k] = operand_at(*w.in_block, op.a_desc, op.transpose_a, first + row, k);
            }
        }
        return;
    }
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 4; i++) {
            int row = (lane >> 2) + (i & 1) * 8;
            int k = (lane & 3) * 2 + (i >> 1) * 8;
            a[row][k] = bf16_low(op.a_regs[lane][i]);
            a[row][k + 1] = bf16_high(op.a_regs[lane][i]);
        }
    }
}

static void wgmma_run(warp &w, wgmma_op &op) {
    if (op.done) return;
    static thread_local std::vector<float> b, d;
    float a[16][16];
    int n = op.n;
    op.done = true;
    current_worker->stats.wgmmas++;
    current_worker->progress++;
    b.resize((size_t)(16 * n));
    d.resize((size_t)(16 * n));
    load_a(w, op, a);
    for (int column = 0; column < n; column++) {
        for (int k = 0; k < 16; k++) {
            b[(size_t)(k * n + column)] =
                operand_at(*w.in_block, op.b_desc, op.transpose_b, column, k);
        }
    }
    for (int lane = 0; lane < LANES; lane++) {
        const std::vector<float> &values = find_hidden(w, lane, op.d[lane])->values;
        for (int i = 0; i < n / 2; i++) {
            d[result_index(lane, i, n)] = op.scale_d ? values[(size_t)i] : 0.0f;
        }
    }
    mma_core(n, a, b.data(), d.data());
    for (int lane = 0; lane < LANES; lane++) {
        std::vector<float> &values = find_hidden(w, lane, op.d[lane])->values;
        for (int i = 0; i < n / 2; i++) values[(size_t)i] = d[result_index(lane, i, n)];
    }
}

/* ---- issue ---- */

struct wgmma_arg {
    float *d;
    const uint32_t *a_regs;
    uint64_t a_desc, b_desc;
    int n, scale_d;
    bool transpose_a, transpose_b;
    uint32_t caller;
};

static bool lanes_agree(warp &w, void **args) {
    const wgmma_arg &first = *(wgmma_arg *)args[0];
    for (int lane = 1; lane < LANES; lane++) {
        const wgmma_arg &x = *(wgmma_arg *)args[lane];
        if (x.a_desc == first.a_desc && x.b_desc == first.b_desc && x.scale_d == first.scale_d) {
            continue;
        }
        report(&lane_of(w, lane), SIMT_WGMMA, x.caller, "wgmma operands differ between lanes");
        return false;
    }
    return true;
}

/* The warps of a warpgroup must issue the same sequence. */
static bool warps_agree(warp &w, const wgmma_arg &x) {
    std::vector<uint64_t> &sequence = w.in_block->wgmma_sequence[(size_t)w.index / 4];
    uint64_t key = x.a_desc * 31 ^ x.b_desc * 1000003 ^ (uint64_t)x.n;
    if (w.wgmma_count == sequence.size()) {
        sequence.push_back(key);
    } else if (sequence[w.wgmma_count] != key) {
        report(&lane_of(w, 0), SIMT_WGMMA, x.caller,
               "warps of a warpgroup issue different wgmma instructions");
        return false;
    }
    w.wgmma_count++;
    return true;
}

static void check_operand(block &b, cuda_thread &t, const wgmma_op &op, uint64_t desc,
                          bool mn_major, int first, int size, uint32_t caller) {
    uint32_t agent = agent_of(b, t, AGENT_WGMMA);
    int mn_step = mn_major ? 8 : 1;
    int k_step = mn_major ? 1 : 8;
    for (int mn = first; mn < first + size; mn += mn_step) {
        for (int k = 0; k < 16; k += k_step) {
            uint32_t addr = wgmma_operand_addr(desc, mn_major, mn, k);
            check_shared(b, t, agent, op.clock, addr, 16, false, caller);
        }
    }
}

static void check_operands(warp &w, wgmma_op &op, uint32_t caller) {
    block &b = *w.in_block;
    cuda_thread &t = lane_of(w, 0);
    op.clock = agent_tick(b, agent_of(b, t, AGENT_WGMMA));
    check_join_into(b, t, w); /* .sync: the warp has converged here */
    if (!op.a_in_regs) {
        check_operand(b, t, op, op.a_desc, op.transpose_a, (w.index & 3) * 16, 16, caller);
    }
    check_operand(b, t, op, op.b_desc, op.transpose_b, 0, op.n, caller);
}

/* Takes the accumulator of a lane, unless an earlier wgmma has it already. */
static bool take_accumulator(warp &w, int lane, float *d, int n, uint32_t caller) {
    hidden_accumulator *h = find_hidden(w, lane, d);
    if (!h) {
        if (!w.wgmma_fenced) {
            report(&lane_of(w, 0), SIMT_WGMMA, caller,
                   "wgmma on accumulator registers without wgmma.fence after they were touched");
            return false;
        }
        w.accumulators[lane].push_back({d, 0, std::vector<float>(d, d + n / 2)});
        h = &w.accumulators[lane].back();
        memset(d, 0xff, (size_t)(n / 2) * sizeof(float));
    }
    h->pending++;
    return true;
}

static void wgmma_issue(warp &w, uint32_t, void **args) {
    block &b = *w.in_block;
    cuda_thread *t = &lane_of(w, 0);
    const wgmma_arg &x = *(wgmma_arg *)args[0];
    if ((w.index | 3) >= b.warp_count) {
        report(t, SIMT_WGMMA, x.caller, "wgmma needs 4 consecutive warps");
        return;
    }
    if (x.n < 8 || x.n > 256 || x.n % 8) {
        report(t, SIMT_WGMMA, x.caller, "wgmma with N = %d", x.n);
        return;
    }
    if (!lanes_agree(w, args) || !warps_agree(w, x)) return;
    if (!x.a_regs && !desc_is_legal(b, t, x.a_desc, x.transpose_a, 64, "A", x.caller)) return;
    if (!desc_is_legal(b, t, x.b_desc, x.transpose_b, x.n, "B", x.caller)) return;
    wgmma_op op{};
    op.a_in_regs = x.a_regs != nullptr;
    op.transpose_a = x.transpose_a;
    op.transpose_b = x.transpose_b;
    op.a_desc = x.a_desc;
    op.b_desc = x.b_desc;
    op.n = x.n;
    op.scale_d = x.scale_d;
    op.group = w.wgmma_group;
    if (checking) check_operands(w, op, x.caller);
    if (current_worker->failed) return;
    for (int lane = 0; lane < LANES; lane++) {
        const wgmma_arg &own = *(wgmma_arg *)args[lane];
        op.d[lane] = own.d;
        if (own.a_regs) memcpy(op.a_regs[lane], own.a_regs, sizeof op.a_regs[lane]);
        if (!take_accumulator(w, lane, own.d, x.n, x.caller)) return;
    }
    w.wgmmas.push_back(op);
    int async = options().async;
    bool now = async == SIMT_EARLY || (async == SIMT_EITHER && (random_next(*current_worker) & 1));
    if (!now) return;
    for (wgmma_op &queued : w.wgmmas) wgmma_run(w, queued);
}

void wgmma_bf16(int n, float *d, const uint32_t *a_regs, uint64_t a_desc, uint64_t b_desc,
                int scale_d, bool transpose_a, bool transpose_b) {
    wgmma_arg x{d, a_regs, a_desc, b_desc, n, scale_d, transpose_a, transpose_b, CALLER()};
    collective("wgmma.mma_async", FULL_MASK, &x, wgmma_issue, x.caller);
}

static void fence_run(warp &w, uint32_t, void **) {
    w.wgmma_fenced = true;
}
void wgmma_fence() {
    collective("wgmma.fence", FULL_MASK, nullptr, fence_run, CALLER());
}
static void commit_run(warp &w, uint32_t, void **) {
    w.wgmma_group++;
}
void wgmma_commit() {
    collective("wgmma.commit_group", FULL_MASK, nullptr, commit_run, CALLER());
}

/* ---- wait ---- */

/* Gives a lane its accumulator back when the last wgmma on it is done. */
static bool give_back(warp &w, int lane, float *d) {
    std::vector<hidden_accumulator> &all = w.accumulators[lane];
    size_t i = 0;
    while (all[i].d != d) i++;
    hidden_accumulator &h = all[i];
    if (--h.pending > 0) return true;
    uint32_t first;
    memcpy(&first, d, sizeof first);
    if (first != 0xffffffffu) {
        report(&lane_of(w, lane), SIMT_WGMMA, lane_of(w, lane).caller,
               "accumulator register written while wgmma was in flight");
        return false;
    }
    memcpy(d, h.values.data(), h.values.size() * sizeof(float));
    all.erase(all.begin() + (ptrdiff_t)i);
    w.wgmma_fenced = false;
    return true;
}

static void wait_run(warp &w, uint32_t, void **args) {
    int keep = *(int *)args[0];
    ptrdiff_t finished = 0;
    for (wgmma_op &op : w.wgmmas) {
        if ((int)op.group + keep >= (int)w.wgmma_group) break;
        wgmma_run(w, op);
        finished++;
        for (int lane = 0; lane < LANES; lane++) {
            if (!give_back(w, lane, op.d[lane])) return;
            uint32_t &known = lane_of(w, lane).ordered.own[AGENT_WGMMA];
            known = std::max(known, op.clock);
        }
    }
    w.wgmmas.erase(w.wgmmas.begin(), w.wgmmas.begin() + finished);
}
void wgmma_wait(int keep) {
    collective("wgmma.wait_group", FULL_MASK, &keep, wait_run, CALLER());
}

} // namespace simt
