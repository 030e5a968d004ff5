/* The teacher of a student: a finished run or one of its checkpoints, read in the student's
 * process. What has to fit between the two, and what of the teacher the student begins as. The
 * passes of both together are in train/distill.h. */
#pragma once

#include "base/error.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_teacher {
    seo_ckpt *ckpt;    /* verified */
    seo_config config; /* of the run that made it */
} seo_teacher;

/* Opens the checkpoint at config->distill.teacher, and sets what of config->model follows from it.
 * With several ranks all call it, as seo_ckpt_open. SEO_ERR_USAGE when it cannot teach such a
 * model: another kind of model, another vocabulary, layers that it has not. Free with
 * seo_teacher_close. */
seo_err seo_teacher_open(seo_config *config, seo_world *world, seo_teacher **out);
void seo_teacher_close(seo_teacher *teacher); /* NULL is fine */

/* SEO_ERR_USAGE unless the student's data is made with the tokenizer of the teacher. "" is a
 * tokenizer that is not known: a warning, where `tell` says so. */
seo_err seo_teacher_check_tokenizer(const seo_teacher *teacher, const char *tokenizer_sha256,
                                    bool tell);

/* Which layer of the teacher, of `layers`, layer `index` of a student of `count` begins as, where
 * distill.layers does not say: evenly spread, first and last included. */
int64_t seo_teacher_layer(int64_t layers, int64_t count, int64_t index);

/* The student's initial values from the teacher: the layers that distill.layers says, and whatever
 * else has the same name and shape; the rest keeps what it has. `tell` says in the log what begins
 * as what. Reads what lies on this rank; seo_model_refresh is the caller's. */
seo_err seo_teacher_initial(const seo_teacher *teacher, const seo_config *config, seo_model *model,
                            bool tell);

/* Opens the teacher as a model in SEO_MODEL_EVAL on `dev`, for micro-batches of the student, with
 * all its parameters. */
seo_err seo_teacher_model(const seo_teacher *teacher, const seo_config *student, seo_device *dev,
                          seo_dtype storage, seo_model **out);
/* Adds what that takes of the device, without one; micro_batch: in place of the student's. */
seo_err seo_teacher_measure(const seo_teacher *teacher, const seo_config *student,
                            const seo_device_facts *facts, seo_dtype storage, int64_t micro_batch,
                            seo_memory_table *out);

#ifdef __cplusplus
}
#endif
