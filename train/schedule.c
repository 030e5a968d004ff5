#include "train/schedule.h"

#include <math.h>

#include "base/check.h"

/* How far step is from `first` to `last`, in [0, 1]; 1 where there is no way between them. */
static double fraction(int64_t step, int64_t first, int64_t last) {
    if (step >= last) return 1;
    return step <= first ? 0 : (double)(step - first) / (double)(last - first);
}

double seo_schedule_lr(const seo_schedule_config *schedule, double lr, int64_t steps,
                       int64_t step) {
    SEO_ASSERT(step >= 1);
    const double pi = 3.14159265358979323846;
    const int64_t warmup = schedule->warmup_steps;
    const double floor_fraction = schedule->final_lr_fraction;
    if (step <= warmup) return lr * (double)step / (double)warmup;
    const double x = fraction(step, warmup, schedule->decay_steps);
    double share = 1; /* of the way from the final rate up to lr */
    switch (schedule->name) {
    case SEO_SCHEDULE_CONSTANT: break;
    case SEO_SCHEDULE_LINEAR: share = 1 - x; break;
    case SEO_SCHEDULE_COSINE: share = 0.5 * (1 + cos(pi * x)); break;
    case SEO_SCHEDULE_WSD:
        if (schedule->decay_steps > 0) {
            share = 1 - fraction(step, steps - schedule->decay_steps, steps);
        }
        break;
    }
    return lr * (floor_fraction + (1 - floor_fraction) * share);
}

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

seo_ramp_args seo_schedule_ramp(const seo_config *config) {
    const seo_train_config *train = &config->train;
    const int64_t seq_len = config->model.seq_len, full = train->batch_tokens / seq_len;
    const bool grows = train->batch_ramp_tokens > 0;
    const int64_t start = grows ? train->batch_start_tokens / seq_len : full;
    return (seo_ramp_args){.full_sequences = full,
                           .start_sequences = start,
                           .unit_sequences = common_divisor(full, start),
                           .ramp_tokens = train->batch_ramp_tokens,
                           .seq_len = seq_len};
}

int64_t seo_schedule_tokens(const seo_config *config) {
    const seo_ramp_args args = seo_schedule_ramp(config);
    int64_t tokens = config->train.steps * config->train.batch_tokens;
    seo_ramp *ramp = NULL;
    if (args.ramp_tokens > 0 && seo_ramp_open(&args, &ramp) == SEO_OK) {
        tokens = seo_ramp_tokens(ramp, config->train.steps);
    }
    seo_ramp_close(ramp);
    return tokens;
}
