/* What a run will take on a machine nobody has to own yet: time, bytes between ranks, energy,
 * money. Memory is not estimated but planned (train/plan/memory.h). */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/config.h"
#include "train/plan/machine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_forecast_args {
    const seo_config *config;
    const seo_machines *machines;
    seo_dtype storage;    /* of activations and what passes read of the parameters */
    double pue;           /* power of the whole site for each watt of the machines, >= 1 */
    double host_watts;    /* beside each device */
    double price;         /* US dollars a device and hour; 0: not known */
    double grams_per_kwh; /* CO2 equivalents */
} seo_forecast_args;

/* Times in seconds, of one step where nothing else is said. */
typedef struct seo_forecast {
    int64_t parameters;
    int64_t micro_batches; /* passes of a rank in a step */
    double model_flops;    /* a token, forward and backward, of attention what is seen */
    double machine_flops;  /* a token, with what is computed again */
    double compute_s, update_s, exchange_s;
    double exposed_s; /* the part of exchange_s that computing cannot hide */
    double step_s, run_s;
    double tokens_per_s;
    double utilisation;          /* model_flops reached, as a part of the peak */
    int64_t sent_bytes;          /* of a rank in a step */
    double kwh, kg_co2, dollars; /* of the run */
    int64_t checkpoint_bytes;
} seo_forecast;

/* The configuration must have been checked; the number of devices must divide its batch. */
seo_err seo_forecast_make(const seo_forecast_args *args, seo_forecast *out);

#ifdef __cplusplus
}
#endif
