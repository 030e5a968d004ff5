/* CUDA kernels on the CPU, for tests: what a kernel file sees instead of NVIDIA's headers when
 * SEO_SIMT is defined. Every CUDA thread is a fiber; every warp, barrier, TMA and tensor-core
 * instruction is a function that follows the layouts of the PTX ISA. Needs neither a GPU nor a CUDA
 * toolkit. docs/simt.md tells what is checked and how.
 *
 * Facts a kernel's author needs:
 *   - simt_options.h: schedules, reports and the emulated device, for tests in C too;
 *   - cuda_runtime_api.h: streams, events, memory and graphs, for a host side in C;
 *   - float atomics do not exist, and atomics on shared memory are not checked for races;
 *   - device memory and shared memory start as 0xff: NaN, and -1;
 *   - a launch runs in the stream's order, at once unless late_streams is set. */
#pragma once

#include "cuda.h"
#include "cuda_runtime_api.h"
#include "simt_options.h"
#include "simt_types.h"

#ifdef __cplusplus

#include <math.h>
#include <stdio.h>
#include <tuple>
#include <type_traits>
#include <utility>

namespace simt {

struct thread_context {
    uint3 thread_idx, block_idx;
    dim3 block_dim, grid_dim;
};
/* The CUDA thread that runs on this OS thread; null on the host side. */
extern __thread thread_context *self;

/* ---- launch ---- */

/* A kernel with a private copy of its arguments. `run` executes one thread of it; `drop` frees it.
 */
struct kernel_call {
    dim3 grid, block;
    size_t smem_bytes;
    void *kernel;
    void (*run)(void *args);
    void (*drop)(void *args);
    void *args;
};
/* Runs the call, or records it in the stream's capture; owns it from here. */
cudaError_t submit(const kernel_call &call, cudaStream_t stream);

template <class... P> struct packed_call {
    void (*kernel)(P...);
    std::tuple<std::decay_t<P>...> args;
    static void run(void *at) {
        packed_call &call = *(packed_call *)at;
        std::apply(call.kernel, call.args);
    }
    static void drop(void *at) { delete (packed_call *)at; }
};
template <class... P, class... A>
cudaError_t launch(dim3 grid, dim3 block, size_t smem_bytes, cudaStream_t stream,
                   void (*kernel)(P...), A &&...args) {
    typedef packed_call<P...> packed;
    packed *call = new packed{kernel, std::tuple<std::decay_t<P>...>(std::forward<A>(args)...)};
    return submit({grid, block, smem_bytes, (void *)kernel, packed::run, packed::drop, call},
                  stream);
}

/* ---- shared memory ---- */

unsigned char *dyn_smem();
void *static_smem(const void *key, size_t bytes, size_t align);
template <class T, size_t N> T (&shared_array(const void *key, size_t align))[N] {
    return *(T(*)[N])static_smem(key, sizeof(T) * N, align > alignof(T) ? align : alignof(T));
}
uint32_t smem_addr(const void *ptr);

/* ---- barriers and warp primitives ---- */

enum shuffle_kind { SHUFFLE_INDEX, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR };
void bar_sync(int id, int threads); /* threads 0: the whole block */
void bar_arrive(int id, int threads);
void syncwarp(uint32_t mask);
uint64_t shuffle(uint32_t mask, uint64_t value, int operand, shuffle_kind kind, int width);
uint32_t ballot(uint32_t mask, int predicate);
bool all_lanes(uint32_t mask, int predicate);
bool elect_one();
void setmaxnreg(int registers);
void spin_yield();
void threadfence();
[[noreturn]] void trap();

/* ---- approximate arithmetic ---- */

float ex2_approx(float x); /* flushes denormals */
float tanh_approx(float x);

/* ---- cp.async, ldmatrix, mma ---- */

void cp_async(uint32_t dst, const void *src, int bytes, int src_bytes);
void cp_async_commit();
void cp_async_wait(int keep);
void ldmatrix(int tiles, bool transposed, uint32_t *r, uint32_t addr);
void stmatrix(int tiles, bool transposed, uint32_t addr, const uint32_t *r);
void mma_m16n8k16_bf16(float *d, const uint32_t *a, const uint32_t *b, const float *c);

/* ---- mbarrier, TMA, wgmma ---- */

void mbar_init(uint32_t bar, uint32_t arrivals);
void mbar_arrive(uint32_t bar, uint32_t arrivals);
void mbar_expect_tx(uint32_t bar, uint32_t bytes, bool arrive);
/* The end of the phase of this parity; with `wait` false it polls once. */
bool mbar_try_wait(uint32_t bar, uint32_t parity, bool wait);
void fence_proxy_async();
void fence_mbar_init();
void tma_load(uint32_t dst, const CUtensorMap *map, const int *at, int rank, uint32_t bar);
void tma_store(const CUtensorMap *map, const int *at, int rank, uint32_t src);
void bulk_commit();
void bulk_wait(int keep, bool read_only);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int keep);
/* d: n / 2 floats. A in registers (a_regs) or, if that is null, in shared memory by descriptor. */
void wgmma_bf16(int n, float *d, const uint32_t *a_regs, uint64_t a_desc, uint64_t b_desc,
                int scale_d, bool transpose_a, bool transpose_b);
