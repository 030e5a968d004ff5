/* A small model with its device, for the tests of the training step. */
#pragma once

#include "train/models/model.h"
#include "train/optim.h"

enum { TINY_VOCAB = 37, TINY_POSITIONS = 16, TINY_WIDTH = 24, TINY_BATCH = 4 };

typedef struct tiny_model {
    seo_device *dev;
    seo_model *model;
    seo_tensor losses; /* (TINY_BATCH * TINY_POSITIONS), device memory */
} tiny_model;

/* Three layers of width 24 with 3 heads. */
seo_model_config tiny_config(double dropout);
void tiny_open(tiny_model *t, const seo_model_config *config, seo_model_mode mode, int32_t threads);
void tiny_close(tiny_model *t);

/* Rows of TINY_POSITIONS + 1 ids, a function of `salt`. */
void tiny_tokens(int32_t *tokens, int64_t rows, uint32_t salt);
/* A pass over `rows` such rows whose gradient is that of the mean loss of `of_rows` rows. */
seo_pass_args tiny_pass(const tiny_model *t, const int32_t *tokens, int64_t rows, int64_t of_rows);
/* Sum of the losses that the last pass left. */
double tiny_loss(const tiny_model *t, int64_t rows);
