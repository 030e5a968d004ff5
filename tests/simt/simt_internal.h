/* The state that the parts of the layer share: threads, warps, blocks and the OS thread that runs
 * them. Who owns what: simt_core.cpp the fibers and the scheduler, simt_warp.cpp the collectives,
 * barriers and cp.async, simt_math.cpp the arithmetic of tensor cores, simt_hopper.cpp mbarriers
 * and TMA, simt_wgmma.cpp wgmma, simt_check.cpp the race and proxy checker, simt_report.cpp what is
 * said, options and schedules, simt_runtime.cpp the host side. */
#pragma once
#ifdef __cplusplus

#include "simt.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif

#if !defined(__x86_64__) || defined(SIMT_UCONTEXT)
#define SIMT_USES_UCONTEXT 1
#include <ucontext.h>
#endif

/* Where the kernel called the layer: addresses fit in 32 bits because tests are linked with
 * -no-pie. */
#define CALLER() ((uint32_t)(uintptr_t)__builtin_return_address(0))

namespace simt {

#ifdef SIMT_CHECK
const bool checking = true;
#else
const bool checking = false;
#endif

/* Shared memory of a block: a window whose first KiB is the system's, as on sm_90. */
const uint32_t WINDOW_BYTES = 256 << 10;
const uint32_t WINDOW_START = 1024;
const uint32_t SMEM_LIMIT = 227 << 10;
const uint32_t FULL_MASK = 0xffffffffu;
const int LANES = 32;

struct warp;
struct block;
struct worker;

/* ---- clocks of the checker ---- */

/* Who touches shared memory: each thread, its cp.async, its TMA, each warp's wgmma and ldmatrix. */
enum agent_kind {
    AGENT_THREAD,
    AGENT_CP_ASYNC,
    AGENT_TMA,
    AGENT_WGMMA,
    AGENT_LDMATRIX,
    AGENT_KINDS
};
typedef std::vector<uint32_t> clock_vector; /* by agent */
typedef std::shared_ptr<const clock_vector> shared_clock;
/* What a thread knows of all agents: a vector shared by the threads that left a barrier together,
 * and the entries of the thread's own agents, which run ahead of it. */
struct clock_view {
    shared_clock base;
    uint32_t own[AGENT_KINDS];
};

/* ---- threads ---- */

struct fiber {
#ifdef SIMT_USES_UCONTEXT
    ucontext_t context;
#else
    void *stack_pointer;
#endif
};

enum thread_state : uint8_t { READY, POLLING, AT_COLLECTIVE, AT_BARRIER, AT_MBARRIER, EXITED };

/* One cp.async; `clock` is its issue in the checker. */
struct copy_op {
    const void *src;
    uint32_t dst, group, clock;
    uint8_t bytes, src_bytes;
    bool done;
};

struct cuda_thread : thread_context {
    int index; /* in the block */
    int lane;
    int slot; /* among the threads of the worker */
    warp *in_warp;
    block *in_block;
    fiber context;
    char *stack;
    void *asan_stack;
    thread_state state;
    uint64_t priority;
    /* what it waits for, for the reports */
    const char *waits_in;
    uint32_t wait_operand, wait_detail, caller;
    /* asynchronous copies */
    std::vector<copy_op> copies;
    uint32_t copy_group, bulk_group;
    /* checker: ordered before this thread, and of these what the async proxy sees */
    clock_view ordered, visible;
    bool fenced_global;
};

/* ---- warps ---- */

typedef void (*collective_fn)(warp &w, uint32_t mask, void **args);
struct collective_op {
    const char *kind;
    uint32_t mask, arrived;
    void *args[LANES];
    collective_fn run;
};

struct wgmma_op {
    float *d[LANES];
    uint32_t a_regs[LANES][4];
    bool a_in_regs, transpose_a, transpose_b, done;
    uint64_t a_desc, b_desc;
    int n, scale_d;
    uint32_t group, clock;
};
/* Accumulator registers of a lane while wgmma owns them: the kernel sees NaN meanwhile. */
struct hidden_accumulator {
    float *d;
    int pending;
    std::vector<float> values;
};

struct warp {
    block *in_block;
    int index;
    uint32_t existing, live; /* lanes */
    collective_op pending[LANES];
    int pending_count;
    std::vector<wgmma_op> wgmmas;
    uint32_t wgmma_group, wgmma_count;
    bool wgmma_fenced;
    std::vector<hidden_accumulator> accumulators[LANES];
};

/* ---- blocks ---- */

struct named_barrier {
    int threads; /* 0: the whole block */
    int arrived;
    std::vector<cuda_thread *> waiting, participants;
};

struct mbarrier {
    bool valid;
    uint32_t arrivals, missing;
    int64_t tx_bytes;
    uint64_t phase;
    std::vector<cuda_thread *> waiting;
    /* checker: who initialised it and when; what arrivals released; what a finished phase gives */
    uint32_t init_agent, init_clock;
    clock_vector released, released_visible;
    shared_clock acquired, acquired_visible;
};

struct bulk_op {
    CUtensorMap map;
    bool store, done;
    uint32_t smem, bar, group, clock, bytes;
    int at[5];
    cuda_thread *issuer;
};

struct static_array {
    const void *key;
    uint32_t offset;
};

/* Checker's record of two bytes of shared memory: an epoch is agent << 20 | clock. */
const uint32_t CELL_BYTES = 2;
struct shared_cell {
    uint32_t write, write_caller;
    uint32_t reads[3], read_callers[3];
};

struct block {
    worker *in_worker;
    uint32_t linear; /* of the grid */
    uint3 index;
    int thread_count, warp_count, live;
    char *window;
    uint32_t smem_end; /* offset */
    uint32_t dyn_start, dyn_bytes;
    bool dyn_placed;
    std::vector<static_array> statics;
    std::vector<cuda_thread> threads;
    std::vector<warp> warps;
    named_barrier barriers[16];
    std::unordered_map<uint32_t, mbarrier> mbarriers;
    std::vector<bulk_op> bulk;
    std::vector<std::vector<uint64_t>> wgmma_sequence; /* by warpgroup */
    /* checker */
    int agent_count;
    std::vector<uint32_t> agent_clock;
    std::vector<bool> allocated; /* by cell */
    shared_cell *cells;
    std::vector<uint64_t> blocks_before; /* bits: ordered by a fence and an atomic */
};

/* An OS thread and the blocks that are resident on it. */
struct worker {
    const kernel_call *call;
    fiber scheduler;
    std::vector<block> blocks;
    std::vector<cuda_thread *> threads;
    std::vector<uint64_t> ready; /* bits by slot */
    int ready_count, polling_count, live_count;
    uint64_t progress; /* grows when anything changes that a poller could see */
    uint64_t random_state;
    bool failed;
    size_t stack_bytes;
    std::vector<char *> stacks, windows;
    std::vector<shared_cell *> cells;
    std::vector<std::pair<void *, size_t>> mappings; /* what the three stand in */
    const void *asan_bottom;
    size_t asan_bytes;
    simt_stats stats;
    ~worker();
};

extern __thread worker *current_worker;
inline cuda_thread *current_thread() {
    return (cuda_thread *)self;
}
inline char *smem_at(block &b, uint32_t addr) {
    return b.window + addr;
}
inline const simt_options &options() {
    return *simt_options_get();
}

/* ---- simt_core.cpp ---- */

uint64_t random_next(worker &w);
void make_ready(cuda_thread *t);
void to_scheduler();
/* Stops the thread until somebody makes it ready. */
void wait_in(thread_state state, const char *what, uint32_t operand, uint32_t detail,
             uint32_t caller);
/* Does not come back to a thread whose launch has failed. */
void stop_if_failed();
/* Runs a grid to its end. */
simt_error run_grid(const kernel_call &call);

/* ---- simt_warp.cpp ---- */

/* Lanes of `mask` meet; the last to arrive runs fn for all, with the lanes' arguments. */
void collective(const char *kind, uint32_t mask, void *arg, collective_fn fn, uint32_t caller);
void barrier_try(block &b, int id);
/* d[16][n] += a[16][16] * b[16][n] as the chosen tensor core adds. */
void mma_core(int n, const float (*a)[16], const float *b, float *d);
void copy_run(block &b, copy_op &op);
inline float bf16_low(uint32_t pair) {
    return __uint_as_float(pair << 16);
}
inline float bf16_high(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000u);
}
inline cuda_thread &lane_of(warp &w, int lane) {
    return w.in_block->threads[(size_t)(w.index * LANES + lane)];
}

