/* Tiles of bf16 operands in shared memory for mma.m16n8k16, and the fragments taken from them.
 *
 * An operand counts as MN rows of k, whether it is the left or the right one. It lies in memory
 * either K-major (k contiguous) or MN-major (rows of k, MN contiguous), and stays so in shared
 * memory, where chunks of 16 bytes (8 elements) are permuted within a line so that the 8 addresses
 * of an ldmatrix phase lie in 8 different groups of 4 banks:
 *
 *   K-major   MN lines of 32 k (64 bytes);     chunk c of line r lies at c ^ (r / 2 % 4)
 *   MN-major  32 lines of MN (MN * 2 bytes);   chunk c of line k lies at c ^ (k % 8) */
#pragma once

#include "kernels/cuda/tile.cuh"

enum { TILE_K = 32, TILE_CHUNK = 8 }; /* k of a stage; elements of 16 bytes */

/* What a thread needs of an operand during the loop over k. */
struct operand_view {
    const bf16 *at;  /* this thread's first chunk of the next tile */
    int64_t pitch;   /* elements from a line to the next */
    int32_t mn_left; /* of the operand, from the tile's first on */
};

template <bool K_MAJOR, int MN> struct operand_lines {
    static const int per_line = (K_MAJOR ? TILE_K : MN) / TILE_CHUNK; /* chunks */
    static const int count = K_MAJOR ? MN : TILE_K;
    static const int bytes = per_line * 16;
};

template <bool K_MAJOR> SEO_DEVICE int swizzled(int line, int chunk) {
    return K_MAJOR ? chunk ^ (line / 2 % 4) : chunk ^ (line % 8);
}

template <bool K_MAJOR, int MN>
SEO_DEVICE operand_view operand_view_of(const void *operand, int64_t pitch, int64_t mn0, int64_t mn,
                                        int64_t k0) {
    typedef operand_lines<K_MAJOR, MN> lines;
    const int line = threadIdx.x / lines::per_line, chunk = threadIdx.x % lines::per_line;
    const int64_t row = (K_MAJOR ? mn0 : k0) + line;
    const int64_t column = (K_MAJOR ? k0 : mn0) + chunk * TILE_CHUNK;
    const int64_t left = mn - mn0;
    return {(const bf16 *)operand + row * pitch + column, pitch,
            left < MN ? (int32_t)left : (int32_t)MN};
}

/* 8 elements to byte `dst` of smem, those from `count` on 0. ALIGNED: all or none of them, in
 * flight until the next ptx_cp_async_wait; otherwise one by one, and there on return. */
template <bool ALIGNED>
SEO_DEVICE void copy_chunk(unsigned char *smem, uint32_t dst, const bf16 *src, int count) {
    if (ALIGNED) {
        ptx_cp_async16(ptx_smem(smem) + dst, src, count > 0 ? 16 : 0);
    } else {
        vec<bf16> v;
#pragma unroll
        for (int i = 0; i < TILE_CHUNK; i++) {
            v.x[i] = i < count ? src[i] : __float2bfloat16_rn(0.0f);
        }
        *(vec<bf16> *)(smem + dst) = v;
    }
}

/* Fills the tile at byte `tile` of smem with the block's THREADS threads, zeros where the operand
 * ends (after k_here of the TILE_K), and moves the view on to the next tile of k. */
template <bool K_MAJOR, int MN, int THREADS, bool ALIGNED>
SEO_DEVICE void load_operand(unsigned char *smem, uint32_t tile, operand_view &v, int k_here) {
    typedef operand_lines<K_MAJOR, MN> lines;
    const int step = THREADS / lines::per_line; /* lines that the block fills at a time */
    static_assert(step % 8 == 0 && lines::count % step == 0, "the swizzle repeats with each step");
    const int line = threadIdx.x / lines::per_line, chunk = threadIdx.x % lines::per_line;
    const int lines_left = K_MAJOR ? v.mn_left : k_here;
    const int in_line = (K_MAJOR ? k_here : v.mn_left) - chunk * TILE_CHUNK;
    const uint32_t dst = tile + line * lines::bytes + swizzled<K_MAJOR>(line, chunk) * 16;
#pragma unroll
    for (int i = 0; i < lines::count / step; i++) {
        copy_chunk<ALIGNED>(smem, dst + i * step * lines::bytes, v.at + i * step * v.pitch,
                            line + i * step < lines_left ? in_line : 0);
    }
    v.at += K_MAJOR ? (int64_t)TILE_K : TILE_K * v.pitch;
}

/* The byte, within a tile, of the address that this lane gives to the ldmatrix of the 16 x 16 block
 * at (mn, 0). The four 8x8 blocks come in the order of the fragment's registers: MN outer, k inner
 * for a right operand; k outer for a left one. */
template <bool K_MAJOR, int MN, bool LEFT> SEO_DEVICE uint32_t fragment_lane(int mn) {
    const int lane = threadIdx.x % WARP;
    const bool lines_first = LEFT == K_MAJOR; /* blocks 0 and 1 are neighbours across lines */
    const int line = lines_first ? lane % 16 : lane % 8 + lane / 16 * 8;
    const int chunk = lines_first ? lane / 16 : lane / 8 % 2;
    typedef operand_lines<K_MAJOR, MN> lines;
    if (K_MAJOR) return (mn + line) * lines::bytes + swizzled<true>(line, chunk) * 16;
    return line * lines::bytes + swizzled<false>(line, mn / TILE_CHUNK + chunk) * 16;
}

/* The 16 x 16 block at (mn + 16 i, 16 kk), of the lane address for (mn, 0). A step inside a line
 * changes bits of the chunk that the swizzle only flips, so it is an exclusive or. */
template <bool K_MAJOR, int MN>
SEO_DEVICE void load_fragment(uint32_t (&r)[4], uint32_t tile, uint32_t lane_byte, int i, int kk) {
    typedef operand_lines<K_MAJOR, MN> lines;
    if (K_MAJOR) {
        ptx_ldmatrix_x4(r, tile + (lane_byte ^ (kk * 32)) + i * 16 * lines::bytes);
    } else {
        ptx_ldmatrix_x4_trans(r, tile + (lane_byte ^ (i * 32)) + kk * 16 * lines::bytes);
    }
}
