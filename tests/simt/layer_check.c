#include "tests/simt/layer_check.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <simt_options.h>

#include "tests/simt/bugs/bugs.h"

/* Off-tile sizes, so that every edge is taken. */
enum { NORM_ROWS = 3, NORM_WIDTH = 1040 };
enum { MMA_M = 100, MMA_N = 72, MMA_K = 200 };
enum { WGMMA_M = 200, WGMMA_N = 136, WGMMA_K = 328 };

struct problem {
    size_t a_bytes, b_bytes, out_count;
    void *a, *b;
    double *right, *bound; /* by element of the result */
};
static struct problem problems[FAMILY_COUNT];

static uint32_t random_state = 12345;
static float random_float(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / (1 << 23) - 1.0f;
}
static float bf16_float(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static uint16_t random_bf16(void) {
    float f = random_float();
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)(bits >> 16);
}
static void *get(size_t bytes) {
    void *p = calloc(1, bytes);
    if (!p) abort();
    return p;
}
static void allocate(struct problem *p, size_t a_bytes, size_t b_bytes, size_t out_count) {
    p->a_bytes = a_bytes;
    p->b_bytes = b_bytes;
    p->out_count = out_count;
    p->a = get(a_bytes);
    p->b = get(b_bytes + 1);
    p->right = get(out_count * sizeof *p->right);
    p->bound = get(out_count * sizeof *p->bound);
}

/* Two sums of f32 in any order, a square root and a product: (width + 16) roundings at most. */
static void norm_init(struct problem *p) {
    allocate(p, (size_t)NORM_ROWS * NORM_WIDTH * sizeof(float), 0, NORM_ROWS * NORM_WIDTH);
    float *x = p->a;
    for (int i = 0; i < NORM_ROWS * NORM_WIDTH; i++) x[i] = random_float();
    for (int row = 0; row < NORM_ROWS; row++, x += NORM_WIDTH) {
        double mean = 0, var = 0;
        for (int i = 0; i < NORM_WIDTH; i++) mean += (double)x[i] / NORM_WIDTH;
        for (int i = 0; i < NORM_WIDTH; i++) {
            var += ((double)x[i] - mean) * ((double)x[i] - mean) / NORM_WIDTH;
        }
        for (int i = 0; i < NORM_WIDTH; i++) {
            double right = ((double)x[i] - mean) / sqrt(var + 1e-5);
            p->right[row * NORM_WIDTH + i] = right;
            p->bound[row * NORM_WIDTH + i] = (NORM_WIDTH + 16) * 0x1p-24 * (1 + fabs(right));
        }
    }
}

/* A rounding for each product, and that of the result's type. */
static void matmul_init(struct problem *p, int m, int n, int k, bool b_transposed, double unit) {
    allocate(p, (size_t)m * (size_t)k * 2, (size_t)k * (size_t)n * 2, (size_t)m * (size_t)n);
    uint16_t *a = p->a, *b = p->b;
    for (int i = 0; i < m * k; i++) a[i] = random_bf16();
    for (int i = 0; i < k * n; i++) b[i] = random_bf16();
    for (int row = 0; row < m; row++) {
        for (int column = 0; column < n; column++) {
            double sum = 0, magnitude = 0;
            for (int i = 0; i < k; i++) {
                float y = bf16_float(b[b_transposed ? column * k + i : i * n + column]);
                double product = (double)bf16_float(a[row * k + i]) * (double)y;
                sum += product;
                magnitude += fabs(product);
            }
            p->right[row * n + column] = sum;
            p->bound[row * n + column] = k * 0x1p-24 * magnitude + unit * fabs(sum);
        }
    }
}

void layer_problems_init(void) {
    norm_init(&problems[FAMILY_NORM]);
    matmul_init(&problems[FAMILY_MMA], MMA_M, MMA_N, MMA_K, false, 0);
    matmul_init(&problems[FAMILY_WGMMA], WGMMA_M, WGMMA_N, WGMMA_K, true, 0x1p-8);
}

static void *to_device(const void *host, size_t bytes) {
    void *at = NULL;
    if (cudaMalloc(&at, bytes) != cudaSuccess) abort();
    if (host) cudaMemcpy(at, host, bytes, cudaMemcpyHostToDevice);
    return at;
}

static void launch(enum family family, int bug, void *out, const void *a, const void *b) {
    switch (family) {
    case FAMILY_NORM: (void)bug_norm(bug, out, a, NORM_ROWS, NORM_WIDTH); break;
    case FAMILY_MMA: (void)bug_mma(bug, out, a, b, MMA_M, MMA_N, MMA_K); break;
    default: (void)bug_wgmma(bug, out, a, b, WGMMA_M, WGMMA_N, WGMMA_K); break;
    }
}

