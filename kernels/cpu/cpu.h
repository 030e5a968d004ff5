/* Private to kernels/cpu: these files are compiled once per level (plain, avx2, avx512) with
 * SEO_CPU_LEVEL set to the level's name and the compiler's flags for it; SEO_CPU_FN gives each
 * build its own symbols, so nothing is linked twice. */
#pragma once

#include "kernels/backend.h"

#ifndef SEO_CPU_LEVEL
#define SEO_CPU_LEVEL plain /* so that the header compiles alone */
#endif

#define SEO_CPU_JOIN2(level, name) seo_cpu_##level##_##name
#define SEO_CPU_JOIN(level, name)  SEO_CPU_JOIN2(level, name)
#define SEO_CPU_FN(name)           SEO_CPU_JOIN(SEO_CPU_LEVEL, name)

#ifdef __cplusplus
extern "C" {
#endif

/* Each thread's part of dev->scratch: room for the packed panels of a matmul or the tiles of an
 * attention. */
enum { SEO_CPU_SCRATCH_BYTES = 4 << 20 };

/* The least of dev->scratch as a whole: what threads pack together, a matmul's operands, should fit
 * it in one piece. */
enum { SEO_CPU_SHARED_BYTES = 32 << 20 };

static inline void *seo_cpu_scratch(seo_device *dev, int thread) {
    return (char *)dev->scratch + (int64_t)thread * SEO_CPU_SCRATCH_BYTES;
}

/* How many threads are worth waking for `elements` elements of work. Results never depend on it. */
static inline int seo_cpu_threads(const seo_device *dev, int64_t elements) {
    return elements < 16384 ? 1 : dev->threads;
}

#define SEO_OP(op) seo_err SEO_CPU_FN(op)(seo_device * dev, const seo_##op##_args *a);
#include "kernels/ops.def"
#undef SEO_OP

#ifdef __cplusplus
}
#endif
