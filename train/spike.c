#include "train/spike.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* The standard deviation of a normal distribution over its median distance from the median. */
static const double k_normal = 1.4826;
static const double k_least_share = 1e-3;

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the values. */
static double median(double *values, int64_t count) {
    qsort(values, (size_t)count, sizeof *values, by_value);
    const int64_t middle = count / 2;
    return count % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

seo_spike seo_spike_judge(const seo_train_config *train, const double *losses, int64_t count,
                          double loss) {
    double values[SEO_CONFIG_SPIKE_WINDOW_MAX];
    const int64_t window = train->spike_window;
    SEO_ASSERT(isfinite(loss) && window >= 1 && window <= SEO_CONFIG_SPIKE_WINDOW_MAX);
    if (train->spike_sigma == 0 || count < window) return (seo_spike){0};
    memcpy(values, losses + count - window, (size_t)window * sizeof *values);
    const double expected = median(values, window);
    for (int64_t i = 0; i < window; i++) values[i] = fabs(values[i] - expected);
    const double spread = k_normal * median(values, window);
    const double deviation = fmax(spread, k_least_share * fabs(expected));
    /* Losses that are all zero: whatever lies above them is a spike. */
    const double sigmas = deviation > 0     ? (loss - expected) / deviation
                          : loss > expected ? INFINITY
                                            : 0;
    return (seo_spike){
        .found = sigmas > train->spike_sigma, .expected = expected, .sigmas = sigmas};
}

void seo_spike_add(const seo_train_config *train, double *losses, int64_t *count, double loss) {
    SEO_ASSERT(isfinite(loss) && *count >= 0 && *count <= SEO_CONFIG_SPIKE_WINDOW_MAX);
    const int64_t kept = seo_min_i64(*count, train->spike_window - 1);
    memmove(losses, losses + *count - kept, (size_t)kept * sizeof *losses);
    losses[kept] = loss;
    *count = kept + 1;
}