static bool result_is_right(const struct problem *p, enum family family, const void *out) {
    for (size_t i = 0; i < p->out_count; i++) {
        float x = family == FAMILY_WGMMA ? bf16_float(((const uint16_t *)out)[i])
                                         : ((const float *)out)[i];
        if (!(fabs((double)x - p->right[i]) <= p->bound[i])) return false;
    }
    return true;
}

static bool micro_runs(int bug) {
    static const float zero[128];
    float *zeros = to_device(zero, sizeof zero);
    float *unwritten = to_device(NULL, sizeof zero);
    (void)bug_micro(bug, zeros, unwritten);
    (void)cudaDeviceSynchronize();
    cudaFree(zeros);
    cudaFree(unwritten);
    return true;
}
static bool problem_runs(enum family family, int bug) {
    const struct problem *p = &problems[family];
    size_t out_bytes = p->out_count * (family == FAMILY_WGMMA ? 2 : 4);
    void *a = to_device(p->a, p->a_bytes);
    void *b = to_device(p->b, p->b_bytes + 1);
    void *out = to_device(NULL, out_bytes);
    void *host = get(out_bytes);
    launch(family, bug, out, a, b);
    (void)cudaDeviceSynchronize();
    (void)cudaMemcpy(host, out, out_bytes, cudaMemcpyDeviceToHost);
    bool right = simt_last_error() != SIMT_OK || result_is_right(p, family, host);
    free(host);
    cudaFree(a);
    cudaFree(b);
    cudaFree(out);
    return right;
}

const char *layer_run(enum family family, int bug) {
    simt_clear_error();
    (void)cudaGetLastError();
    bool right = family == FAMILY_MICRO ? micro_runs(bug) : problem_runs(family, bug);
    if (simt_last_error() != SIMT_OK) return simt_error_name(simt_last_error());
    return right ? "none" : "wrong";
}

/* "asan:heap-buffer-overflow" from what a child has written, or null. */
static const char *sanitizer_verdict(const char *text) {
    static char verdict[80];
    static const char asan[] = "ERROR: AddressSanitizer: ";
    const char *at = strstr(text, asan);
    if (at) {
        snprintf(verdict, sizeof verdict, "asan:%.*s", (int)strcspn(at + sizeof asan - 1, " "),
                 at + sizeof asan - 1);
        return verdict;
    }
    static const char ubsan[] = "runtime error: ";
    at = strstr(text, ubsan);
    if (!at) return NULL;
    const char *words = at + sizeof ubsan - 1;
    size_t length = strcspn(words, " ");
    length += 1 + strcspn(words + length + 1, " :");
    snprintf(verdict, sizeof verdict, "ubsan:%.*s", (int)length, words);
    return verdict;
}

const char *layer_run_in_child(enum family family, int bug, char *report, size_t report_size) {
    static char verdict[80];
    int errors[2];
    int status;
    if (pipe(errors)) abort();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(errors[1], STDERR_FILENO);
        close(errors[0]);
        close(errors[1]);
        const char *result = layer_run(family, bug);
        dprintf(STDERR_FILENO, "%s\nVERDICT %s\n", simt_last_report(), result);
        _exit(0);
    }
    close(errors[1]);
    size_t length = 0;
    ssize_t count;
    while ((count = read(errors[0], report + length, report_size - 1 - length)) > 0) {
        length += (size_t)count;
        if (length < report_size - 1) continue;
        char rest[4096]; /* the child must not block on a full pipe */
        while (read(errors[0], rest, sizeof rest) > 0) continue;
        break;
    }
    report[length] = 0;
    close(errors[0]);
    waitpid(child, &status, 0);
    const char *sanitizer = sanitizer_verdict(report);
    if (sanitizer) return sanitizer;
    const char *line = strstr(report, "VERDICT ");
    snprintf(verdict, sizeof verdict, "%s", line ? line + strlen("VERDICT ") : "died");
    verdict[strcspn(verdict, "\n")] = 0;
    return verdict;
}

bool layer_verdict_is(const char *verdict, const char *allowed) {
    size_t length = strlen(verdict);
    for (const char *at = allowed; *at;) {
        size_t word = strcspn(at, "|");
        if (word == length && strncmp(at, verdict, length) == 0) return true;
        at += word + (at[word] == '|');
    }
    return false;
}
