/* Fibers and the scheduler: blocks of a grid are run one gang after another, each CUDA thread as a
 * fiber that runs until it waits. Also shared memory, whose arrays are placed with red zones. */
#include "simt_internal.h"

#include <algorithm>
#include <atomic>
#include <sys/mman.h>
#include <thread>

#ifdef SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define POISON(ptr, bytes)   __asan_poison_memory_region(ptr, bytes)
#define UNPOISON(ptr, bytes) __asan_unpoison_memory_region(ptr, bytes)
#else
#define POISON(ptr, bytes)   (void)0
#define UNPOISON(ptr, bytes) (void)0
#endif

namespace simt {

__thread thread_context *self;
__thread worker *current_worker;

/* ---- context switch ---- */

#ifndef SIMT_USES_UCONTEXT
/* 20 lines of our own because swapcontext makes two system calls: 12 times slower. Saves what the
 * x86-64 calling convention lets a callee keep. */
extern "C" void simt_switch_stacks(void **save, void *load);
asm(R"(
.text
.globl simt_switch_stacks
.type simt_switch_stacks,@function
simt_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stacks,.-simt_switch_stacks
.section .note.GNU-stack,"",@progbits
.text
)");

static void fiber_init(fiber &f, char *stack, size_t bytes, void (*entry)()) {
    const int saved_registers = 6;
    void **top = (void **)(((uintptr_t)stack + bytes) & ~(uintptr_t)15);
    *--top = nullptr; /* the return address of entry, which keeps its stack aligned */
    *--top = (void *)entry;
    for (int i = 0; i < saved_registers; i++) *--top = nullptr;
    f.stack_pointer = top;
}
static inline void fiber_switch(fiber &from, fiber &to) {
    simt_switch_stacks(&from.stack_pointer, to.stack_pointer);
}
#else
static void fiber_init(fiber &f, char *stack, size_t bytes, void (*entry)()) {
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = stack;
    f.context.uc_stack.ss_size = bytes;
    f.context.uc_link = nullptr;
    makecontext(&f.context, entry, 0);
}
static inline void fiber_switch(fiber &from, fiber &to) {
    swapcontext(&from.context, &to.context);
}
#endif

uint64_t random_next(worker &w) {
    uint64_t z = w.random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* ---- switching between the scheduler and threads ---- */

static inline void mark_ready(worker &w, int slot) {
    w.ready[(size_t)slot >> 6] |= 1ull << (slot & 63);
    w.ready_count++;
}
void make_ready(cuda_thread *t) {
    worker &w = *t->in_block->in_worker;
    if (t->state == POLLING) w.polling_count--;
    t->state = READY;
    mark_ready(w, t->slot);
    w.progress++;
}

void to_scheduler() {
    worker &w = *current_worker;
    cuda_thread *t = current_thread();
#ifdef SIMT_ASAN
    void **keep = t->state == EXITED ? nullptr : &t->asan_stack;
    __sanitizer_start_switch_fiber(keep, w.asan_bottom, w.asan_bytes);
#endif
    fiber_switch(t->context, w.scheduler);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(t->asan_stack, nullptr, nullptr);
#endif
}

void wait_in(thread_state state, const char *what, uint32_t operand, uint32_t detail,
             uint32_t caller) {
    cuda_thread *t = current_thread();
    t->state = state;
    t->waits_in = what;
    t->wait_operand = operand;
    t->wait_detail = detail;
    t->caller = caller;
    if (state == POLLING) current_worker->polling_count++;
    to_scheduler();
}

void stop_if_failed() {
    while (current_worker->failed) to_scheduler();
}

void spin_yield() {
    wait_in(POLLING, "a polling loop", 0, 0, CALLER());
}

static void check_exit(cuda_thread *t) {
    warp &w = *t->in_warp;
    for (int i = 0; i < w.pending_count; i++) {
        collective_op &op = w.pending[i];
        if (!(op.mask >> t->lane & 1)) continue;
        uint32_t caller = op.arrived ? lane_of(w, __builtin_ctz(op.arrived)).caller : 0;
        die(SIMT_DIVERGENCE, caller, "lane %d exited while lanes %08x wait for it in %s", t->lane,
            op.arrived, op.kind);
    }
    bool last_of_warp = (w.live & (w.live - 1)) == 0;
    if (!w.wgmmas.empty() && last_of_warp) die(SIMT_WGMMA, 0, "warp exits with wgmma in flight");
    for (bulk_op &op : t->in_block->bulk) {
        if (!op.store || op.issuer != t) continue;
        die(SIMT_TMA, 0, "thread exits without cp.async.bulk.wait_group for its TMA store");
    }
}

static void exit_thread() {
    cuda_thread *t = current_thread();
    block &b = *t->in_block;
    check_exit(t);
    for (copy_op &op : t->copies) copy_run(b, op);
    t->in_warp->live &= ~(1u << t->lane);
    b.live--;
    current_worker->live_count--;
    current_worker->progress++;
    t->state = EXITED;
    if (b.live) barrier_try(b, 0);
}

static void fiber_main() {
    worker &w = *current_worker;
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &w.asan_bottom, &w.asan_bytes);
#endif
    w.call->run(w.call->args);
    exit_thread();
    for (;;) to_scheduler();
}

static void resume(worker &w, cuda_thread *t) {
    uint64_t &word = w.ready[(size_t)t->slot >> 6];
    uint64_t bit = 1ull << (t->slot & 63);
    word &= ~bit;
    w.ready_count--;
    w.stats.switches++;
    self = t;
#ifdef SIMT_ASAN
    void *scheduler_stack;
    __sanitizer_start_switch_fiber(&scheduler_stack, t->stack, w.stack_bytes);
#endif
    fiber_switch(w.scheduler, t->context);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(scheduler_stack, nullptr, nullptr);
#endif
    self = nullptr;
    /* A thread that yielded without waiting stays ready. */
    if (t->state == READY && !w.failed && !(word & bit)) mark_ready(w, t->slot);
}

/* ---- choosing the next thread ---- */

static cuda_thread *pick_random(worker &w) {
    size_t start = random_next(w) % w.threads.size();
    size_t word = start >> 6;
    uint64_t bits = w.ready[word] & (~0ull << (start & 63));
    for (size_t i = 0; i <= w.ready.size(); i++) {
        if (bits) return w.threads[word * 64 + (size_t)__builtin_ctzll(bits)];
        word = (word + 1) % w.ready.size();
        bits = w.ready[word];
    }
    return nullptr;
}

/* Slots in the order of priorities, so that the first ready slot is the one to run. */
static void sort_by_priority(worker &w) {
    auto end = std::remove(w.threads.begin(), w.threads.end(), nullptr);
    std::sort(w.threads.begin(), end,
              [](const cuda_thread *a, const cuda_thread *b) { return a->priority > b->priority; });
    std::fill(end, w.threads.end(), nullptr);
    std::fill(w.ready.begin(), w.ready.end(), 0);
    w.ready_count = 0;
    for (size_t i = 0; i < w.threads.size() && w.threads[i]; i++) {
        w.threads[i]->slot = (int)i;
        if (w.threads[i]->state == READY) mark_ready(w, (int)i);
    }
}
static cuda_thread *pick_first(worker &w) {
    for (size_t i = 0; i < w.ready.size(); i++) {
        if (w.ready[i]) return w.threads[i * 64 + (size_t)__builtin_ctzll(w.ready[i])];
    }
    return nullptr;
}
/* Now and then the warp that runs drops to the bottom. */
static cuda_thread *pick_by_priority(worker &w) {
    cuda_thread *best = pick_first(w);
    bool change = best && (random_next(w) & 127) == 0;
    if (!change) return best;
    uint64_t bottom = random_next(w) >> 8;
    warp &dropped = *best->in_warp;
    for (uint32_t lanes = dropped.existing; lanes; lanes &= lanes - 1) {
        int lane = __builtin_ctz(lanes);
        lane_of(dropped, lane).priority = bottom + (uint64_t)lane;
    }
    sort_by_priority(w);
    return best;
}

static cuda_thread *pick(worker &w) {
    switch (options().order) {
    case SIMT_FORWARD: return pick_first(w);
    case SIMT_REVERSE:
        for (size_t i = w.ready.size(); i-- > 0;) {
            if (w.ready[i]) return w.threads[i * 64 + 63 - (size_t)__builtin_clzll(w.ready[i])];
        }
        return nullptr;
    case SIMT_RANDOM: return pick_random(w);
    default: return pick_by_priority(w);
    }
}

/* ---- shared memory ---- */

static void smem_open(block &b, uint32_t offset, size_t bytes) {
    UNPOISON(b.window + offset, bytes);
    if (options().poison) memset(b.window + offset, 0xff, bytes);
    check_open(b, offset, bytes);
}

unsigned char *dyn_smem() {
    block &b = *current_thread()->in_block;
    if (!b.dyn_placed) {
        b.dyn_start = ((b.smem_end + 1023) & ~1023u) + (uint32_t)options().smem_skew;
        b.dyn_placed = true;
        b.smem_end = b.dyn_start + b.dyn_bytes;
        if (b.smem_end > WINDOW_BYTES) die(SIMT_LAUNCH, CALLER(), "too much shared memory");
        if (b.dyn_bytes) smem_open(b, b.dyn_start, b.dyn_bytes);
    }
    return (unsigned char *)b.window + b.dyn_start;
}

void *static_smem(const void *key, size_t bytes, size_t align) {
    const uint32_t red_zone = 32;
    block &b = *current_thread()->in_block;
    for (static_array &s : b.statics) {
        if (s.key == key) return b.window + s.offset;
    }
    uint32_t offset = (b.smem_end + red_zone + (uint32_t)align - 1) & ~(uint32_t)(align - 1);
    if (offset + bytes > WINDOW_BYTES) die(SIMT_LAUNCH, CALLER(), "too much shared memory");
    b.statics.push_back({key, offset});
    b.smem_end = offset + (uint32_t)bytes;
    smem_open(b, offset, bytes);
    return b.window + offset;
}

uint32_t smem_addr(const void *ptr) {
    block &b = *current_thread()->in_block;
    size_t offset = (size_t)((const char *)ptr - b.window);
    if (offset >= WINDOW_BYTES) {
        die(SIMT_OUT_OF_BOUNDS, CALLER(), "shared address of a pointer that is not shared memory");
    }
    return (uint32_t)offset;
}

/* ---- life of a block ---- */

/* Address space: pages become memory, and zero, when they are touched. */
static char *reserve(worker &w, size_t bytes) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (p == MAP_FAILED) {
        perror("simt: cannot reserve memory for threads");
        abort();
    }
    w.mappings.push_back({p, bytes});
    return (char *)p;
}
worker::~worker() {
    for (auto &mapping : mappings) munmap(mapping.first, mapping.second);
}

