/* From a checkpoint to a device and back: a trained model for evaluation and generation, and the
 * tensors of a run. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/device.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_restored {
    seo_config config; /* of the run that made it */
    seo_ckpt_state state;
    char path[SEO_PATH_MAX];           /* of the step-... folder */
    char tokenizer_path[SEO_PATH_MAX]; /* in it */
    seo_device *dev;
    seo_model *model;
} seo_restored;

typedef struct seo_restore_args {
    const char *path; /* a run folder (its newest good checkpoint) or one step-... folder */
    seo_model_mode mode;
    seo_device_choice device;   /* wherever the run was trained */
    int32_t threads;            /* of the CPU; 0: automatic */
    seo_cuda_opener *open_cuda; /* see seo_device_wish */
} seo_restore_args;

/* Opens the checkpoint (every byte verified), a device and the model, for passes of the run's
 * micro-batch, and reads the parameters, those of adapters and those that they belong to. A run in
 * f32 is restored in f32, any other in what suits the device. Free with seo_restored_close, also
 * after an error. */
seo_err seo_restore(const seo_restore_args *args, seo_restored *out);
void seo_restored_close(seo_restored *restored);

/* The checkpoint whose parameters another one holds adapters of, every byte verified; all ranks
 * call it. SEO_ERR_MISSING: it is gone. SEO_ERR_USAGE: something else stands there now. */
seo_err seo_restore_open_base(const seo_ckpt *adapters, seo_world *world, seo_ckpt **out);
/* Reads the rows of a model that are frozen; SEO_ERR_FORMAT naming one that the base lacks. */
seo_err seo_restore_frozen(seo_model *model, seo_ckpt *base);

/* Tensors of a run's state, and what of them lies where on this rank's device. Zero-initialise but
 * for dev. */
typedef struct seo_restore_list {
    seo_device *dev;
    seo_ckpt_tensor *tensors; /* names and shapes of all, the same on every rank; no data */
    int64_t count;
    seo_ckpt_range *saved; /* what this rank writes, by tensor; no data */
    seo_tensor *saved_at;  /* and where it lies: one vector for each */
    int64_t saved_count;
    seo_ckpt_range *read; /* what this rank reads */
    seo_tensor *read_to;
    int64_t read_count;
} seo_restore_list;

/* Adds a bound set as "<prefix>/<name>" by row of the table. In the shard layout this rank reads
 * and saves its chunk; in the whole layout it reads everything and saves its chunk. */
seo_err seo_restore_add(seo_restore_list *list, const char *prefix, const seo_params *params,
                        const seo_param_set *set);
/* The tensor of a parameter in a checkpoint, in the shape it has there; false: it is not in it. */
bool seo_restore_find(const seo_ckpt *ckpt, const seo_param *param, seo_ckpt_tensor *out);
/* Adds, for reading alone, what a checkpoint of another model has of a bound set: the parameters of
 * the same names, of matrices of another height the first rows. Widths are the same (the caller
 * has seen to it). */
seo_err seo_restore_add_common(seo_restore_list *list, const seo_params *params,
                               const seo_param_set *set, const seo_ckpt *ckpt);
void seo_restore_list_free(seo_restore_list *list);
/* Reads what this rank reads, straight to its place, through one bounded buffer on the host. */
seo_err seo_restore_read(const seo_restore_list *list, seo_ckpt *ckpt);
/* The values of saved[index]; a seo_ckpt_fetch whose context is the list, for a snapshot whose
 * tensors and ranges are the list's tensors and saved. */
seo_err seo_restore_fetch(void *context, int64_t index, float *out);

#ifdef __cplusplus
}
#endif
