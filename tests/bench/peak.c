/* Twelve chains of multiply-adds, more than latency times units of any processor of today, in
 * assembly so that no compiler flag is needed and none can remove them. */
#include "tests/bench/peak.h"

#include "base/progress.h"

enum { CHAINS = 12, ROUNDS = 150000 };

#if defined(__x86_64__)
#define CLOBBERED                                                                                  \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define FMA(w, n) "vfmadd231ps %%" w "13, %%" w "13, %%" w #n "\n"
/* Without fused instructions a multiplication and an addition, which use the same units. */
#define MUL(n) "mulps %%xmm13, %%xmm" #n "\n"
#define ADD(n) "addps %%xmm13, %%xmm" #n "\n"
/* clang-format 14 never comes to rest on this one. */
/* clang-format off */
#define FMA12(w) FMA(w, 0) FMA(w, 1) FMA(w, 2) FMA(w, 3) FMA(w, 4) FMA(w, 5) \
    FMA(w, 6) FMA(w, 7) FMA(w, 8) FMA(w, 9) FMA(w, 10) FMA(w, 11)
/* clang-format on */
#define MULADD12                                                                                   \
    MUL(0) ADD(1) MUL(2) ADD(3) MUL(4) ADD(5) MUL(6) ADD(7) MUL(8) ADD(9) MUL(10) ADD(11)
#define LOOP(body)                                                                                 \
    do {                                                                                           \
        int64_t rounds = ROUNDS;                                                                   \
        __asm__ volatile("1:\n" body "dec %0\njnz 1b\n" : "+r"(rounds) : : CLOBBERED, "cc");       \
    } while (0)

/* Floating-point operations of one loop. The registers are cleared first: numbers that are
 * subnormal or not numbers would be slow. */
static double run_loop(seo_cpu_level level) {
    const double operations = (double)CHAINS * ROUNDS;
    if (level == SEO_CPU_AVX512) {
        __asm__ volatile("vzeroall" : : : CLOBBERED);
        LOOP(FMA12("zmm"));
        __asm__ volatile("vzeroupper" : : : CLOBBERED);
        return operations * 32;
    }
    if (level == SEO_CPU_AVX2) {
        __asm__ volatile("vzeroall" : : : CLOBBERED);
        LOOP(FMA12("ymm"));
        __asm__ volatile("vzeroupper" : : : CLOBBERED);
        return operations * 16;
    }
    LOOP(MULADD12);
    return operations * 4;
}
#else
static double run_loop(seo_cpu_level level) {
    (void)level;
    return 0.0;
}
#endif

double peak_gflops(seo_cpu_level level, int32_t threads) {
    double sum = 0.0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    {
        double best = 0.0;
        for (int i = 0; i < 2; i++) {
            double start = seo_clock_s();
            double operations = run_loop(level);
            double rate = operations / (seo_clock_s() - start) * 1e-9;
            if (rate > best) best = rate;
        }
        sum += best;
    }
    return sum;
}
