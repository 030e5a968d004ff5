/* ptx.cuh on a GPU against its emulated bodies.
 *
 *     test_simt_conformance_plain FILE   CPU layer: the results must be the same under every
 *                                        schedule; writes them to FILE
 *     test_conformance_cuda FILE         GPU: runs the same cases, compares with FILE; status 77
 *                                        without a device
 *
 * Moves must agree in every bit. Products must lie within the error of the tensor cores' truncating
 * sum (docs/simt.md), and how many agree with the published model in every bit is told. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simt/conformance.h"
#ifdef SEO_SIMT
#include "tests/simt/simt_options.h"
#endif

enum { SKIPPED = 77, SEED = 20240229 };
static const char MAGIC[8] = "SEOPTX1";

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "conformance: %s: %s\n", what, detail);
    exit(1);
}
static void cuda_check(cudaError_t error, const char *what) {
    if (error != cudaSuccess) fail(what, cudaGetErrorString(error));
}
static void *get(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) fail("memory", "none left");
    return p;
}

/* ---- inputs, from the seed alone ---- */

static uint64_t random_state;
static uint32_t random_word(void) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 32);
}
/* A float whose exponent is spread over 12 steps, so that the alignment of sums matters. */
static uint32_t random_float_bits(void) {
    uint32_t word = random_word();
    return (word & 0x807fffffu) | (127 - 6 + word % 12) << 23;
}
static uint32_t *make_inputs(const struct conformance_case *c) {
    uint32_t *in = get((size_t)c->blocks * (size_t)c->in_words * sizeof *in);
    random_state = SEED;
    for (int i = 0; i < c->blocks * c->in_words; i++) {
        int at = i % c->in_words;
        if (at < c->bf16_words) {
            uint32_t low = random_float_bits() >> 16;
            in[i] = (random_float_bits() & 0xffff0000u) | low;
        } else if (at < c->bf16_words + c->float_words) {
            in[i] = random_float_bits();
        } else {
            in[i] = random_word();
        }
    }
    return in;
}

static size_t out_bytes(const struct conformance_case *c) {
    return (size_t)c->blocks * (size_t)c->out_words * sizeof(uint32_t);
}
static uint32_t *run_case(const struct conformance_case *c, const uint32_t *in) {
    size_t in_bytes = (size_t)c->blocks * (size_t)c->in_words * sizeof *in;
    void *device_in, *device_out;
    uint32_t *out = get(out_bytes(c));
    cuda_check(cudaMalloc(&device_in, in_bytes), c->name);
    cuda_check(cudaMalloc(&device_out, out_bytes(c)), c->name);
    cuda_check(cudaMemcpy(device_in, in, in_bytes, cudaMemcpyHostToDevice), c->name);
    cuda_check(cudaMemset(device_out, 0xff, out_bytes(c)), c->name);
    cuda_check(c->run(c, device_out, device_in), c->name);
    cuda_check(cudaDeviceSynchronize(), c->name);
    cuda_check(cudaMemcpy(out, device_out, out_bytes(c), cudaMemcpyDeviceToHost), c->name);
    cuda_check(cudaFree(device_in), c->name);
    cuda_check(cudaFree(device_out), c->name);
    return out;
}

/* ---- comparison ---- */

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static double bf16_at(const uint32_t *words, int index) {
    uint32_t word = words[index / 2];
    return (double)float_of(index % 2 ? word & 0xffff0000u : word << 16);
}

/* Element (row, column) of a product, and how far a tensor core may be from it. It adds at least 8
 * products and the accumulator at once: each is cut at 2^-24 of the largest, which the sum of all
 * magnitudes bounds, and the result at 2^-23 of itself. */
