/* A small run state for the tests of checkpoints, and a scratch folder for each test. */
#pragma once

#include "train/checkpoint.h"

enum { FIXTURE_TENSORS = 7, FIXTURE_VALUES = 4096 };

typedef struct fixture {
    char run[SEO_PATH_MAX]; /* an empty run folder */
    char tokenizer[SEO_PATH_MAX];
    float values[FIXTURE_VALUES];
    seo_ckpt_tensor tensors[FIXTURE_TENSORS];
    seo_ckpt_snapshot snapshot;
} fixture;

/* cmocka set-up and tear-down; *state is a fixture. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Values and state of this step: the same step, the same bits. */
void fixture_fill(fixture *f, int64_t step);
/* fixture_fill and seo_ckpt_save; asserts success. */
void fixture_save(fixture *f, int64_t step);
/* RUN/checkpoints/step-<step>[/name] */
void fixture_path(const fixture *f, int64_t step, const char *name, char out[SEO_PATH_MAX]);
/* The step of the checkpoint that opening the run finds; -1 - error code when it finds none. */
int64_t fixture_found(const fixture *f);
/* Asserts that the newest checkpoint is sound to the last bit of what fixture_fill gave its step;
 * the step. */
int64_t fixture_assert_newest(fixture *f);
