/* The parameter table: every trainable tensor of a model, once, layer by layer.
 *
 * Sizes, initial values, weight decay, slabs, checkpoint names and tests all iterate over it; a
 * layer keeps the rows it added and nothing else knows where a parameter lies. The table needs no
 * memory but its own rows, so the parameters of a model of any size can be counted.
 *
 * Linear weights are (out, in). Names: "wte", "wpe", "blocks.0.attn.qkv.weight", "norm_final.bias".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_PARAM_NAME_MAX = 64, SEO_PARAM_NO_BLOCK = -1 };

typedef enum seo_init { SEO_INIT_ZEROS, SEO_INIT_ONES, SEO_INIT_NORMAL } seo_init;

typedef struct seo_param {
    char name[SEO_PARAM_NAME_MAX];
    int32_t rank; /* 1 or 2 */
    int64_t dims[2];
    int64_t memory_rows; /* dims[0] in memory, or 0 for dims[0] itself: rows beyond it are padding,
                          * 0 from the beginning to the end, and in no checkpoint */
    int64_t block;       /* the block it belongs to, or SEO_PARAM_NO_BLOCK */
    seo_init init;
    double std;  /* of SEO_INIT_NORMAL */
    bool decay;  /* weight decay applies: matrices yes, biases and norms no */
    bool frozen; /* not trained, beside adapters: no gradient, no moments, in no checkpoint */
} seo_param;

/* Zero-initialise; free with seo_params_free. */
typedef struct seo_params {
    seo_param *items;
    int64_t count, capacity;
    int64_t row_multiple; /* of the device (seo_device_row_multiple), for the rows that are padded;
                           * 0: they are not */
    /* Low-rank adapters (Hu et al. 2021): linear layers that are named in `adapted` (SEO_LORA_...)
     * get rows "<linear>.lora_a" and "<linear>.lora_b" of this rank; rows that are neither these
     * nor a head that a task brings are frozen. 0: none. */
    int64_t adapter_rank;
    int32_t adapted;
} seo_params;

void seo_params_free(seo_params *params);
/* Appends a row; *index is how a layer finds its tensor again in a seo_param_set. */
seo_err seo_params_add(seo_params *params, const seo_param *param, int64_t *index);
/* Elements of the rows that are trained. */
int64_t seo_params_trained(const seo_params *params);
/* The row of `name`, or -1. */
int64_t seo_params_find(const seo_params *params, const char *name);
int64_t seo_param_elements(const seo_param *param);
/* As it lies in memory, rows of padding included. */
int64_t seo_param_memory_elements(const seo_param *param);
/* The segment of a row: how many times the block changes from one row to the next before it. */
int64_t seo_params_segment(const seo_params *params, int64_t row);
/* Sum over all rows; fits for any table that seo_params_add took. */
int64_t seo_params_elements(const seo_params *params);
/* The row's tensor with its padding. */
seo_tensor seo_param_padded(const seo_params *params, const seo_tensor *tensors, int64_t row);

#ifdef __cplusplus
}
#endif