static double product_at(const struct conformance_case *c, const uint32_t *in, int block, int row,
                         int column, double *bound) {
    const uint32_t *a = in + (size_t)block * (size_t)c->in_words;
    const uint32_t *b = a + c->m * c->k / 2;
    const uint32_t *start = b + c->n * c->k / 2;
    double sum = block % 2 ? 0 : (double)float_of(start[row * c->n + column]);
    double magnitude = fabs(sum);
    for (int k = 0; k < c->k; k++) {
        double product = bf16_at(a, row * c->k + k) * bf16_at(b, column * c->k + k);
        sum += product;
        magnitude += fabs(product);
    }
    *bound = c->k / 8.0 * (9 * 0x1p-24 + 0x1p-23) * magnitude;
    return sum;
}
static bool product_is_right(const struct conformance_case *c, const uint32_t *in, int i,
                             uint32_t got) {
    double bound;
    int at = i % c->out_words;
    double right = product_at(c, in, i / c->out_words, at / c->n, at % c->n, &bound);
    return fabs((double)float_of(got) - right) <= bound;
}

/* The stated error, plus the rounding of what is expected. */
static bool approximation_is_right(enum conformance_compare compare, uint32_t expected_bits,
                                   uint32_t got_bits) {
    double expected = (double)float_of(expected_bits);
    double got = (double)float_of(got_bits);
    if (isnan(expected) || isnan(got)) return isnan(expected) && isnan(got);
    if (isinf(expected) || isinf(got)) return expected == got;
    double error = fabs(got - expected);
    if (compare == COMPARE_TANH) return error <= exp2(-10.987) + 0x1p-25;
    /* Near the smallest normal number one side may flush to zero and the other not. */
    return error <= (0x1p-22 + 0x1p-24) * fabs(expected) || fmax(got, expected) <= 0x1.00001p-126;
}

static bool word_is_right(const struct conformance_case *c, const uint32_t *in, int i,
                          uint32_t expected, uint32_t got) {
    switch (c->compare) {
    case COMPARE_BITS: return got == expected;
    case COMPARE_PRODUCT: return product_is_right(c, in, i, got);
    default: return approximation_is_right(c->compare, expected, got);
    }
}

static int count_wrong(const struct conformance_case *c, const uint32_t *in,
                       const uint32_t *expected, const uint32_t *got) {
    int wrong = 0;
    for (int i = 0; i < c->blocks * c->out_words; i++) {
        wrong += !word_is_right(c, in, i, expected[i], got[i]);
    }
    return wrong;
}

#ifdef SEO_SIMT
/* ---- CPU layer: write ---- */

/* Products are also kept as the published model of sm_80 and of sm_90 gives them. */
static int model_count(const struct conformance_case *c) {
    return c->compare == COMPARE_PRODUCT ? 3 : 1;
}

/* The comparison itself must notice: a bit flipped in every word, so most words are wrong. */
static int count_unnoticed(const struct conformance_case *c, const uint32_t *in,
                           const uint32_t *expected) {
    int words = c->blocks * c->out_words;
    uint32_t *flipped = get(out_bytes(c));
    for (int i = 0; i < words; i++) flipped[i] = expected[i] ^ 1u << 23;
    int noticed = count_wrong(c, in, expected, flipped);
    free(flipped);
    return noticed > words / 2 ? 0 : words - noticed;
}

static int write_case(const struct conformance_case *c, FILE *file) {
    uint32_t *in = make_inputs(c);
    int wrong = 0;
    for (int model = 0; model < model_count(c); model++) {
        simt_options_get()->mma_model = model;
        uint32_t *first = NULL;
        for (int i = 0; i < simt_schedule_count(); i++) {
            simt_set_schedule(i);
            uint32_t *out = run_case(c, in);
            if (first && memcmp(first, out, out_bytes(c)) != 0) {
                fprintf(stderr, "%s: another result under %s\n", c->name, simt_schedule_name());
                wrong++;
            }
            free(first);
            first = out;
        }
        wrong += count_wrong(c, in, first, first) + count_unnoticed(c, in, first);
        if (fwrite(first, 1, out_bytes(c), file) != out_bytes(c)) fail(c->name, "cannot write");
        free(first);
    }
    free(in);
    return wrong;
}
static int run(const char *path) {
    FILE *file = fopen(path, "wb");
    int wrong = 0;
    if (!file) fail(path, "cannot open");
    if (fwrite(MAGIC, sizeof MAGIC, 1, file) != 1) fail(path, "cannot write");
    for (int i = 0; i < conformance_case_count; i++)
        wrong += write_case(&conformance_cases[i], file);
    if (fclose(file)) fail(path, "cannot write");
    printf("%d cases written to %s, %d wrong words\n", conformance_case_count, path, wrong);
    return wrong != 0;
}

