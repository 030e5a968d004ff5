/* Loss spikes: a step whose loss lies far above those before it.
 *
 * The measure is robust, so that a spike does not hide the next one: with m the median of the last
 * train.spike_window finite losses and d the median of their distances from m, a loss is a spike
 * when it exceeds m + spike_sigma * max(1.4826 d, |m| / 1000). 1.4826 d is the standard deviation
 * of a normal distribution with that d; the other term keeps losses that hardly move from making a
 * spike of their last digits. Every finite loss enters the window, spikes as well: where the losses
 * stay at a new level they are no spikes any more after half a window.
 *
 * It depends on losses alone, which are the same on all ranks; its window is saved with the
 * checkpoint, so that a resumed run judges as one that never stopped. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "train/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_spike {
    bool found;
    double expected; /* the median m, nats */
    double sigmas;   /* how far the loss lies above it, in standard deviations */
} seo_spike;

/* Compares a finite loss with the newest train.spike_window of `count` losses, oldest first; no
 * spike is found while there are fewer, or with spike_sigma 0. */
seo_spike seo_spike_judge(const seo_train_config *train, const double *losses, int64_t count,
                          double loss);

/* Appends a finite loss; the oldest ones beyond train.spike_window go. losses has room for
 * SEO_CONFIG_SPIKE_WINDOW_MAX. */
void seo_spike_add(const seo_train_config *train, double *losses, int64_t *count, double loss);

#ifdef __cplusplus
}
#endif
