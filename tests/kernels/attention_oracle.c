#include "tests/kernels/attention_oracle.h"

#include <math.h>
#include <string.h>

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
static int64_t seen(const oracle_head *h, int64_t query) {
    return h->causal ? query + h->ahead + 1 : h->keys;
}

void oracle_attend(const oracle_head *h, const oracle_fwd *fwd) {
    for (int64_t i = 0; i < h->queries; i++) {
        double *p = fwd->p + i * h->keys, *out = fwd->out + i * h->width;
        double top = -INFINITY, sum = 0.0;
        memset(p, 0, (size_t)h->keys * sizeof(double));
        for (int64_t j = 0; j < seen(h, i); j++) {
            p[j] = h->scale * dot(h->q + i * h->width, h->k + j * h->width, h->width);
            top = fmax(top, p[j]);
        }
        for (int64_t j = 0; j < seen(h, i); j++) sum += p[j] = exp(p[j] - top);
        memset(out, 0, (size_t)h->width * sizeof(double));
        for (int64_t j = 0; j < seen(h, i); j++) {
            p[j] /= sum;
            for (int64_t d = 0; d < h->width; d++) out[d] += p[j] * h->v[j * h->width + d];
        }
        fwd->lse[i] = top + log(sum);
    }
}

/* The largest size of any score's terms that query i meets: an error in a score is a relative error
 * of its exponential. */
static double score_size(const oracle_head *h, int64_t i) {
    double size = 0.0;
    for (int64_t j = 0; j < seen(h, i); j++) {
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
        double n = (double)seen(h, i), size = score_size(h, i);
        /* A sum of n exponentials, rescaled at most once for every 16 of them. */
        double each = exp_roundings(h, size) * (1.0 + ceil(n / 16.0)) + n + 2.0;
        lse[i] = F32_ROUND * (each + 3.0 * (fabs(fwd->lse[i]) + size) + 2.0);
        for (int64_t d = 0; d < h->width; d++) {
            double sum = 0.0;
            for (int64_t j = 0; j < seen(h, i); j++) {
                sum += fwd->p[i * h->keys + j] * fabs(h->v[j * h->width + d]);
            }
            /* Numerator and denominator; the numerator is a dot product. */
            const double off = F32_ROUND * 2.0 * each + operand_round(h) +
                               dot_bound(h->storage, seen(h, i), 0.0, 1.0) -
                               sum_bound(seen(h, i), 0.0, 1.0);
            out[i * h->width + d] = off * sum;
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
    grad->delta[i] = dot(g, o, w);
    bound->delta[i] = F32_ROUND * ((double)w + 2.0) * size;
    for (int64_t j = 0; j < seen(h, i); j++) {
        const double *k = h->k + j * w, *v = h->v + j * w;
        double p = fwd->p[i * h->keys + j], dp = dot(g, v, w), off = dp - grad->delta[i];
        double ds = h->scale * p * off;
        double dp_error = dot_bound(h->storage, w, 2.0, dot_size(g, v, w) + size);
        double ds_error = h->scale * p * (dp_error + F32_ROUND * (each + 4.0) * fabs(off));
        double ds_total = ds_error + (F32_ROUND * (terms + 1.0) + operand) * fabs(ds);
        for (int64_t d = 0; d < w; d++) {
            grad->dv[j * w + d] += p * g[d];
            grad->dk[j * w + d] += ds * q[d];
            grad->dq[i * w + d] += ds * k[d];
            bound->dv[j * w + d] += (F32_ROUND * (each + terms + 1.0) + operand) * p * fabs(g[d]);
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
