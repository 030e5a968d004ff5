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
/* Every family, with its tasks: what the tests that walk the registry walk. */
typedef struct tiny_case {
    const char *name;
    seo_family family;
    int64_t classes;
    double lm_weight;
    bool spans; /* sequences of several documents */
} tiny_case;

enum { TINY_CASES = 12, TINY_PICKS = 3, TINY_CLASSES = 5 };
extern const tiny_case tiny_cases[TINY_CASES];
/* As tiny_config; dropout: also of attention's probabilities. */
seo_model_config tiny_case_config(const tiny_case *c, double dropout);

/* What a batch of any family reads, a function of `salt`. Of the picks one is none, of the targets
 * and labels one does not count. */
typedef struct tiny_inputs {
    int32_t tokens[TINY_BATCH * (TINY_POSITIONS + 1)];
    int32_t types[TINY_BATCH * TINY_POSITIONS], spans[TINY_BATCH * TINY_POSITIONS * 2];
    int32_t picks[TINY_BATCH * TINY_PICKS], pick_targets[TINY_BATCH * TINY_PICKS];
    int32_t last[TINY_BATCH], labels[TINY_BATCH];
} tiny_inputs;
void tiny_make_inputs(const seo_model_config *config, uint32_t salt, tiny_inputs *in);
/* A pass over rows [first, first + rows) whose gradient is that of tiny_objective, a part of a
 * batch of `of_rows`. Losses stay with the model. */
seo_pass_args tiny_inputs_pass(const tiny_model *t, const tiny_inputs *in, int64_t first,
                               int64_t rows, int64_t of_rows);
/* Of the last pass' losses, as of tiny_inputs_pass: the mean loss and the mean label loss of
 * `of_rows` rows, weighted and added. */
double tiny_objective(const tiny_model *t, int64_t rows, int64_t of_rows);
/* How many numbers the smaller one of the two means is over. */
int64_t tiny_objective_numbers(const seo_model_config *config, int64_t rows);

/* Sum of the losses that the last pass left. */
double tiny_loss(const tiny_model *t, int64_t rows);
