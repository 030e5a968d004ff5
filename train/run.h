/* A training run: from a configuration and a folder to a trained model, through any number of stops
 * and restarts. The one file that knows all parts; it is a loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "train/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_train_args {
    const char *config_path;
    const char *const *sets; /* "section.key=value" */
    int64_t set_count;
    const char *run_dir;
    int32_t threads;          /* 0: automatic */
    const char *const *allow; /* keys whose change since the checkpoint is accepted */
    int64_t allow_count;
    bool from_scratch;          /* sets earlier checkpoints and metrics aside, and starts anew */
    seo_cuda_opener *open_cuda; /* see seo_device_wish */
} seo_train_args;

/* Trains until train.steps: starts, resumes from the newest good checkpoint in run_dir, or says
 * that the run is finished. SEO_ERR_STOPPED: a signal asked, and a checkpoint of the last whole
 * step is on the disk. SEO_ERR_NUMERIC: too many steps in a row were not finite. SEO_ERR_USAGE:
 * also when the device has too little memory; nothing but the folder, its lock and log is there
 * then. */
seo_err seo_train(const seo_train_args *args);

#ifdef __cplusplus
}
#endif
