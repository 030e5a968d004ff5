/* Every inline PTX instruction of the project, once, with a device body and an emulated body.
 * Nothing else in the tree may contain asm. The emulated bodies are in tests/simt; the conformance
 * test compares the two, instruction by instruction, where there is a GPU.
 *
 * Register fragments are those of the PTX ISA, section "Matrix multiply-accumulate". Addresses of
 * shared memory are 32-bit (ptx_smem). */
#pragma once

#include "kernels/cuda/device.cuh"

#ifdef SEO_SIMT
#define PTX_FN                       static inline
#define PTX_BODY(on_device, on_host) on_host
#else
#define PTX_FN                       __device__ static __forceinline__
#define PTX_BODY(on_device, on_host) on_device
#endif

PTX_FN uint32_t ptx_smem(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- sm_80: asynchronous copies ---- */

/* 16 bytes from global to shared memory past L1; bytes beyond src_bytes (0..16) are zero. */
PTX_FN void ptx_cp_async16(uint32_t dst, const void *src, int src_bytes) {
    PTX_BODY(asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src),
                          "r"(src_bytes)
                          : "memory"),
             simt::cp_async(dst, src, 16, src_bytes));
}
/* 4 bytes, through L1; src_bytes is 0 or 4. */
PTX_FN void ptx_cp_async4(uint32_t dst, const void *src, int src_bytes) {
    PTX_BODY(asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst), "l"(src),
                          "r"(src_bytes)
                          : "memory"),
             simt::cp_async(dst, src, 4, src_bytes));
}
PTX_FN void ptx_cp_async_commit() {
    PTX_BODY(asm volatile("cp.async.commit_group;" ::: "memory"), simt::cp_async_commit());
}
/* Waits until at most N of this thread's groups are in flight. */
template <int N> PTX_FN void ptx_cp_async_wait() {
    PTX_BODY(asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"), simt::cp_async_wait(N));
}

/* ---- sm_80: matrix fragments ---- */

/* Four 8x8 tiles of 16-bit elements; lane l gives the address of row l % 8 of tile l / 8. */
PTX_FN void ptx_ldmatrix_x4(uint32_t (&r)[4], uint32_t addr) {
    PTX_BODY(asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                          : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                          : "r"(addr)
                          : "memory"),
             simt::ldmatrix(4, false, r, addr));
}
/* The same, each tile transposed. */
PTX_FN void ptx_ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t addr) {
    PTX_BODY(asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                          : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                          : "r"(addr)
                          : "memory"),
             simt::ldmatrix(4, true, r, addr));
}
/* d (16x8, f32) += a (16x16) * b (16x8), bf16. */
PTX_FN void ptx_mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef SEO_SIMT
    const uint32_t b[2] = {b0, b1};
    simt::mma_m16n8k16_bf16(d, a, b, d);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/* ---- barriers and arithmetic ---- */

/* Barrier `id` (1..15) of `threads` threads, a multiple of 32. */
PTX_FN void ptx_bar_sync(int id, int threads) {
    PTX_BODY(asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads)
                          : "memory"),
             simt::bar_sync(id, threads));
}
/* 2^x with a relative error of at most 2^-22, 0 for -inf. */
PTX_FN float ptx_exp2(float x) {
    float y;
    PTX_BODY(asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)), y = simt::ex2_approx(x));
    return y;
}
/* tanh x with an absolute error of at most 2^-10.987. */
PTX_FN float ptx_tanh(float x) {
    float y;
    PTX_BODY(asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x)), y = simt::tanh_approx(x));
    return y;
}

/* ---- sm_90a: mbarrier, TMA, wgmma ---- */

#ifdef SEO_SM90A
PTX_FN void ptx_mbar_init(uint32_t bar, uint32_t arrivals) {
    PTX_BODY(asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals)
                          : "memory"),
             simt::mbar_init(bar, arrivals));
}
/* Makes mbarrier.init visible to the asynchronous proxy. */
PTX_FN void ptx_fence_mbar_init() {
    PTX_BODY(asm volatile("fence.mbarrier_init.release.cluster;" ::
                              : "memory"),
             simt::fence_mbar_init());
}
/* Makes this thread's writes to shared memory visible to TMA and wgmma. */
PTX_FN void ptx_fence_proxy_async() {
    PTX_BODY(asm volatile("fence.proxy.async.shared::cta;" ::
                              : "memory"),
             simt::fence_proxy_async());
}
PTX_FN void ptx_mbar_arrive(uint32_t bar) {
    PTX_BODY(asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar)
                          : "memory"),
             simt::mbar_arrive(bar, 1));
}
PTX_FN void ptx_mbar_arrive_expect_tx(uint32_t bar, uint32_t bytes) {
    PTX_BODY(
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                     : "memory"),
        simt::mbar_expect_tx(bar, bytes, true));
}
/* Waits for the end of the phase of this parity. */
PTX_FN void ptx_mbar_wait(uint32_t bar, uint32_t parity) {
#ifdef SEO_SIMT
    simt::mbar_try_wait(bar, parity, true);
#else
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "WAIT:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@p bra DONE;\n"
                 "bra WAIT;\n"
                 "DONE:\n"
                 "}" ::"r"(bar),
                 "r"(parity)
                 : "memory");
