/* What a test sets and reads of the layer that runs CUDA kernels on the CPU. C and C++.
 *
 * The usual loop of an operator's test:
 *
 *     for (int i = 0; i < simt_schedule_count(); i++) {
 *         simt_set_schedule(i);
 *         ... launch, synchronise, compare ...
 *     }
 *
 * An error (a race, a deadlock, ...) makes the launch fail with cudaErrorLaunchFailure and stays,
 * as on a device, until simt_clear_error. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which of the threads that can run runs next. PCT: random priorities of warps, with a few points
 * where one drops to the bottom. */
enum simt_order { SIMT_FORWARD, SIMT_REVERSE, SIMT_RANDOM, SIMT_PCT };

/* When an asynchronous operation (cp.async, TMA, wgmma) takes effect: at issue, at the last legal
 * moment, or at a random one of these. */
enum simt_async { SIMT_EARLY, SIMT_LATE, SIMT_EITHER };

enum simt_error {
    SIMT_OK,
    SIMT_DEADLOCK,
    SIMT_LIVELOCK,
    SIMT_DIVERGENCE,
    SIMT_RACE,
    SIMT_PROXY_FENCE,
    SIMT_UNINITIALISED,
    SIMT_OUT_OF_BOUNDS,
    SIMT_MBARRIER,
    SIMT_TMA,
    SIMT_WGMMA,
    SIMT_CP_ASYNC,
    SIMT_LAUNCH,
    SIMT_MISALIGNED,
    SIMT_TRAP,
    SIMT_ERROR_COUNT
};

/* How tensor cores add: exact products and one rounding, or the published model of truncated
 * alignment (arXiv 2511.10909) with the widths of sm_80 or sm_90. */
enum simt_mma_model { SIMT_MMA_EXACT, SIMT_MMA_SM80, SIMT_MMA_SM90 };

/* Defaults come from the environment at first use: the variable of a field is SIMT_ and its name in
 * capitals, for example SIMT_SM_COUNT=7. */
struct simt_options {
    uint64_t seed;
    int order;           /* enum simt_order */
    int async;           /* enum simt_async */
    int late_streams;    /* 1: work of a stream runs when somebody waits for it, not at issue */
    int workers;         /* OS threads that run blocks; the checker uses one */
    int gang;            /* blocks that are resident together, for kernels that wait for others */
    int poison;          /* 1: shared memory and destinations in flight hold 0xff */
    int smem_skew;       /* bytes before dynamic shared memory: shows code that lacks alignment */
    int preempt;         /* checker: a yield before one memory access in this many; 0 never */
    int mma_model;       /* enum simt_mma_model */
    int quiet;           /* 1: reports are kept, not printed */
    int symbols;         /* 1: reports name source lines (runs addr2line) */
    size_t stack_bytes;  /* of one CUDA thread */
    int driver_version;  /* 13000; 0 is a machine without a driver */
    int device_count;    /* 0 or 1 */
    int sm_count;        /* multiprocessors */
    int major, minor;    /* compute capability */
    size_t memory_bytes; /* of the device: cudaMalloc fails beyond it */
};
struct simt_options *simt_options_get(void);

/* The schedules a test goes through: 12 in a plain build (4 orders, 3 moments), 2 under sanitizers
 * and under the checker. SIMT_SCHEDULE=i narrows them to the one numbered i; SIMT_ORDER, SIMT_ASYNC
 * or SIMT_SEED to the one these describe. */
int simt_schedule_count(void);
void simt_set_schedule(int index);
/* "reverse, late, seed 6". Overwritten by the next call. */
const char *simt_schedule_name(void);

/* The first error since the last clear, and its report. */
enum simt_error simt_last_error(void);
const char *simt_last_report(void);
const char *simt_error_name(enum simt_error error);
void simt_clear_error(void);

/* 1 where races and proxy fences are checked, 1 where ASan watches memory. */
int simt_is_checking(void);
int simt_has_asan(void);

/* Counts since the last clear. ldmatrix_conflicts are wavefronts beyond one for each 8x8 tile. */
struct simt_stats {
    uint64_t launches, blocks, switches, collectives, barriers;
    uint64_t mmas, ldmatrix_tiles, ldmatrix_conflicts, cp_asyncs, tma_boxes, wgmmas;
};
struct simt_stats simt_stats_get(void);
void simt_stats_clear(void);

/* Allocations of device and of pinned memory, and streams, that have not been given back. */
int simt_live_count(void);

#ifdef __cplusplus
}
#endif