/* Byte address of element (mn, k) of the operand that a descriptor describes. */
uint32_t wgmma_operand_addr(uint64_t desc, bool mn_major, int mn, int k);

/* ---- atomics: of int, unsigned and unsigned long long ---- */

template <class T> T atomic_add(T *at, T value);
template <class T> T atomic_exchange(T *at, T value);
template <class T> T atomic_cas(T *at, T expected, T value);

} // namespace simt

#define threadIdx (::simt::self->thread_idx)
#define blockIdx  (::simt::self->block_idx)
#define blockDim  (::simt::self->block_dim)
#define gridDim   (::simt::self->grid_dim)

#define SIMT_FN   static __forceinline__

/* ---- device functions: barriers, fences, shuffles, votes ---- */

SIMT_FN void __syncthreads() {
    simt::bar_sync(0, 0);
}
SIMT_FN void __syncwarp(unsigned mask = 0xffffffffu) {
    simt::syncwarp(mask);
}
SIMT_FN void __threadfence() {
    simt::threadfence();
}
SIMT_FN void __threadfence_system() {
    simt::threadfence();
}
SIMT_FN void __threadfence_block() {}
SIMT_FN void __nanosleep(unsigned) {
    simt::spin_yield();
}
SIMT_FN void __trap() {
    simt::trap();
}
SIMT_FN size_t __cvta_generic_to_shared(const void *ptr) {
    return simt::smem_addr(ptr);
}

template <class T>
SIMT_FN T simt_shuffle(unsigned mask, T value, int operand, simt::shuffle_kind kind, int width) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a register or two");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = simt::shuffle(mask, bits, operand, kind, width);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T> SIMT_FN T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    return simt_shuffle(mask, value, lane, simt::SHUFFLE_INDEX, width);
}
template <class T> SIMT_FN T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    return simt_shuffle(mask, value, (int)by, simt::SHUFFLE_UP, width);
}
template <class T> SIMT_FN T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    return simt_shuffle(mask, value, (int)by, simt::SHUFFLE_DOWN, width);
}
template <class T> SIMT_FN T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32) {
    return simt_shuffle(mask, value, by, simt::SHUFFLE_XOR, width);
}
SIMT_FN unsigned __ballot_sync(unsigned mask, int predicate) {
    return simt::ballot(mask, predicate);
}
SIMT_FN int __any_sync(unsigned mask, int predicate) {
    return simt::ballot(mask, predicate) != 0;
}
SIMT_FN int __all_sync(unsigned mask, int predicate) {
    return simt::all_lanes(mask, predicate);
}

/* ---- loads and stores with a cache hint ---- */

template <class T> SIMT_FN T __ldg(const T *at) {
    return *at;
}
template <class T> SIMT_FN T __ldca(const T *at) {
    return *at;
}
template <class T> SIMT_FN T __ldcg(const T *at) {
    return *at;
}
template <class T> SIMT_FN T __ldcs(const T *at) {
    return *at;
}
template <class T> SIMT_FN void __stcg(T *at, T value) {
    *at = value;
}
template <class T> SIMT_FN void __stcs(T *at, T value) {
    *at = value;
}
template <class T> SIMT_FN void __stwt(T *at, T value) {
    *at = value;
}