#endif
}
/* A box of a two-dimensional tensor map to shared memory; x counts along the rows. */
PTX_FN void ptx_tma_load_2d(uint32_t dst, const CUtensorMap *map, int x, int y, uint32_t bar) {
#ifdef SEO_SIMT
    const int at[2] = {x, y};
    simt::tma_load(dst, map, at, 2, bar);
#else
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(dst),
                 "l"(map), "r"(x), "r"(y), "r"(bar)
                 : "memory");
#endif
}
PTX_FN void ptx_tma_store_2d(const CUtensorMap *map, int x, int y, uint32_t src) {
#ifdef SEO_SIMT
    const int at[2] = {x, y};
    simt::tma_store(map, at, 2, src);
#else
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(
            map),
        "r"(x), "r"(y), "r"(src)
        : "memory");
#endif
}
PTX_FN void ptx_bulk_commit() {
    PTX_BODY(asm volatile("cp.async.bulk.commit_group;" ::: "memory"), simt::bulk_commit());
}
/* Waits until this thread's stores have read their shared memory. */
PTX_FN void ptx_bulk_wait_read() {
    PTX_BODY(asm volatile("cp.async.bulk.wait_group.read 0;" ::
                              : "memory"),
             simt::bulk_wait(0, true));
}

PTX_FN void ptx_wgmma_fence() {
    PTX_BODY(asm volatile("wgmma.fence.sync.aligned;" ::: "memory"), simt::wgmma_fence());
}
PTX_FN void ptx_wgmma_commit() {
    PTX_BODY(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"), simt::wgmma_commit());
}
template <int N> PTX_FN void ptx_wgmma_wait() {
    PTX_BODY(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N)
                          : "memory"),
             simt::wgmma_wait(N));
}
template <int R> PTX_FN void ptx_setmaxnreg_inc() {
    PTX_BODY(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(R)), simt::setmaxnreg(R));
}
template <int R> PTX_FN void ptx_setmaxnreg_dec() {
    PTX_BODY(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(R)), simt::setmaxnreg(R));
}

/* Descriptor of an operand with 128-byte swizzle whose groups of 8 rows of 128 bytes are 1,024
 * bytes apart. K-major: a step of 16 along k adds 32 bytes to addr. */
PTX_FN uint64_t ptx_desc_sw128(uint32_t addr) {
    return (uint64_t)((addr & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}
/* Keeps the compiler from moving accumulators across the asynchronous region. */
template <int N> PTX_FN void ptx_fence_registers(float (&d)[N]) {
#ifdef SEO_SIMT
    (void)d;
#else
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

#ifndef SEO_SIMT
#define PTX_8_FLOATS(i)                                                                            \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#endif
/* d (64x128, f32) = or += A (64x16) * B (128x16)^T, bf16, both in shared memory and K-major.
 * scale_d 0: =. */
PTX_FN void ptx_wgmma_m64n128k16(float (&d)[64], uint64_t desc_a, uint64_t desc_b, int scale_d) {
#ifdef SEO_SIMT
    simt::wgmma_bf16(128, d, nullptr, desc_a, desc_b, scale_d, false, false);
#else
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63},"
                 " %64, %65, p, 1, 1, 0, 0;\n"
                 "}"
                 : PTX_8_FLOATS(0), PTX_8_FLOATS(8), PTX_8_FLOATS(16), PTX_8_FLOATS(24),
                   PTX_8_FLOATS(32), PTX_8_FLOATS(40), PTX_8_FLOATS(48), PTX_8_FLOATS(56)
                 : "l"(desc_a), "l"(desc_b), "r"(scale_d));
#endif
}
#undef PTX_8_FLOATS
#endif /* SEO_SM90A */
