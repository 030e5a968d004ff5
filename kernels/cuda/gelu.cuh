/* GELU and its slope, for the elementwise operators and the epilogues of the matrix product
 * (kernels/ops.h has the formulas). S is the storage type: what it rounds to decides how exact the
 * tanh has to be. */
#pragma once

#include "kernels/cuda/tile.cuh"
#include "kernels/ops.h"

struct gelu_terms {
    float value, slope;
};

/* s = 0.5 (1 + tanh u) and 1 - s. In f32 from 1 / (1 + e^-2u), which has no cancellation where the
 * tanh nears -1; the exponent is held where e^-2u is finite. */
SEO_DEVICE void gelu_sigmoid(float twice_u, float &s, float &rest, float) {
    const float e = expf(fminf(87.0f, -twice_u));
    s = 1.0f / (1.0f + e);
    rest = e * s;
}
/* In bf16 from one instruction, whose error of 2^-12 in s is below half a unit of the result's last
 * place wherever x is positive, and below 2^-12 |x| elsewhere. */
SEO_DEVICE void gelu_sigmoid(float twice_u, float &s, float &rest, bf16) {
    const float t = ptx_tanh(0.5f * twice_u);
    s = 0.5f + 0.5f * t;
    rest = 0.5f - 0.5f * t;
}

template <class S> SEO_DEVICE gelu_terms gelu_tanh(float x) {
    const float k = 0.7978845608f, cubic = 0.044715f;
    const float square = x * x;
    const float twice_u = x * (square * (2.0f * k * cubic) + 2.0f * k);
    float s, rest;
    gelu_sigmoid(twice_u, s, rest, S());
    const float slope = square * (6.0f * k * cubic) + 2.0f * k; /* of 2u */
    return {x * s, s + x * slope * (s * rest)};
}

/* x Phi(x). Phi(-y) = e^(-y^2 / 2) h(y) for y = |x|, where h is a polynomial of degree 9 in
 * 1 / (1 + y / 4), fitted for the least relative error over [0, 13.5] (1.3e-8; beyond, the
 * exponential is 0): so the lower tail keeps its digits, and the density comes for nothing. */
SEO_DEVICE gelu_terms gelu_erf(float x) {
    const float y = fabsf(x);
    const float t = 1.0f / (1.0f + 0.25f * y);
    float h = t * 0.0344786495f - 0.19904989f;
    h = h * t + 0.401725888f;
    h = h * t - 0.342410982f;
    h = h * t + 0.311918497f;
    h = h * t - 0.0243817195f;
    h = h * t + 0.122958004f;
    h = h * t + 0.0945192724f;
    h = h * t + 0.100265794f;
    h = h * t - 2.35351781e-05f;
    const float e = expf(x * x * -0.5f);
    const float tail = e * h;
    const float phi = x > 0.0f ? 1.0f - tail : tail;
    return {x * phi, phi + x * (e * 0.3989422804f)};
}

template <class S> SEO_DEVICE float gelu_value(float x, seo_gelu_kind kind) {
    return kind == SEO_GELU_TANH ? gelu_tanh<S>(x).value : gelu_erf(x).value;
}
template <class S> SEO_DEVICE float gelu_slope(float x, seo_gelu_kind kind) {
    return kind == SEO_GELU_TANH ? gelu_tanh<S>(x).slope : gelu_erf(x).slope;
}