static void prepare_memory(worker &w, size_t threads, size_t blocks) {
    const size_t guard = 4096;
    while (w.stacks.size() < threads) {
        char *p = reserve(w, w.stack_bytes + guard);
        mprotect(p, guard, PROT_NONE);
        w.stacks.push_back(p + guard);
    }
    while (w.windows.size() < blocks) {
        uintptr_t p = (uintptr_t)reserve(w, 2 * WINDOW_BYTES);
        w.windows.push_back((char *)((p + WINDOW_BYTES - 1) & ~((uintptr_t)WINDOW_BYTES - 1)));
        if (!checking) continue;
        size_t cell_bytes = WINDOW_BYTES / CELL_BYTES * sizeof(shared_cell);
        w.cells.push_back((shared_cell *)reserve(w, cell_bytes));
    }
}

static void start_thread(worker &w, block &b, int index, int slot, uint64_t warp_priority) {
    cuda_thread &t = b.threads[(size_t)index];
    dim3 shape = w.call->block;
    unsigned i = (unsigned)index;
    t.thread_idx = {i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y};
    t.block_idx = b.index;
    t.block_dim = shape;
    t.grid_dim = w.call->grid;
    t.index = index;
    t.lane = index % LANES;
    t.slot = slot;
    t.in_warp = &b.warps[(size_t)index / LANES];
    t.in_block = &b;
    t.stack = w.stacks[(size_t)slot];
    t.asan_stack = nullptr;
    t.priority = (warp_priority & ~31ull) + (random_next(w) & 31);
    UNPOISON(t.stack, w.stack_bytes);
    fiber_init(t.context, t.stack, w.stack_bytes, fiber_main);
    w.threads[(size_t)slot] = &t;
    t.state = EXITED;
    make_ready(&t);
}

