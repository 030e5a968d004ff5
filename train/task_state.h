/* Private to train/task*.c: what a task holds. */
#pragma once

#include "train/task.h"

#ifdef __cplusplus
extern "C" {
#endif

struct seo_task {
    const seo_config *config;
    int64_t threads;
    seo_tokenizer *tokenizer;
    seo_examples *examples, *held_out;
    char **labels; /* (label_count) */
    int64_t label_count;
};

/* How the task reads a file of examples. */
seo_examples_args seo_task_examples_args(const seo_task *task, const char *path);
/* Rows over them; free with seo_rows_close. */
seo_err seo_task_rows(const seo_task *task, const seo_examples *examples, seo_rows **out);

#ifdef __cplusplus
}
#endif
