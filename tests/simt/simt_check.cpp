/* The race and proxy checker. Kernel files are compiled with -fsanitize=thread, and its calls land
 * here instead of in libtsan, which knows OS threads only. Vector clocks order the accesses of
 * threads and of the agents that work for them (cp.async, TMA, wgmma, ldmatrix). Each thread keeps
 * two: what happened before it, and what of that the async proxy sees, which fence.proxy.async
 * advances. One run in one schedule finds a race that the schedule itself did not show. */
#include "simt_internal.h"

#include <algorithm>
#include <stdlib.h>
#include <sys/mman.h>

namespace simt {

/* ---- agents ---- */

uint32_t agent_of(const block &b, const cuda_thread &t, agent_kind kind) {
    uint32_t threads = (uint32_t)b.thread_count;
    uint32_t warps = (uint32_t)b.warp_count;
    uint32_t thread = (uint32_t)t.index;
    uint32_t warp = thread / LANES;
    switch (kind) {
    case AGENT_THREAD: return thread;
    case AGENT_CP_ASYNC: return threads + thread;
    case AGENT_TMA: return 2 * threads + thread;
    case AGENT_WGMMA: return 3 * threads + warp;
    default: return 3 * threads + warps + warp;
    }
}
static agent_kind kind_of(const block &b, uint32_t agent) {
    uint32_t threads = (uint32_t)b.thread_count;
    if (agent < 3 * threads) return (agent_kind)(agent / threads);
    return agent < 3 * threads + (uint32_t)b.warp_count ? AGENT_WGMMA : AGENT_LDMATRIX;
}
static bool uses_async_proxy(const block &b, uint32_t agent) {
    uint32_t threads = (uint32_t)b.thread_count;
    return agent >= 2 * threads && agent < 3 * threads + (uint32_t)b.warp_count;
}
std::string agent_name(const block &b, uint32_t agent) {
    uint32_t threads = (uint32_t)b.thread_count;
    uint32_t warps = (uint32_t)b.warp_count;
    switch (kind_of(b, agent)) {
    case AGENT_THREAD: return "thread " + std::to_string(agent);
    case AGENT_CP_ASYNC: return "cp.async of thread " + std::to_string(agent - threads);
    case AGENT_TMA: return "TMA issued by thread " + std::to_string(agent - 2 * threads);
    case AGENT_WGMMA: return "wgmma of warp " + std::to_string(agent - 3 * threads);
    default: return "ldmatrix of warp " + std::to_string(agent - 3 * threads - warps);
    }
}
uint32_t agent_tick(block &b, uint32_t agent) {
    return checking ? ++b.agent_clock[agent] : 0;
}

/* ---- clocks ---- */

uint32_t known_clock(const block &b, const cuda_thread &t, const clock_view &view, uint32_t agent) {
    uint32_t known = (*view.base)[agent];
    agent_kind kind = kind_of(b, agent);
    if (agent_of(b, t, kind) == agent) known = std::max(known, view.own[kind]);
    return known;
}
static bool is_known(const block &b, const cuda_thread &t, const clock_view &view, uint32_t agent,
                     uint32_t clock) {
    return clock <= (*view.base)[agent] || clock <= known_clock(b, t, view, agent);
}

static void raise(clock_vector &to, const clock_vector &from) {
    for (size_t i = 0; i < to.size(); i++) to[i] = std::max(to[i], from[i]);
}
static void raise_own(block &b, clock_vector &to, const cuda_thread &t, const clock_view &view) {
    for (int kind = 0; kind < AGENT_KINDS; kind++) {
        uint32_t &entry = to[agent_of(b, t, (agent_kind)kind)];
        entry = std::max(entry, view.own[kind]);
    }
}
/* Threads that left the last barrier together share one vector: it is read once. */
static shared_clock joined(block &b, cuda_thread *const *threads, int count,
                           clock_view cuda_thread::*view) {
    std::vector<const clock_vector *> seen{(threads[0]->*view).base.get()};
    auto result = std::make_shared<clock_vector>(*seen[0]);
    for (int i = 0; i < count; i++) {
        const clock_view &v = threads[i]->*view;
        raise_own(b, *result, *threads[i], v);
        if (std::find(seen.begin(), seen.end(), v.base.get()) != seen.end()) continue;
        seen.push_back(v.base.get());
        raise(*result, *v.base);
    }
    return result;
}

void check_start_block(block &b) {
    if (!checking) return;
    int threads = b.thread_count;
    b.agent_count = 3 * threads + 2 * b.warp_count;
    b.agent_clock.assign((size_t)b.agent_count, 0);
    auto zero = std::make_shared<const clock_vector>((size_t)b.agent_count, 0);
    for (cuda_thread &t : b.threads) {
        t.ordered.base = t.visible.base = zero;
        t.ordered.own[AGENT_THREAD] = 1;
    }
}

void check_open(block &b, uint32_t offset, size_t bytes) {
    if (!checking || bytes == 0) return;
    size_t first = offset / CELL_BYTES;
    size_t end = (offset + bytes + CELL_BYTES - 1) / CELL_BYTES;
    if (b.allocated.size() < end) b.allocated.resize(end);
    for (size_t i = first; i < end; i++) {
        b.allocated[i] = true;
        b.cells[i] = shared_cell{};
    }
}

void check_join(block &b, cuda_thread *const *threads, int count) {
    if (!checking || count == 0) return;
    shared_clock ordered = joined(b, threads, count, &cuda_thread::ordered);
    shared_clock visible = joined(b, threads, count, &cuda_thread::visible);
    for (int i = 0; i < count; i++) {
        threads[i]->ordered.base = ordered;
        threads[i]->visible.base = visible;
        threads[i]->ordered.own[AGENT_THREAD]++;
    }
}

void check_join_into(block &b, cuda_thread &into, warp &w) {
    if (!checking) return;
    cuda_thread *lanes[LANES];
    for (int i = 0; i < LANES; i++) lanes[i] = &lane_of(w, i);
    into.ordered.base = joined(b, lanes, LANES, &cuda_thread::ordered);
    into.visible.base = joined(b, lanes, LANES, &cuda_thread::visible);
}

void check_release(block &b, mbarrier &m, cuda_thread &t) {
    if (!checking) return;
    raise(m.released, *t.ordered.base);
    raise_own(b, m.released, t, t.ordered);
    raise(m.released_visible, *t.visible.base);
    raise_own(b, m.released_visible, t, t.visible);
    t.ordered.own[AGENT_THREAD]++;
}

/* Threads that share a vector and wait for one mbarrier share the result as well. */
static shared_clock join_two(const shared_clock &a, const shared_clock &b) {
    struct memo {
        shared_clock a, b, result;
    };
    static memo recent[8];
    static unsigned next;
    for (memo &m : recent) {
        if (m.a == a && m.b == b) return m.result;
    }
    auto result = std::make_shared<clock_vector>(*a);
    raise(*result, *b);
    recent[next++ % 8] = {a, b, result};
    return result;
}
void check_acquire(cuda_thread &t, const mbarrier &m) {
    if (!checking) return;
    t.ordered.base = join_two(t.ordered.base, m.acquired);
    t.visible.base = join_two(t.visible.base, m.acquired_visible);
}

void check_proxy_fence(cuda_thread &t) {
    if (!checking) return;
    t.visible = t.ordered;
    t.ordered.own[AGENT_THREAD]++;
}

/* ---- shared memory ---- */

struct shared_access {
    block &b;
    cuda_thread &t;
    uint32_t agent, clock, addr, bytes;
    bool write;
    uint32_t caller;
};
static const uint32_t CLOCK_MASK = 0xfffff;

static uint32_t epoch_of(uint32_t agent, uint32_t clock) {
    return agent << 20 | (clock & CLOCK_MASK);
}
static const char *verb(bool write) {
    return write ? "write" : "read";
}

static bool follows_last_write(const shared_access &a, const shared_cell &cell) {
    uint32_t writer = cell.write >> 20;
    uint32_t clock = cell.write & CLOCK_MASK;
    if (writer == a.agent) return true;
    if (!is_known(a.b, a.t, a.t.ordered, writer, clock)) {
        report(&a.t, SIMT_RACE, a.caller,
               "%s of shared memory +0x%x (%u bytes) by %s is not ordered after the write by %s at "
               "%s",
               verb(a.write), a.addr, a.bytes, agent_name(a.b, a.agent).c_str(),
               agent_name(a.b, writer).c_str(), source_line(cell.write_caller).c_str());
        return false;
    }
    bool other_proxy = uses_async_proxy(a.b, a.agent) && !uses_async_proxy(a.b, writer);
    if (other_proxy && !is_known(a.b, a.t, a.t.visible, writer, clock)) {
        report(&a.t, SIMT_PROXY_FENCE, a.caller,
               "async-proxy %s of shared memory +0x%x by %s: the generic write by %s at %s has no "
               "fence.proxy.async after it",
               verb(a.write), a.addr, agent_name(a.b, a.agent).c_str(),
               agent_name(a.b, writer).c_str(), source_line(cell.write_caller).c_str());
        return false;
    }
    return true;
}

static bool record_write(const shared_access &a, shared_cell &cell) {
    for (int i = 0; i < 3; i++) {
        if (!cell.reads[i]) continue;
        uint32_t reader = cell.reads[i] >> 20;
        uint32_t clock = cell.reads[i] & CLOCK_MASK;
        if (reader != a.agent && !is_known(a.b, a.t, a.t.ordered, reader, clock)) {
            report(&a.t, SIMT_RACE, a.caller,
                   "write of shared memory +0x%x (%u bytes) by %s is not ordered after the read by "
                   "%s at %s",
                   a.addr, a.bytes, agent_name(a.b, a.agent).c_str(),
                   agent_name(a.b, reader).c_str(), source_line(cell.read_callers[i]).c_str());
            return false;
        }
        cell.reads[i] = 0;
    }
    cell.write = epoch_of(a.agent, a.clock);
    cell.write_caller = a.caller;
    return true;
}

/* Three readers are remembered. A fourth takes the place of one that is ordered before it, or of
 * any: that may miss a race and never invents one. */
static void record_read(const shared_access &a, shared_cell &cell) {
    int place = -1;
    for (int i = 0; i < 3; i++) {
        uint32_t reader = cell.reads[i] >> 20;
        if (!cell.reads[i] || reader == a.agent) {
            place = i;
            break;
        }
        bool known = is_known(a.b, a.t, a.t.ordered, reader, cell.reads[i] & CLOCK_MASK);
        if (known && place < 0) place = i;
    }
    if (place < 0) place = (int)(random_next(*current_worker) % 3);
    cell.reads[place] = epoch_of(a.agent, a.clock);
    cell.read_callers[place] = a.caller;
}

static bool check_cell(const shared_access &a, shared_cell &cell) {
    if (cell.write) {
        if (!follows_last_write(a, cell)) return false;
    } else if (!a.write) {
        report(&a.t, SIMT_UNINITIALISED, a.caller,
               "read of shared memory +0x%x (%u bytes) by %s that no one has written", a.addr,
               a.bytes, agent_name(a.b, a.agent).c_str());
        return false;
    }
    if (a.write) return record_write(a, cell);
    record_read(a, cell);
    return true;
}

void check_shared(block &b, cuda_thread &t, uint32_t agent, uint32_t clock, uint32_t addr,
                  uint32_t bytes, bool write, uint32_t caller) {
    if (!checking || current_worker->failed) return;
    shared_access a{b, t, agent, clock, addr, bytes, write, caller};
    /* Neighbours mostly have one history: what holds of a cell holds of the next that equals it. */
    shared_cell before, after;
    bool repeats = false;
    for (uint32_t i = addr / CELL_BYTES; i <= (addr + bytes - 1) / CELL_BYTES; i++) {
        if (i >= b.allocated.size() || !b.allocated[i]) {
            report(&t, SIMT_OUT_OF_BOUNDS, caller,
                   "%s of shared memory +0x%x (%u bytes): not in any array", verb(write), addr,
                   bytes);
            return;
        }
        shared_cell &cell = b.cells[i];
        if (repeats && memcmp(&cell, &before, sizeof cell) == 0) {
            cell = after;
            continue;
        }
        before = cell;
        if (!check_cell(a, cell)) return;
        after = cell;
        repeats = true;
    }
}

/* ---- global memory ---- */

/* Two bytes of it: the block that wrote last and that read last, by serial number, and whether by
 * an atomic; and within that block the agent and its clock. Serial 1 is the host. */
struct global_cell {
    uint32_t write, write_epoch, write_caller;
    uint32_t read, read_epoch, read_caller;
};
static const uint32_t ATOMIC_BIT = 0x80000000u;
static const uint32_t HOST_SERIAL = 1;

struct global_allocation {
    char *start;
    size_t bytes, pages;
    global_cell *cells;
    /* By page: the host has written all of it since, and its cells are out of date. It saves
     * touching 12 bytes of records for each byte of a large copy. */
    std::vector<bool> host_wrote_page;
};
/* Device memory is one reserved range, so that any other address is told apart at once; a table
 * gives the allocation of each page. A page on either side is the allocation's guard. */
static const size_t HEAP_BYTES = (size_t)64 << 30;
static const size_t PAGE_BYTES = 4096;
static const size_t CELLS_PER_PAGE = PAGE_BYTES / CELL_BYTES;
static struct {
    char *start;
    size_t used_pages;
    uint32_t *owner; /* by page: index + 1 of the allocation */
    std::vector<global_allocation> allocations;
    std::unordered_map<size_t, std::vector<uint32_t>> free; /* by pages */
} heap;

static uint32_t next_serial = HOST_SERIAL + 1;
static uint32_t launch_first_serial;
/* What an address that atomics touch passes on: the blocks ordered before it, and the clocks of the
 * threads of the block that touched it last. */
struct atomic_release {
    std::vector<uint64_t> blocks;
    uint32_t serial;
    clock_vector threads;
};
static std::unordered_map<const void *, atomic_release> atomic_releases;

static bool in_heap(const void *ptr) {
    return heap.start && (size_t)((const char *)ptr - heap.start) < HEAP_BYTES;
}
static global_allocation *find_allocation(const void *ptr) {
    if (!in_heap(ptr)) return nullptr;
    uint32_t owner = heap.owner[(size_t)((const char *)ptr - heap.start) / PAGE_BYTES];
    return owner ? &heap.allocations[owner - 1] : nullptr;
}

static void reserve_heap() {
    const int protection = PROT_READ | PROT_WRITE;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    size_t table_bytes = HEAP_BYTES / PAGE_BYTES * sizeof(uint32_t);
    heap.start = (char *)mmap(nullptr, HEAP_BYTES, protection, flags, -1, 0);
    heap.owner = (uint32_t *)mmap(nullptr, table_bytes, protection, flags, -1, 0);
    if (heap.start == MAP_FAILED || heap.owner == MAP_FAILED) {
        fprintf(stderr, "simt: cannot reserve address space for device memory\n");
        abort();
    }
}

static uint32_t new_allocation(size_t pages) {
    std::vector<uint32_t> &free = heap.free[pages];
    if (!free.empty()) {
        uint32_t index = free.back();
        free.pop_back();
        return index;
    }
    size_t first = heap.used_pages;
    heap.used_pages += pages + 2;
    if (heap.used_pages * PAGE_BYTES > HEAP_BYTES) {
        fprintf(stderr, "simt: the checked heap is used up\n");
        abort();
    }
    heap.allocations.push_back({heap.start + (first + 1) * PAGE_BYTES, 0, pages, nullptr, {}});
    uint32_t index = (uint32_t)heap.allocations.size() - 1;
    for (size_t i = first; i < first + pages + 2; i++) heap.owner[i] = index + 1;
    return index;
}

void *checked_alloc(size_t bytes) {
    if (!heap.start) reserve_heap();
    size_t pages = std::max<size_t>(1, (bytes + PAGE_BYTES - 1) / PAGE_BYTES);
    global_allocation &a = heap.allocations[new_allocation(pages)];
    a.bytes = bytes;
    a.cells = (global_cell *)calloc(pages * CELLS_PER_PAGE, sizeof(global_cell));
    a.host_wrote_page.assign(pages, false);
    return a.start;
}
void checked_free(void *ptr) {
    global_allocation *a = find_allocation(ptr);
    if (!a) return;
    free(a->cells);
    a->cells = nullptr;
    a->bytes = 0;
    madvise(a->start, a->pages * PAGE_BYTES, MADV_DONTNEED);
    heap.free[a->pages].push_back((uint32_t)(a - heap.allocations.data()));
}
static const global_cell HOST_WROTE = {HOST_SERIAL, 0, 0, 0, 0, 0};

/* The record of two bytes, up to date. */
static global_cell &cell_at(global_allocation &a, size_t index) {
    size_t page = index / CELLS_PER_PAGE;
    if (a.host_wrote_page[page]) {
        a.host_wrote_page[page] = false;
        std::fill_n(a.cells + page * CELLS_PER_PAGE, CELLS_PER_PAGE, HOST_WROTE);
    }
    return a.cells[index];
}
void note_host_write(void *ptr, size_t bytes) {
    global_allocation *a = checking ? find_allocation(ptr) : nullptr;
    if (!a || !bytes) return;
    size_t offset = (size_t)((char *)ptr - a->start);
    size_t last = (offset + bytes - 1) / CELL_BYTES;
    for (size_t i = offset / CELL_BYTES; i <= last;) {
        if (i % CELLS_PER_PAGE == 0 && i + CELLS_PER_PAGE <= last + 1) {
            a->host_wrote_page[i / CELLS_PER_PAGE] = true;
            i += CELLS_PER_PAGE;
        } else {
            cell_at(*a, i++) = HOST_WROTE;
        }
    }
}

void check_start_launch(uint32_t blocks) {
    if (!checking) return;
    launch_first_serial = next_serial;
    next_serial += blocks;
    atomic_releases.clear();
}
static uint32_t serial_of(const block &b) {
    return launch_first_serial + b.linear;
}
static void set_bit(std::vector<uint64_t> &bits, uint32_t index) {
    if (bits.size() <= index / 64) bits.resize(index / 64 + 1);
    bits[index / 64] |= 1ull << (index & 63);
}
static void add_bits(std::vector<uint64_t> &to, const std::vector<uint64_t> &from) {
    if (to.size() < from.size()) to.resize(from.size());
    for (size_t i = 0; i < from.size(); i++) to[i] |= from[i];
}
/* Whether another block of this launch did it, and no fence and atomic order it before b. */
static bool is_concurrent(const block &b, uint32_t serial) {
    if (serial < launch_first_serial || serial == serial_of(b)) return false;
    uint32_t index = serial - launch_first_serial;
    bool before =
        index / 64 < b.blocks_before.size() && (b.blocks_before[index / 64] >> (index & 63) & 1);
    return !before;
}

struct global_access {
    block &b;
    cuda_thread &t;
    uint32_t agent, clock;
    const void *ptr;
    size_t bytes;
    bool write, atomic;
    uint32_t caller;
};

/* Whether an earlier access, by a block and there by an agent at a clock, is unordered with this
 * one. TMA's are ordered by rules of their own, and only told apart by block. */
static bool is_unordered(const global_access &a, uint32_t serial, uint32_t epoch) {
    bool both_atomic = a.atomic && (serial & ATOMIC_BIT);
    serial &= ~ATOMIC_BIT;
    if (both_atomic) return false;
    if (serial != serial_of(a.b)) return is_concurrent(a.b, serial);
    uint32_t agent = epoch >> 20;
    if (agent == a.agent || uses_async_proxy(a.b, agent) || uses_async_proxy(a.b, a.agent)) {
        return false;
    }
    return !is_known(a.b, a.t, a.t.ordered, agent, epoch & CLOCK_MASK);
}

static void report_global_race(const global_access &a, size_t offset, uint32_t serial,
                               uint32_t epoch, const char *did, uint32_t other_caller) {
    serial &= ~ATOMIC_BIT;
    std::string who = "block " + std::to_string(serial - launch_first_serial) + " of this launch";
    if (serial == serial_of(a.b)) who = agent_name(a.b, epoch >> 20) + " of this block";
    report(&a.t, SIMT_RACE, a.caller,
           "global %s at offset %zu: %s %s it at %s, and nothing orders the two", verb(a.write),
           offset, who.c_str(), did, source_line(other_caller).c_str());
}

static bool check_global_cell(const global_access &a, global_cell &cell, size_t offset) {
    if (is_unordered(a, cell.write, cell.write_epoch)) {
        report_global_race(a, offset, cell.write, cell.write_epoch, "wrote", cell.write_caller);
        return false;
    }
    uint32_t serial = serial_of(a.b) | (a.atomic ? ATOMIC_BIT : 0);
    uint32_t epoch = epoch_of(a.agent, a.clock);
    if (a.write && is_unordered(a, cell.read, cell.read_epoch)) {
        report_global_race(a, offset, cell.read, cell.read_epoch, "read", cell.read_caller);
        return false;
    }
    if (a.write) {
        cell.write = serial;
        cell.write_epoch = epoch;
        cell.write_caller = a.caller;
    }
    if (!a.write || a.atomic) {
        cell.read = serial;
        cell.read_epoch = epoch;
        cell.read_caller = a.caller;
    }
    return true;
}

static void check_global_access(const global_access &a) {
    if (!checking || current_worker->failed) return;
    global_allocation *found = find_allocation(a.ptr);
    if (!found) return;
    ptrdiff_t offset = (const char *)a.ptr - found->start;
    if (offset < 0 || (size_t)offset + a.bytes > found->bytes) {
        report(&a.t, SIMT_OUT_OF_BOUNDS, a.caller,
               "global %s outside a %zu-byte allocation: offset %td, %zu bytes", verb(a.write),
               found->bytes, offset, a.bytes);
        return;
    }
    size_t first = (size_t)offset / CELL_BYTES;
    size_t last = ((size_t)offset + a.bytes - 1) / CELL_BYTES;
    for (size_t i = first; i <= last; i++) {
        global_cell &cell = cell_at(*found, i);
        if (!cell.write && (!a.write || a.atomic)) {
            report(&a.t, SIMT_UNINITIALISED, a.caller,
                   "read of global memory never written: offset %td of a %zu-byte allocation",
                   offset, found->bytes);
            return;
        }
        if (!check_global_cell(a, cell, (size_t)offset)) return;
    }
}
void check_global(block &b, cuda_thread &t, agent_kind kind, uint32_t clock, const void *ptr,
                  size_t bytes, bool write, uint32_t caller) {
    if (!checking) return;
    check_global_access({b, t, agent_of(b, t, kind), clock, ptr, bytes, write, false, caller});
}

/* An atomic after a fence releases what its thread knows, and every atomic acquires what was
 * released at its address. */
static void pass_on(block &b, cuda_thread &t, atomic_release &at) {
    if (at.serial != serial_of(b)) {
        at.serial = serial_of(b);
        at.threads.assign((size_t)b.agent_count, 0);
    }
    if (t.fenced_global) {
        add_bits(at.blocks, b.blocks_before);
        set_bit(at.blocks, b.linear);
        raise(at.threads, *t.ordered.base);
        raise_own(b, at.threads, t, t.ordered);
        t.ordered.own[AGENT_THREAD]++;
    }
    add_bits(b.blocks_before, at.blocks);
    auto known = std::make_shared<clock_vector>(*t.ordered.base);
    raise(*known, at.threads);
    t.ordered.base = known;
}
void check_atomic(const void *ptr, size_t bytes, uint32_t caller) {
    cuda_thread *t = current_thread();
    if (!checking || !in_heap(ptr)) return;
    block &b = *t->in_block;
    pass_on(b, *t, atomic_releases[ptr]);
    check_global_access(
        {b, *t, (uint32_t)t->index, t->ordered.own[AGENT_THREAD], ptr, bytes, true, true, caller});
    stop_if_failed();
}

/* ---- what the compiler's instrumentation calls ---- */

#ifdef SIMT_CHECK
static void check_access(const void *ptr, size_t bytes, bool write, uint32_t caller) {
    cuda_thread *t = current_thread();
    if (!t) return;
    block &b = *t->in_block;
    size_t offset = (size_t)((const char *)ptr - b.window);
    bool shared = offset < WINDOW_BYTES;
    if (!shared && !in_heap(ptr)) return;
    bool vector_access = bytes <= 16 && (bytes & (bytes - 1)) == 0;
    if (vector_access && (uintptr_t)ptr % bytes) {
        die(SIMT_MISALIGNED, caller, "%zu-byte access to an address that is no multiple of it",
            bytes);
    }
    if (shared) {
        check_shared(b, *t, (uint32_t)t->index, t->ordered.own[AGENT_THREAD], (uint32_t)offset,
                     (uint32_t)bytes, write, caller);
    } else {
        check_global(b, *t, AGENT_THREAD, t->ordered.own[AGENT_THREAD], ptr, bytes, write, caller);
    }
    stop_if_failed();
    unsigned preempt = (unsigned)options().preempt;
    if (preempt && random_next(*current_worker) % preempt == 0) to_scheduler();
}
#endif

} // namespace simt