/* ---- simt_hopper.cpp ---- */

uint32_t swizzle(uint32_t addr, int mode);
/* Runs one TMA load in flight, chosen at random; false if there is none. */
bool bulk_load_one(worker &w);

/* ---- simt_check.cpp: without SIMT_CHECK these do nothing ---- */

uint32_t agent_of(const block &b, const cuda_thread &t, agent_kind kind);
uint32_t agent_tick(block &b, uint32_t agent);
std::string agent_name(const block &b, uint32_t agent);
void check_start_block(block &b);
/* An array of shared memory begins: nobody has touched it. */
void check_open(block &b, uint32_t offset, size_t bytes);
void check_start_launch(uint32_t blocks);
/* A barrier with memory ordering among these threads. */
void check_join(block &b, cuda_thread *const *threads, int count);
void check_join_into(block &b, cuda_thread &into, warp &w);
void check_release(block &b, mbarrier &m, cuda_thread &t);
void check_acquire(cuda_thread &t, const mbarrier &m);
void check_proxy_fence(cuda_thread &t);
uint32_t known_clock(const block &b, const cuda_thread &t, const clock_view &view, uint32_t agent);
/* An access by `agent`, at its `clock`, on behalf of thread t. */
void check_shared(block &b, cuda_thread &t, uint32_t agent, uint32_t clock, uint32_t addr,
                  uint32_t bytes, bool write, uint32_t caller);
void check_global(block &b, cuda_thread &t, agent_kind kind, uint32_t clock, const void *ptr,
                  size_t bytes, bool write, uint32_t caller);
void check_atomic(const void *ptr, size_t bytes, uint32_t caller);
void note_host_write(void *ptr, size_t bytes);
/* Device memory of the checked build: apart from everything else, with guard bands. */
void *checked_alloc(size_t bytes);
void checked_free(void *ptr);

/* ---- simt_report.cpp ---- */

#define SIMT_PRINTF(text, args) __attribute__((format(printf, text, args)))
/* Keeps the first error of a launch and stops it; t may be null. */
void report(cuda_thread *t, simt_error error, uint32_t caller, const char *format, ...)
    SIMT_PRINTF(4, 5);
/* The same for the running thread, which never continues. */
[[noreturn]] void die(simt_error error, uint32_t caller, const char *format, ...) SIMT_PRINTF(3, 4);
/* "norm.cu:41", or "?" */
std::string source_line(uint32_t caller);
/* One line for each group of lanes that waits for one thing. */
std::string who_waits(worker &w);
void add_stats(const simt_stats &s);

} // namespace simt
#endif
