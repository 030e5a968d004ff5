/* What the layer says: reports of errors with source lines, who waits for what, and counts. */
#include "simt_internal.h"

#include <mutex>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

namespace simt {

static struct {
    std::recursive_mutex lock;
    simt_error error;
    char text[8192];
    simt_stats stats;
} record;

/* ---- source lines ---- */

static bool is_layer_file(const std::string &line) {
    static const char *const names[] = {"simt", "ptx.cuh", "device.cuh"};
    for (const char *name : names) {
        if (line.compare(0, strlen(name), name) == 0) return true;
    }
    return false;
}

std::string source_line(uint32_t caller) {
    if (!caller || !options().symbols) return "?";
    char program[512];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length < 0 ? 0 : length] = 0;
    char command[700];
    snprintf(command, sizeof command, "addr2line -Cfie '%s' 0x%x 2>/dev/null", program, caller - 1);
    FILE *output = popen(command, "r");
    if (!output) return "?";
    /* Frames come innermost first: the first outside the layer is the kernel's own line. */
    char function[4096], line[1024];
    std::string best;
    while (fgets(function, sizeof function, output) && fgets(line, sizeof line, output)) {
        line[strcspn(line, " \n")] = 0;
        const char *slash = strrchr(line, '/');
        if (best.empty() || is_layer_file(best)) best = slash ? slash + 1 : line;
    }
    pclose(output);
    return best.empty() ? "?" : best;
}

/* ---- errors ---- */

static void write_report(cuda_thread *t, simt_error error, uint32_t caller, const char *what) {
    const kernel_call *call = current_worker ? current_worker->call : nullptr;
    std::string kernel =
        call ? source_line((uint32_t)(uintptr_t)call->kernel + 1) : std::string("?");
    char place[256] = "";
    if (t) {
        snprintf(place, sizeof place, ", block (%u,%u,%u) thread %d (warp %d lane %d)%s%s",
                 t->block_idx.x, t->block_idx.y, t->block_idx.z, t->index, t->index / LANES,
                 t->lane, caller ? " at " : "", caller ? source_line(caller).c_str() : "");
    }
    snprintf(record.text, sizeof record.text, "SIMT ERROR [%s] kernel at %s%s\n  %s\n",
             simt_error_name(error), kernel.c_str(), place, what);
    if (!options().quiet) {
        fprintf(stderr, "%s  (schedule: %s)\n", record.text, simt_schedule_name());
    }
}

static void report_args(cuda_thread *t, simt_error error, uint32_t caller, const char *format,
                        va_list args) {
    std::lock_guard<std::recursive_mutex> hold(record.lock);
    if (current_worker) current_worker->failed = true;
    if (record.error != SIMT_OK) return;
    char what[6000];
    vsnprintf(what, sizeof what, format, args);
    record.error = error;
    write_report(t, error, caller, what);
}

void report(cuda_thread *t, simt_error error, uint32_t caller, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report_args(t, error, caller, format, args);
    va_end(args);
}

void die(simt_error error, uint32_t caller, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report_args(current_thread(), error, caller, format, args);
    va_end(args);
    for (;;) to_scheduler();
}

/* ---- who waits ---- */

static bool same_wait(const cuda_thread &a, const cuda_thread &b) {
    if (a.state != b.state) return false;
    return a.state == EXITED || (a.caller == b.caller && a.wait_operand == b.wait_operand &&
                                 a.wait_detail == b.wait_detail);
}

static std::string describe_wait(block &b, const cuda_thread &t) {
    char text[200];
    switch (t.state) {
    case EXITED: return "exited";
    case READY: return "ready";
    case AT_MBARRIER: {
        const mbarrier &m = b.mbarriers[t.wait_operand];
        snprintf(text, sizeof text,
                 "mbarrier +0x%x parity %u (phase %llu, %u of %u arrivals missing, tx-count %lld)",
                 t.wait_operand, t.wait_detail, (unsigned long long)m.phase, m.missing, m.arrivals,
                 (long long)m.tx_bytes);
        break;
    }
    case AT_BARRIER:
        snprintf(text, sizeof text, "%s id %u (%d of %d arrived)", t.waits_in, t.wait_operand,
                 b.barriers[t.wait_operand].arrived, t.wait_detail ? (int)t.wait_detail : b.live);
        break;
    default: snprintf(text, sizeof text, "%s mask %08x", t.waits_in, t.wait_operand); break;
    }
    return std::string(text) + " at " + source_line(t.caller);
}

static void describe_warp(block &b, warp &w, std::string &text) {
    uint32_t described = 0;
    for (uint32_t rest = w.existing; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (described >> lane & 1) continue;
        const cuda_thread &t = lane_of(w, lane);
        uint32_t together = 0;
        for (uint32_t others = rest; others; others &= others - 1) {
            int other = __builtin_ctz(others);
            if (same_wait(t, lane_of(w, other))) together |= 1u << other;
        }
        described |= together;
        char head[80];
        snprintf(head, sizeof head, "\n    block %u warp %d lanes %08x: ", b.linear, w.index,
                 together);
        text += head + describe_wait(b, t);
    }
}