#ifdef SIMT_CHECK
extern "C" {
#define SIMT_ENTRY(name, bytes, write)                                                             \
    void __tsan_##name(void *ptr) {                                                                \
        simt::check_access(ptr, bytes, write, CALLER());                                           \
    }
#define SIMT_ENTRIES(bytes)                                                                        \
    SIMT_ENTRY(read##bytes, bytes, false)                                                          \
    SIMT_ENTRY(write##bytes, bytes, true)                                                          \
    SIMT_ENTRY(unaligned_read##bytes, bytes, false)                                                \
    SIMT_ENTRY(unaligned_write##bytes, bytes, true)                                                \
    SIMT_ENTRY(volatile_read##bytes, bytes, false)                                                 \
    SIMT_ENTRY(volatile_write##bytes, bytes, true)                                                 \
    void __tsan_read_write##bytes(void *ptr) {                                                     \
        simt::check_access(ptr, bytes, false, CALLER());                                           \
        simt::check_access(ptr, bytes, true, CALLER());                                            \
    }
SIMT_ENTRIES(1)
SIMT_ENTRIES(2)
SIMT_ENTRIES(4)
SIMT_ENTRIES(8)
SIMT_ENTRIES(16)
void __tsan_read_range(void *ptr, size_t bytes) {
    simt::check_access(ptr, bytes, false, CALLER());
}
void __tsan_write_range(void *ptr, size_t bytes) {
    simt::check_access(ptr, bytes, true, CALLER());
}
void *__tsan_memcpy(void *dst, const void *src, size_t bytes) {
    simt::check_access(src, bytes, false, CALLER());
    simt::check_access(dst, bytes, true, CALLER());
    return memcpy(dst, src, bytes);
}
void *__tsan_memmove(void *dst, const void *src, size_t bytes) {
    simt::check_access(src, bytes, false, CALLER());
    simt::check_access(dst, bytes, true, CALLER());
    return memmove(dst, src, bytes);
}
void *__tsan_memset(void *dst, int value, size_t bytes) {
    simt::check_access(dst, bytes, true, CALLER());
    return memset(dst, value, bytes);
}
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
}
#endif