static void start_block(worker &w, int place, uint32_t linear, int threads) {
    block &b = w.blocks[(size_t)place];
    dim3 grid = w.call->grid;
    b.in_worker = &w;
    b.linear = linear;
    b.index = {linear % grid.x, linear / grid.x % grid.y, linear / grid.x / grid.y};
    b.thread_count = b.live = threads;
    b.warp_count = (threads + LANES - 1) / LANES;
    b.window = w.windows[(size_t)place];
    b.smem_end = WINDOW_START;
    b.dyn_bytes = (uint32_t)w.call->smem_bytes;
    POISON(b.window, WINDOW_BYTES);
    b.threads.resize((size_t)threads);
    b.warps.resize((size_t)b.warp_count);
    b.wgmma_sequence.resize((size_t)b.warp_count / 4 + 1);
    for (int i = 0; i < b.warp_count; i++) {
        warp &x = b.warps[(size_t)i];
        int lanes = std::min(LANES, threads - i * LANES);
        x.in_block = &b;
        x.index = i;
        x.existing = x.live = lanes == LANES ? FULL_MASK : (1u << lanes) - 1;
    }
    b.cells = checking ? w.cells[(size_t)place] : nullptr;
    check_start_block(b);
    uint64_t priority = 0;
    for (int i = 0; i < threads; i++) {
        if (i % LANES == 0) priority = random_next(w);
        start_thread(w, b, i, place * threads + i, priority);
    }
    w.stats.blocks++;
}