std::string who_waits(worker &w) {
    const size_t enough = 3000;
    std::string text;
    for (block &b : w.blocks) {
        for (warp &x : b.warps) {
            describe_warp(b, x, text);
            if (text.size() > enough) return text + "\n    ...";
        }
    }
    return text;
}

void add_stats(const simt_stats &s) {
    std::lock_guard<std::recursive_mutex> hold(record.lock);
    uint64_t *to = (uint64_t *)&record.stats;
    const uint64_t *from = (const uint64_t *)&s;
    for (size_t i = 0; i < sizeof s / sizeof *to; i++) to[i] += from[i];
}

} // namespace simt

using namespace simt;

/* ---- simt_options.h ---- */

enum simt_error simt_last_error(void) {
    return record.error;
}
const char *simt_last_report(void) {
    return record.text;
}
void simt_clear_error(void) {
    std::lock_guard<std::recursive_mutex> hold(record.lock);
    record.error = SIMT_OK;
    record.text[0] = 0;
}
const char *simt_error_name(enum simt_error error) {
    static const char *const names[SIMT_ERROR_COUNT] = {
        "ok",          "deadlock",      "livelock",      "divergence", "race",
        "proxy-fence", "uninitialised", "out-of-bounds", "mbarrier",   "tma",
        "wgmma",       "cp.async",      "launch",        "misaligned", "trap"};
    return names[error];
}
int simt_is_checking(void) {
    return checking;
}
int simt_has_asan(void) {
#ifdef SIMT_ASAN
    return 1;
#else
    return 0;
#endif
}
struct simt_stats simt_stats_get(void) {
    return record.stats;
}
void simt_stats_clear(void) {
    record.stats = simt_stats{};
}

static uint64_t from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, nullptr, 0) : otherwise;
}
#define SIMT_FIELD(field, variable, otherwise)                                                     \
    o.field = (decltype(o.field))from_environment(variable, otherwise)

static simt_options read_options() {
    simt_options o{};
    SIMT_FIELD(seed, "SIMT_SEED", 1);
    SIMT_FIELD(order, "SIMT_ORDER", SIMT_FORWARD);
    SIMT_FIELD(async, "SIMT_ASYNC", SIMT_LATE);
    SIMT_FIELD(late_streams, "SIMT_LATE_STREAMS", 0);
    SIMT_FIELD(workers, "SIMT_WORKERS", 1);
    SIMT_FIELD(gang, "SIMT_GANG", 1);
    SIMT_FIELD(poison, "SIMT_POISON", 1);
    SIMT_FIELD(smem_skew, "SIMT_SMEM_SKEW", 0);
    SIMT_FIELD(preempt, "SIMT_PREEMPT", 0);
    SIMT_FIELD(mma_model, "SIMT_MMA_MODEL", SIMT_MMA_EXACT);
    SIMT_FIELD(quiet, "SIMT_QUIET", 0);
    SIMT_FIELD(symbols, "SIMT_SYMBOLS", 1);
    SIMT_FIELD(stack_bytes, "SIMT_STACK_BYTES", simt_has_asan() ? 256 << 10 : 64 << 10);
    SIMT_FIELD(driver_version, "SIMT_DRIVER_VERSION", 13000);
    SIMT_FIELD(device_count, "SIMT_DEVICE_COUNT", 1);
    SIMT_FIELD(sm_count, "SIMT_SM_COUNT", 4);
    SIMT_FIELD(major, "SIMT_MAJOR", 9);
    SIMT_FIELD(minor, "SIMT_MINOR", 0);
    SIMT_FIELD(memory_bytes, "SIMT_MEMORY_BYTES", (uint64_t)16 << 30);
    return o;
}
struct simt_options *simt_options_get(void) {
    static simt_options all = read_options();
    return &all;
}

/* ---- schedules ---- */

static const int ORDERS = 4;
static const int MOMENTS = 3;

static bool schedule_is_given() {
    return getenv("SIMT_ORDER") || getenv("SIMT_ASYNC") || getenv("SIMT_SEED");
}
int simt_schedule_count(void) {
    if (schedule_is_given() || getenv("SIMT_SCHEDULE")) return 1;
    return simt_is_checking() || simt_has_asan() ? 2 : ORDERS * MOMENTS;
}
void simt_set_schedule(int index) {
    if (schedule_is_given()) return;
    simt_options &o = *simt_options_get();
    /* Where two must do: forward and early, then by priority and late. */
    bool short_list = simt_schedule_count() == 2;
    if (short_list && index == 1) index = SIMT_PCT * MOMENTS + SIMT_LATE;
    index = (int)from_environment("SIMT_SCHEDULE", (uint64_t)index);
    o.order = index / MOMENTS % ORDERS;
    o.async = index % MOMENTS;
    o.late_streams = o.async == SIMT_LATE;
    o.seed = (uint64_t)index + 1;
}
const char *simt_schedule_name(void) {
    static const char *const orders[] = {"forward", "reverse", "random", "pct"};
    static const char *const moments[] = {"early", "late", "either"};
    static char name[80];
    const simt_options &o = options();
    snprintf(name, sizeof name, "%s, %s, seed %llu", orders[o.order & 3], moments[o.async % 3],
             (unsigned long long)o.seed);
    return name;
}
