#include "tests/kernels/attention_oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tests/support/compare.h"
#include "tests/support/op_check.h"

static double dot(const double *x, const double *y, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}
static double dot_size(const double *x, const double *y, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += fabs(x[i] * y[i]);
    return sum;
}

void oracle_span(const oracle_mask *mask, int64_t b, int64_t t, int64_t positions,
                 int32_t span[2]) {
    int64_t count = 0, begin = 0, end = positions;
    while (count < SEO_COUNT_OF(mask->lengths) && mask->lengths[count] > 0) count++;
    for (int64_t n = b; count > 0; n++) {
        end = seo_min_i64(begin + mask->lengths[n % count], positions);
        if (t < end) break;
        begin = end;
    }
    span[0] = (int32_t)begin;
    span[1] = (int32_t)end;
}

int32_t *oracle_spans(const oracle_mask *mask, int64_t sequences, int64_t positions) {
    if (mask->lengths[0] == 0) return NULL;
    int32_t *spans = calloc((size_t)(sequences * positions), 2 * sizeof *spans);
    SEO_ASSERT(spans);
    for (int64_t row = 0; row < sequences * positions; row++) {
        oracle_span(mask, row / positions, row % positions, positions, spans + 2 * row);
    }
    return spans;
}

seo_rng_key oracle_key(void) {
    return (seo_rng_key){.seed = 0x123456789abcdef, .purpose = SEO_PURPOSE_DROPOUT | 9 << 8};
}
/* So that element numbers have more than 32 bits. */
int64_t oracle_first_row(int64_t positions) {
    return (((int64_t)1 << 33) / positions + 3) * positions;
}
void oracle_place(int64_t positions, int32_t place[SEO_PLACE_COUNT]) {
    const uint64_t row = (uint64_t)oracle_first_row(positions);
    place[SEO_PLACE_STEP] = ORACLE_STEP;
    place[SEO_PLACE_ROW_LOW] = (int32_t)(uint32_t)row;
    place[SEO_PLACE_ROW_HIGH] = (int32_t)(row >> 32);
}
double oracle_factor(const oracle_mask *mask, int64_t heads, int64_t positions, int64_t pair,
                     int64_t i, int64_t j) {
    if (!(mask->rate > 0)) return 1.0;
    seo_rng_key key = oracle_key();
    key.step = ORACLE_STEP;
    const int64_t sequence = oracle_first_row(positions) / positions + pair / heads;
    const int64_t row = (sequence * heads + pair % heads) * positions + i;
    const uint32_t bits = seo_rng_u32(key, (uint64_t)(row * positions + j));
    return seo_uniform_from(bits) >= mask->rate ? 1.0 / (1.0 - (double)mask->rate) : 0.0;
}

static double factor(const oracle_head *h, int64_t i, int64_t j) {
    return oracle_factor(h->mask, h->heads, h->keys, h->pair, i, j);
}
/* Query i sees the keys [seen_from, seen_to). */
static int64_t seen_to(const oracle_head *h, int64_t query) {
    int32_t span[2];
    oracle_span(h->mask, h->pair / h->heads, query + h->ahead, h->keys, span);
    return h->mask->causal ? seo_min_i64(query + h->ahead + 1, span[1]) : span[1];
}
static int64_t seen_from(const oracle_head *h, int64_t query) {
    int32_t span[2];
    oracle_span(h->mask, h->pair / h->heads, query + h->ahead, h->keys, span);
    const int64_t window = h->mask->window;
    return window > 0 ? seo_max_i64(query + h->ahead + 1 - window, span[0]) : span[0];
}

void oracle_attend(const oracle_head *h, const oracle_fwd *fwd) {
    for (int64_t i = 0; i < h->queries; i++) {
        double *p = fwd->p + i * h->keys, *out = fwd->out + i * h->width;
        const int64_t from = seen_from(h, i), to = seen_to(h, i);
        double top = -INFINITY, sum = 0.0;
        memset(p, 0, (size_t)h->keys * sizeof(double));
        for (int64_t j = from; j < to; j++) {
            p[j] = h->scale * dot(h->q + i * h->width, h->k + j * h->width, h->width);
            top = fmax(top, p[j]);
        }
        for (int64_t j = from; j < to; j++) sum += p[j] = exp(p[j] - top);
        memset(out, 0, (size_t)h->width * sizeof(double));
        for (int64_t j = from; j < to; j++) {
            p[j] /= sum;
            const double kept = p[j] * factor(h, i, j);
            for (int64_t d = 0; d < h->width; d++) out[d] += kept * h->v[j * h->width + d];
        }
        fwd->lse[i] = top + log(sum);
    }
}

/* The largest size of any score's terms that query i meets: an error in a score is a relative error
 * of its exponential. */
static double score_size(const oracle_head *h, int64_t i) {
    double size = 0.0;
    const int64_t to = seen_to(h, i);
    for (int64_t j = seen_from(h, i); j < to; j++) {
        double terms = dot_size(h->q + i * h->width, h->k + j * h->width, h->width);
        size = fmax(size, h->scale * terms);
    }
    return size;
}