/* Only pollers are left: each may look again, but not for ever. */
static bool wake_pollers(worker &w, uint64_t *progress_before, int *idle_rounds) {
    const int patience = 1000;
    *idle_rounds = *progress_before == w.progress ? *idle_rounds + 1 : 0;
    if (*idle_rounds > patience) {
        report(nullptr, SIMT_LIVELOCK, 0,
               "threads poll memory that no one will change (%zu blocks are resident):%s",
               w.blocks.size(), who_waits(w).c_str());
        return false;
    }
    for (cuda_thread *t : w.threads) {
        if (t && t->state == POLLING) make_ready(t);
    }
    *progress_before = w.progress;
    return true;
}

static void run_threads(worker &w) {
    uint64_t progress_before = 0;
    int idle_rounds = 0;
    while (!w.failed && w.live_count) {
        if (options().async == SIMT_EITHER && (random_next(w) & 7) == 0) bulk_load_one(w);
        cuda_thread *t = w.ready_count ? pick(w) : nullptr;
        if (t) {
            resume(w, t);
            continue;
        }
        if (bulk_load_one(w)) continue;
        if (w.polling_count) {
            if (!wake_pollers(w, &progress_before, &idle_rounds)) return;
            continue;
        }
        report(nullptr, SIMT_DEADLOCK, 0, "no thread can run:%s", who_waits(w).c_str());
    }
}

static void check_end_of_block(block &b) {
    for (bulk_op &op : b.bulk) {
        if (op.store) continue;
        report(op.issuer, SIMT_TMA, 0, "block ends with a TMA load in flight into its memory");
        return;
    }
    for (auto &entry : b.mbarriers) {
        mbarrier &m = entry.second;
        if (!m.valid || (m.missing == m.arrivals && m.tx_bytes == 0)) continue;
        report(nullptr, SIMT_MBARRIER, 0,
               "block %u ends with mbarrier +0x%x inside a phase: %u of %u arrivals missing, "
               "tx-count %lld",
               b.linear, entry.first, m.missing, m.arrivals, (long long)m.tx_bytes);
        return;
    }
}

