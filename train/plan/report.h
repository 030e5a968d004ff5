/* What `seodang plan` prints: memory a rank by slab, time, bytes between ranks, energy, cost. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "train/plan/forecast.h"
#include "train/plan/memory.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_plan_report {
    const seo_forecast_args *args;
    const seo_forecast *forecast;
    const seo_plan_memory *memory;
    int64_t largest_micro_batch; /* that fits the device; 0: not known */
} seo_plan_report;

/* Appends some lines for people. */
void seo_plan_write_text(const seo_plan_report *report, seo_buf *out);
/* Appends one JSON object and a newline. */
void seo_plan_write_json(const seo_plan_report *report, seo_buf *out);

#ifdef __cplusplus
}
#endif
