/* Steps of one batch size are a level. Where levels begin is summed up once, exactly; a step is
 * found among them by halves. A level that is shorter than the last batch before it has no step. */
#include "data/ramp.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/check.h"

__extension__ typedef __int128 wide;

enum { LEVELS_MAX = 1 << 20 };

typedef struct level {
    int64_t step, sample; /* its first */
    int64_t sequences;    /* of each of its batches */
} level;

struct seo_ramp {
    seo_ramp_args a;
    int64_t level_count; /* with the full one, which has no end */
    level *levels;
};

static seo_err check_args(const seo_ramp_args *a) {
    if (a->full_sequences < 1 || a->seq_len < 1 || a->unit_sequences < 1 || a->ramp_tokens < 0 ||
        a->start_sequences < 1 || a->start_sequences > a->full_sequences ||
        a->full_sequences > INT64_MAX / 4 / a->seq_len || a->ramp_tokens > INT64_MAX / 4) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "a batch of %" PRId64 " sequences cannot grow from %" PRId64
                        " in units of %" PRId64 " over %" PRId64 " tokens",
                        a->full_sequences, a->start_sequences, a->unit_sequences, a->ramp_tokens);
    }
    if (a->ramp_tokens == 0) return SEO_OK;
    if (a->start_sequences % a->unit_sequences != 0 || a->full_sequences % a->unit_sequences != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "the batch grows in units of %" PRId64 " sequences (ranks x micro-batch), "
                        "so the first batch (%" PRId64 " sequences) and the full one (%" PRId64
                        ") have to be multiples of them: change train.batch_start_tokens or "
                        "train.batch_tokens",
                        a->unit_sequences, a->start_sequences, a->full_sequences);
    }
    if ((a->full_sequences - a->start_sequences) / a->unit_sequences >= LEVELS_MAX) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "the batch would grow in more than %d levels: begin with a larger "
                        "train.batch_start_tokens, or take larger micro-batches",
                        (int)LEVELS_MAX);
    }
    return SEO_OK;
}

/* Levels [0, growing) end where x / R reaches the next; the last one is the full batch. */
static void fill_levels(seo_ramp *ramp) {
    const seo_ramp_args *a = &ramp->a;
    const int64_t growing = ramp->level_count - 1;
    int64_t step = 0, sample = 0;
    for (int64_t k = 0; k < growing; k++) {
        const int64_t sequences = a->start_sequences + k * a->unit_sequences;
        ramp->levels[k] = (level){.step = step, .sample = sample, .sequences = sequences};
        /* The fewest steps n with (sample + n * sequences) * seq_len * growing >= (k + 1) * R. */
        const wide per_step = (wide)sequences * a->seq_len * growing;
        const wide missing = (wide)(k + 1) * a->ramp_tokens - (wide)sample * a->seq_len * growing;
        const int64_t steps = missing > 0 ? (int64_t)((missing + per_step - 1) / per_step) : 0;
        step += steps;
        sample += steps * sequences;
    }
    ramp->levels[growing] = (level){.step = step, .sample = sample, .sequences = a->full_sequences};
}

seo_err seo_ramp_open(const seo_ramp_args *args, seo_ramp **out) {
    *out = NULL;
    const seo_err err = check_args(args);
    if (err != SEO_OK) return err;
    seo_ramp *ramp = calloc(1, sizeof *ramp);
    if (ramp != NULL) {
        ramp->a = *args;
        ramp->level_count = 1;
        if (args->ramp_tokens > 0) {
            ramp->level_count +=
                (args->full_sequences - args->start_sequences) / args->unit_sequences;
        }
        ramp->levels = calloc((size_t)ramp->level_count, sizeof *ramp->levels);
    }
    if (ramp == NULL || ramp->levels == NULL) {
        seo_ramp_close(ramp);
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the batch's growth");
    }
    fill_levels(ramp);
    *out = ramp;
    return SEO_OK;
}

void seo_ramp_close(seo_ramp *ramp) {
    if (ramp == NULL) return;
    free(ramp->levels);
    free(ramp);
}

seo_ramp_args seo_ramp_args_of(const seo_ramp *ramp) {
    return ramp->a;
}

int64_t seo_ramp_last_step(const seo_ramp *ramp) {
    const level *full = &ramp->levels[ramp->level_count - 1];
    const int64_t most = INT64_MAX / 2 / ramp->a.seq_len;
    if (full->sample >= most) return full->step;
    return full->step + (most - full->sample) / full->sequences;
}

seo_ramp_batch seo_ramp_at(const seo_ramp *ramp, int64_t step) {
    SEO_ASSERT(step >= 0 && step <= seo_ramp_last_step(ramp));
    int64_t low = 0, high = ramp->level_count; /* the last level that begins at or before step */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (ramp->levels[middle].step <= step) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const level *at = &ramp->levels[low];
    return (seo_ramp_batch){.first = at->sample + (step - at->step) * at->sequences,
                            .sequences = at->sequences};
}

int64_t seo_ramp_tokens(const seo_ramp *ramp, int64_t step) {
    return seo_ramp_at(ramp, step).first * ramp->a.seq_len;
}

int64_t seo_ramp_steps(const seo_ramp *ramp, int64_t tokens) {
    SEO_ASSERT(tokens >= 0);
    const int64_t samples = seo_div_up(tokens, ramp->a.seq_len);
    int64_t low = 0, high = ramp->level_count; /* the last level that begins before them */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (ramp->levels[middle].sample < samples) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const level *at = &ramp->levels[low];
    const int64_t more = seo_max_i64(0, samples - at->sample);
    return seo_min_i64(at->step + seo_div_up(more, at->sequences), seo_ramp_last_step(ramp));
}
