#include "train/sample.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/rng.h"

typedef struct candidate {
    double weight; /* logit first, then probability, not yet divided by the sum */
    int32_t id;
} candidate;

struct seo_sampler {
    seo_sample_args a;
    int64_t vocab_size;
    candidate *list;
};

seo_err seo_sampler_open(const seo_sample_args *args, int64_t vocab_size, seo_sampler **out) {
    *out = NULL;
    if (!(args->temperature >= 0 && args->temperature <= 1e6) || args->top_k < 0 ||
        !(args->top_p > 0 && args->top_p <= 1)) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "sampling takes a temperature of 0 or more, top-k of 0 or more and "
                        "top-p above 0 and up to 1");
    }
    seo_sampler *s = calloc(1, sizeof *s);
    if (s) s->list = calloc((size_t)vocab_size, sizeof *s->list);
    if (!s || !s->list) {
        free(s);
        return SEO_FAIL(SEO_ERR_MEMORY, "a sampler over %lld tokens", (long long)vocab_size);
    }
    s->a = *args;
    s->vocab_size = vocab_size;
    *out = s;
    return SEO_OK;
}

void seo_sampler_close(seo_sampler *s) {
    if (!s) return;
    free(s->list);
    free(s);
}

/* Most likely first; among equals the lowest id, so that the order is one. */
static int by_weight(const void *left, const void *right) {
    const candidate *a = left, *b = right;
    if (a->weight != b->weight) return a->weight > b->weight ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* Uniform in (0, 1) with 53 bits. */
static double uniform(uint64_t seed, int64_t position) {
    const seo_rng_key key = {.seed = seed, .purpose = SEO_PURPOSE_SAMPLE};
    const seo_u32x4 bits = seo_philox(key, (uint64_t)position);
    const uint64_t high = bits.v[0] >> 5, low = bits.v[1] >> 6;
    return ((double)(high << 26 | low) + 0.5) / 9007199254740992.0;
}

/* How many of the sorted candidates stay under top-k and top-p; their sum goes to *sum. */
static int64_t keep(const seo_sampler *s, int64_t count, double *sum) {
    const int64_t most = s->a.top_k > 0 ? seo_min_i64(s->a.top_k, count) : count;
    double total = 0;
    for (int64_t i = 0; i < most; i++) total += s->list[i].weight;
    *sum = 0;
    for (int64_t i = 0; i < most; i++) {
        *sum += s->list[i].weight;
        if (s->a.top_p < 1 && *sum >= s->a.top_p * total) return i + 1;
    }
    return most;
}

seo_err seo_sampler_next(seo_sampler *s, const float *logits, int64_t position, int32_t *out) {
    int64_t count = 0, best = -1;
    for (int64_t v = 0; v < s->vocab_size; v++) {
        if (!isfinite(logits[v])) continue;
        if (best < 0 || logits[v] > logits[best]) best = v;
        s->list[count++] = (candidate){.weight = (double)logits[v], .id = (int32_t)v};
    }
    if (best < 0) return SEO_FAIL(SEO_ERR_NUMERIC, "the model's logits are not finite");
    *out = (int32_t)best;
    if (s->a.temperature <= 0) return SEO_OK;
    const double top = (double)logits[best];
    for (int64_t i = 0; i < count; i++) {
        s->list[i].weight = exp((s->list[i].weight - top) / s->a.temperature);
    }
    if (s->a.top_k > 0 || s->a.top_p < 1) qsort(s->list, (size_t)count, sizeof *s->list, by_weight);
    double sum = 0;
    const int64_t kept = keep(s, count, &sum);
    double left = uniform(s->a.seed, position) * sum;
    for (int64_t i = 0; i < kept; i++) {
        *out = s->list[i].id;
        left -= s->list[i].weight;
        if (left < 0) break;
    }
    return SEO_OK;
}