/* ---- atomics ---- */

#define SIMT_ATOMICS(T)                                                                            \
    SIMT_FN T atomicAdd(T *at, T value) {                                                          \
        return simt::atomic_add(at, value);                                                        \
    }                                                                                              \
    SIMT_FN T atomicExch(T *at, T value) {                                                         \
        return simt::atomic_exchange(at, value);                                                   \
    }                                                                                              \
    SIMT_FN T atomicCAS(T *at, T expected, T value) {                                              \
        return simt::atomic_cas(at, expected, value);                                              \
    }
SIMT_ATOMICS(int)
SIMT_ATOMICS(unsigned)
SIMT_ATOMICS(unsigned long long)
#undef SIMT_ATOMICS

/* ---- arithmetic ---- */

#define SIMT_MIN_MAX(T)                                                                            \
    SIMT_FN T min(T a, T b) {                                                                      \
        return a < b ? a : b;                                                                      \
    }                                                                                              \
    SIMT_FN T max(T a, T b) {                                                                      \
        return a > b ? a : b;                                                                      \
    }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX

/* The C library has functions of these names of its own. */
#define __expf  simt_expf
#define __logf  simt_logf
#define __log2f simt_log2f
SIMT_FN float __expf(float x) {
    return expf(x);
}
SIMT_FN float __logf(float x) {
    return logf(x);
}
SIMT_FN float __log2f(float x) {
    return log2f(x);
}
SIMT_FN float __fdividef(float a, float b) {
    return a / b;
}
SIMT_FN float __fdiv_rn(float a, float b) {
    return a / b;
}
SIMT_FN float __frcp_rn(float x) {
    return 1.0f / x;
}
SIMT_FN float __fsqrt_rn(float x) {
    return sqrtf(x);
}
SIMT_FN float __frsqrt_rn(float x) {
    return (float)(1.0 / sqrt((double)x));
}
SIMT_FN float rsqrtf(float x) {
    return __frsqrt_rn(x);
}
SIMT_FN float __fadd_rn(float a, float b) {
    return a + b;
}
SIMT_FN float __fsub_rn(float a, float b) {
    return a - b;
}
SIMT_FN float __fmul_rn(float a, float b) {
    return a * b;
}
SIMT_FN float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
SIMT_FN double __dadd_rn(double a, double b) {
    return a + b;
}
SIMT_FN double __dmul_rn(double a, double b) {
    return a * b;
}
SIMT_FN float __saturatef(float x) {
    return x >= 1.0f ? 1.0f : x > 0.0f ? x : 0.0f;
}
/* To the nearest, ties to even, clamped to the range as the device does; NaN gives 0. */
SIMT_FN int __float2int_rn(float x) {
    if (!(x == x)) return 0;
    if (x >= 2147483648.0f) return INT32_MAX;
    if (x <= -2147483648.0f) return INT32_MIN;
    return (int)rintf(x);
}
SIMT_FN float __int2float_rn(int x) {
    return (float)x;
}
SIMT_FN float __uint2float_rn(unsigned x) {
    return (float)x;
}
SIMT_FN int __popc(unsigned x) {
    return __builtin_popcount(x);
}
SIMT_FN int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
SIMT_FN int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
SIMT_FN int __clzll(long long x) {
    return x ? __builtin_clzll((unsigned long long)x) : 64;
}
SIMT_FN int __ffs(int x) {
    return __builtin_ffs(x);
}
SIMT_FN unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
SIMT_FN unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

/* ---- typed overloads of the runtime, as NVIDIA's C++ header has them ---- */

template <class T> static inline cudaError_t cudaMalloc(T **ptr, size_t bytes) {
    return cudaMalloc((void **)ptr, bytes);
}
template <class T> static inline cudaError_t cudaMallocHost(T **ptr, size_t bytes) {
    return cudaMallocHost((void **)ptr, bytes);
}
template <class T>
static inline cudaError_t cudaFuncSetAttribute(T *func, cudaFuncAttribute attr, int value) {
    return cudaFuncSetAttribute((const void *)func, attr, value);
}

#endif