static void run_gang(worker &w, const uint32_t *linear, int count) {
    dim3 shape = w.call->block;
    int threads = (int)(shape.x * shape.y * shape.z);
    size_t slots = (size_t)count * (size_t)threads;
    size_t words = (slots + 63) / 64;
    prepare_memory(w, slots, (size_t)count);
    w.blocks.clear();
    w.blocks.resize((size_t)count);
    w.threads.assign(words * 64, nullptr);
    w.ready.assign(words, 0);
    w.ready_count = w.polling_count = 0;
    w.live_count = (int)slots;
    for (int i = 0; i < count; i++) start_block(w, i, linear[i], threads);
    if (options().order == SIMT_PCT) sort_by_priority(w);
    run_threads(w);
    for (block &b : w.blocks) {
        if (!w.failed) check_end_of_block(b);
    }
}

/* ---- grids ---- */

struct grid_run {
    const kernel_call *call;
    std::vector<uint32_t> order; /* of the blocks */
    std::atomic<size_t> next;
};

static void work(grid_run *run, int id) {
    const int gang_limit = 64;
    static thread_local worker w;
    current_worker = &w;
    w.call = run->call;
    w.failed = false;
    w.random_state = options().seed * 7919 + (uint64_t)id;
    w.stack_bytes = options().stack_bytes;
    w.stats = simt_stats{};
    size_t gang = (size_t)std::max(1, std::min(options().gang, gang_limit));
    while (!w.failed && simt_last_error() == SIMT_OK) {
        size_t first = run->next.fetch_add(gang);
        if (first >= run->order.size()) break;
        size_t count = std::min(gang, run->order.size() - first);
        run_gang(w, &run->order[first], (int)count);
    }
    w.blocks.clear();
    add_stats(w.stats);
    current_worker = nullptr;
}

static void order_blocks(std::vector<uint32_t> &order) {
    uint32_t count = (uint32_t)order.size();
    for (uint32_t i = 0; i < count; i++) {
        order[i] = options().order == SIMT_REVERSE ? count - 1 - i : i;
    }
    if (options().order == SIMT_FORWARD || options().order == SIMT_REVERSE) return;
    worker dice{};
    dice.random_state = options().seed;
    for (uint32_t i = count; i > 1; i--) std::swap(order[i - 1], order[random_next(dice) % i]);
}

static bool launch_is_legal(const kernel_call &call) {
    uint64_t threads = (uint64_t)call.block.x * call.block.y * call.block.z;
    uint64_t blocks = (uint64_t)call.grid.x * call.grid.y * call.grid.z;
    bool legal = threads >= 1 && threads <= 1024 && call.block.z <= 64 && blocks >= 1 &&
                 call.grid.x <= INT32_MAX && call.grid.y <= 65535 && call.grid.z <= 65535 &&
                 call.smem_bytes <= SMEM_LIMIT;
    if (!legal) {
        report(nullptr, SIMT_LAUNCH, 0,
               "bad launch: block (%u,%u,%u), grid (%u,%u,%u), %zu bytes of shared memory",
               call.block.x, call.block.y, call.block.z, call.grid.x, call.grid.y, call.grid.z,
               call.smem_bytes);
    }
    return legal;
}

simt_error run_grid(const kernel_call &call) {
    if (!launch_is_legal(call)) return simt_last_error();
    simt_stats launched{};
    launched.launches = 1;
    add_stats(launched);
    grid_run run{&call, {}, {0}};
    run.order.resize((size_t)call.grid.x * call.grid.y * call.grid.z);
    order_blocks(run.order);
    check_start_launch((uint32_t)run.order.size());
    int workers = checking ? 1 : std::max(1, options().workers);
    if (workers == 1) {
        work(&run, 0);
        return simt_last_error();
    }
    std::vector<std::thread> threads;
    for (int i = 0; i < workers; i++) threads.emplace_back(work, &run, i);
    for (std::thread &t : threads) t.join();
    return simt_last_error();
}

} // namespace simt
