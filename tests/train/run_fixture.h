/* Whole runs through seo_train in scratch folders, and what they leave. */
#pragma once

#include <jansson.h>

#include "../support/dataset_fixture.h"
#include "train/checkpoint.h"
#include "train/run.h"

typedef struct run_bench {
    fixture data, other;
    char config[SEO_PATH_MAX]; /* of the first dataset, in its folder's neighbour */
    fixture scratch;
} run_bench;

/* Settings, ended by NULL, and what else changes from run to run. */
enum { RUN_SETS_MAX = 15 };
typedef struct run_words {
    const char *sets[RUN_SETS_MAX + 1];
    const char *allow;
    bool from_scratch;
    seo_cuda_opener *open_cuda;
} run_words;

/* For cmocka: *state is a run_bench. */
int run_bench_make(void **state);
int run_bench_clear(void **state);

/* The run `name` of 12 steps, evaluated at 4, 8 and 12, saved at 5 and 10, unless the words say
 * otherwise. */
seo_err run_train(const run_bench *b, const char *name, run_words words);
/* The metrics as a list of objects without what the clock decides. */
json_t *run_metrics(const run_bench *b, const char *run);
void run_same_metrics(const run_bench *b, const char *run, const char *as);
/* Their newest checkpoints have the same bits. */
void run_same_state(const run_bench *b, const char *run, const char *as);
/* Opens the newest checkpoint of the run. */
void run_open(const run_bench *b, const char *name, seo_ckpt **out);
/* The `*count` values of a parameter of it, malloc'ed. */
float *run_values(seo_ckpt *ckpt, const char *name, int64_t *count);
/* Fails the test with the error's message. */
void run_ok(seo_err err);