/* Roundings of an exponential: the score's sum of `width` terms, its scaling and the subtraction of
 * the maximum (each of the score's size), and 2 of the exponential itself. Under bf16 the sum is a
 * tensor core's. A GPU's exponential is 2^y, which multiplies y and what is taken off it by log2 e,
 * and whose own error is 4 roundings more. */
static double exp_roundings(const oracle_head *h, double size) {
    const double more = g_targets.is_cpu ? 0.0 : 4.0;
    const double sum = dot_bound(h->storage, h->width, 4.0 + more, 1.0) / F32_ROUND;
    return sum * size + 2.0 + more;
}

/* A factor of a product that is rounded to the operands' type before: probabilities and their
 * gradients. */
static double operand_round(const oracle_head *h) {
    return h->storage == SEO_DTYPE_BF16 ? BF16_ROUND : 0.0;
}

void oracle_fwd_bound(const oracle_head *h, const oracle_fwd *fwd, double *out, double *lse) {
    for (int64_t i = 0; i < h->queries; i++) {
        const int64_t from = seen_from(h, i), to = seen_to(h, i);
        double n = (double)(to - from), size = score_size(h, i);
        /* A sum of n exponentials, rescaled at most once for every 16 of them. */
        double each = exp_roundings(h, size) * (1.0 + ceil(n / 16.0)) + n + 2.0;
        lse[i] = F32_ROUND * (each + 3.0 * (fabs(fwd->lse[i]) + size) + 2.0);
        /* Numerator and denominator; the numerator is a dot product, and dropout's factor and its
         * product are rounded. */
        const double off = F32_ROUND * (2.0 * each + 2.0) + operand_round(h) +
                           dot_bound(h->storage, to - from, 0.0, 1.0) -
                           sum_bound(to - from, 0.0, 1.0);
        double *bound = out + i * h->width;
        memset(bound, 0, (size_t)h->width * sizeof(double));
        for (int64_t j = from; j < to; j++) {
            const double kept = off * fwd->p[i * h->keys + j] * factor(h, i, j);
            for (int64_t d = 0; d < h->width; d++) bound[d] += kept * fabs(h->v[j * h->width + d]);
        }
    }
}

/* What one query adds to the gradients and to their bounds. */
static void differentiate_query(const oracle_head *h, const oracle_fwd *fwd, const double *dout,
                                const oracle_bwd *grad, const oracle_bwd *bound, int64_t i) {
    int64_t w = h->width;
    const double *q = h->q + i * w, *g = dout + i * w, *o = fwd->out + i * w;
    double size = dot_size(g, o, w);
    double terms = dot_bound(h->storage, h->queries + h->keys, 0.0, 1.0) / F32_ROUND;
    double operand = operand_round(h);
    double each = exp_roundings(h, score_size(h, i)) + 2.0 * fabs(fwd->lse[i]);
    const int64_t to = seen_to(h, i);
    grad->delta[i] = dot(g, o, w);
    bound->delta[i] = F32_ROUND * ((double)w + 2.0) * size;
    for (int64_t j = seen_from(h, i); j < to; j++) {
        const double *k = h->k + j * w, *v = h->v + j * w;
        const double f = factor(h, i, j);
        double p = fwd->p[i * h->keys + j], dp = f * dot(g, v, w), off = dp - grad->delta[i];
        double ds = h->scale * p * off;
        /* The factor and its product are rounded. */
        double dp_error = dot_bound(h->storage, w, 4.0, f * dot_size(g, v, w) + size);
        double ds_error = h->scale * p * (dp_error + F32_ROUND * (each + 4.0) * fabs(off));
        double ds_total = ds_error + (F32_ROUND * (terms + 1.0) + operand) * fabs(ds);
        for (int64_t d = 0; d < w; d++) {
            grad->dv[j * w + d] += f * p * g[d];
            grad->dk[j * w + d] += ds * q[d];
            grad->dq[i * w + d] += ds * k[d];
            bound->dv[j * w + d] +=
                (F32_ROUND * (each + terms + 3.0) + operand) * f * p * fabs(g[d]);
            bound->dk[j * w + d] += ds_total * fabs(q[d]);
            bound->dq[i * w + d] += ds_total * fabs(k[d]);
        }
    }
}

static void clear(const oracle_head *h, const oracle_bwd *x) {
    memset(x->dq, 0, (size_t)(h->queries * h->width) * sizeof(double));
    memset(x->dk, 0, (size_t)(h->keys * h->width) * sizeof(double));
    memset(x->dv, 0, (size_t)(h->keys * h->width) * sizeof(double));
}

void oracle_differentiate(const oracle_head *h, const oracle_fwd *fwd, const double *dout,
                          const oracle_bwd *grad, const oracle_bwd *bound) {
    clear(h, grad);
    clear(h, bound);
    for (int64_t i = 0; i < h->queries; i++) differentiate_query(h, fwd, dout, grad, bound, i);
}
