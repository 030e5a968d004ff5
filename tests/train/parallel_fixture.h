/* Steps of a small model on ranks that are threads, and what they leave, in the order of the table
 * whatever its layout was. */
#pragma once

#include "train/config.h"
#include "train/step.h"

enum { RANKS_MAX = 8, RANKS_SEQUENCES = 16, RANKS_STEPS_MAX = 8, RANKS_STATES = 3 };

/* Parameters and both moments without padding, row after row. */
typedef struct ranks_state {
    int64_t count;
    float *values[RANKS_STATES]; /* NULL: nothing was kept yet */
} ranks_state;
void ranks_state_free(ranks_state *state);
bool ranks_state_equal(const ranks_state *a, const ranks_state *b);

typedef struct ranks_setup {
    int32_t ranks;
    int64_t zero, slots, micro_batch; /* slots 0: default mode */
    seo_dtype wire;
    seo_recompute recompute;
    double dropout;
    seo_family family;    /* 0: GPT-2 */
    int64_t adapter_rank; /* 0: all is trained */
    int64_t poison_step;  /* 0: none. A weight of the last rank alone is no number in this step */
    int64_t first_step, steps;
    const char *data;   /* of ranks_data_make */
    ranks_state *state; /* where to start, unless it is empty, and what is left */
} ranks_setup;

typedef struct ranks_result {
    double losses[RANKS_STEPS_MAX], norms[RANKS_STEPS_MAX];
    bool finite[RANKS_STEPS_MAX];
    int64_t device_bytes;            /* of rank 0 */
    double step_s, busy_s, waited_s; /* of rank 0, in all steps but the first */
} ranks_result;

/* The model that the ranks have. */
seo_model_config ranks_model(seo_family family, double dropout, int64_t adapter_rank);

/* A data folder of TINY_VOCAB; removed by remove. */
const char *ranks_data_make(void);
void ranks_data_remove(void);

/* Fails the test when a rank fails, or when what should be alike is not. */
void ranks_train(const ranks_setup *setup, ranks_result *out);