#else
/* ---- GPU: compare ---- */

static uint32_t *read_expected(const struct conformance_case *c, FILE *file) {
    uint32_t *words = get(out_bytes(c));
    if (fread(words, 1, out_bytes(c), file) != out_bytes(c)) fail(c->name, "file ends too early");
    return words;
}

static void show_first_wrong(const struct conformance_case *c, const uint32_t *in,
                             const uint32_t *expected, const uint32_t *got) {
    int i = 0;
    while (word_is_right(c, in, i, expected[i], got[i])) i++;
    printf("    block %d word %d is %08x (%g), expected %08x (%g)\n", i / c->out_words,
           i % c->out_words, got[i], (double)float_of(got[i]), expected[i],
           (double)float_of(expected[i]));
}

/* models: what the exact sum, the sm_80 model and the sm_90 model give. */
static void tell_model_matches(const struct conformance_case *c, uint32_t *const *models,
                               const uint32_t *got) {
    static const char *const names[] = {"exact sum", "sm_80 model", "sm_90 model"};
    int words = c->blocks * c->out_words;
    printf("    of %d products, equal in every bit:", words);
    for (int model = 0; model < 3; model++) {
        int equal = 0;
        for (int i = 0; i < words; i++) equal += models[model][i] == got[i];
        printf(" %s %d%s", names[model], equal, model < 2 ? "," : "\n");
    }
}

static int compare_case(const struct conformance_case *c, FILE *file, bool has_sm90a) {
    uint32_t *models[3] = {NULL, NULL, NULL};
    int wrong = 0;
    models[0] = read_expected(c, file);
    for (int i = 1; i < 3 && c->compare == COMPARE_PRODUCT; i++) models[i] = read_expected(c, file);
    if (c->sm90a && !has_sm90a) {
        printf("%-20s skipped: needs compute capability 9.0\n", c->name);
    } else {
        uint32_t *in = make_inputs(c);
        uint32_t *got = run_case(c, in);
        wrong = count_wrong(c, in, models[0], got);
        printf("%-20s %s, %d words\n", c->name, wrong ? "WRONG" : "ok", c->blocks * c->out_words);
        if (wrong) show_first_wrong(c, in, models[0], got);
        if (c->compare == COMPARE_PRODUCT) tell_model_matches(c, models, got);
        free(in);
        free(got);
    }
    for (int i = 0; i < 3; i++) free(models[i]);
    return wrong;
}
static int run(const char *path) {
    int devices, wrong = 0;
    struct cudaDeviceProp prop;
    char magic[sizeof MAGIC];
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        printf("skipped: no CUDA device\n");
        return SKIPPED;
    }
    FILE *file = fopen(path, "rb");
    if (!file) {
        printf("skipped: no %s: test_simt_conformance_plain writes it\n", path);
        return SKIPPED;
    }
    if (fread(magic, sizeof magic, 1, file) != 1 || memcmp(magic, MAGIC, sizeof MAGIC) != 0) {
        fail(path, "not a file of expected results");
    }
    cuda_check(cudaGetDeviceProperties(&prop, 0), "device");
    printf("%s, sm_%d%d\n", prop.name, prop.major, prop.minor);
    for (int i = 0; i < conformance_case_count; i++) {
        bool has_sm90a = prop.major == 9 && prop.minor == 0;
        wrong += compare_case(&conformance_cases[i], file, has_sm90a);
    }
    fclose(file);
    return wrong != 0;
}
#endif

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    return run(argv[1]);
}
