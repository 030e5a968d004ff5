/* The prefetching loader: the host waist between data and training. A thread fetches the batch of a
 * step before it is asked for. It fetches f(step), never "the next one": it has no state that a
 * checkpoint would need, and any step can be asked for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "data/dataset.h"
#include "data/order.h"
#include "data/ramp.h"
#include "data/rows.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_loader seo_loader;

typedef struct seo_loader_args {
    seo_dataset *const *datasets; /* sources of the mix; borrowed, must outlive the loader */
    const double *weights;        /* relative, one per dataset; NULL: proportional to their rows */
    int64_t dataset_count;        /* 1..SEO_ORDER_SOURCES_MAX; 0 with examples */
    int64_t seq_len;
    int64_t batch_sequences;             /* B: sequences of the global batch */
    int64_t first_sequence, local_count; /* this rank's part of [0, B) */
    uint64_t seed;
    bool shuffle;
    int64_t prefetch;    /* batches kept ready, 1..64 */
    int64_t micro_batch; /* sequences of a pass, for which groups are made; 0: no groups */
    /* What the rows are made of (data/rows.h); left out: the next token. Borrowed likewise. */
    seo_objective objective;
    const seo_examples *examples;
    const seo_tokenizer *tokenizer;
    bool document_mask;
    double mask_fraction;
    int64_t max_predictions;
    double short_sequences;
    /* NULL: every batch has B sequences. Else its full batch is B; of a smaller one this rank has
     * the same share, which must be whole for every multiple of its unit. Borrowed likewise. */
    const seo_ramp *ramp;
} seo_loader_args;

/* A batch: rows of one objective (data/rows.h), i32, row after row. What an objective has not is
 * NULL. */
typedef struct seo_batch {
    const int32_t *ids;     /* row r, position t: ids[r * stride + t]. The loader's, valid until the
                             * next seo_loader_get or close, as all below */
    const int32_t *targets; /* likewise: what follows position t; SEO_ROW_IGNORE: does not count */
    int64_t stride;
    int64_t sequences, seq_len; /* of this rank's part */
    const int32_t *types;       /* (sequences, seq_len): token types */
    const int32_t *spans; /* (sequences, seq_len, 2): begin and end of the part of the sequence
                           * that a position belongs to */
    const int32_t *picks; /* (sequences, pick_count): positions whose output counts;
                           * SEO_ROW_IGNORE: none */
    const int32_t *pick_targets;
    int64_t pick_count;
    const int32_t *labels; /* (sequences) */
    /* Of the global batch, all ranks together: what a mean loss is over. */
    int64_t total_sequences, total_targets; /* targets, or picks, that count */
    /* Of each micro-batch in turn seo_groups_build (base/groups.h) of its inputs, groups_stride
     * apart; the last one may be of fewer sequences. NULL when none were asked for. */
    const int32_t *groups;
    int64_t groups_stride;
    int64_t step;
    double wait_s; /* how long the caller had to wait for it */
    const seo_order_place
        *places; /* (sequences): source, epoch and window of each row, for provenance */
} seo_batch;

seo_err seo_loader_open(const seo_loader_args *args, seo_loader **out);
/* The batch of `step` >= 0. Asking for step + 1 after step costs no wait; any other step is fetched
 * on demand. */
seo_err seo_loader_get(seo_loader *loader, int64_t step, seo_batch *out);
/* Where sequence j of the whole global batch of `step` comes from, j of [0, its sequences): also of
 * those that are other ranks'. */
seo_order_place seo_loader_place(const seo_loader *loader, int64_t step, int64_t j);
/* What the batches are made of; the loader's. */
const seo_rows *seo_loader_rows(const seo_loader *loader);
void seo_loader_close(seo_loader *loader);

#ifdef __cplusplus
}
#endif
