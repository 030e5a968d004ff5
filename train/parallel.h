/* What a training step does together with the other ranks of the run (kernels/comm.h): it sums up
 * gradients while the backward still computes others, and brings changed parameters to where they
 * are read while the next forward has begun. Who keeps what is said in train/shard.h.
 *
 * Order of sums. Default mode: a rank adds up its passes one after the other, then the ranks are
 * added in their order (zero 0, 1); or each pass is added up over the ranks and that to the passes
 * before it (zero 2, 3): the same bits again for the same number of ranks. Invariant mode: the
 * global batch is cut into `slots` equal parts; the passes of a slot are added one after the other
 * and slots as a balanced binary tree, so that ranks, which hold subtrees of it, do not show: the
 * same bits for every number of ranks that divides the slots.
 *
 * With one rank nothing is exchanged: passes have no hooks, and are replayed where the device can.
 * All ranks make the same calls. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"
#include "train/memory.h"
#include "train/models/model.h"
#include "train/shard.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_parallel seo_parallel;

typedef struct seo_parallel_args {
    seo_model *model; /* SEO_MODEL_TRAIN; borrowed */
    seo_comm *comm;   /* attached to the model's device, of its shards' rank and ranks; borrowed.
                       * NULL: one rank */
    int64_t slots;    /* of invariant mode, a power of two; 0: default mode */
    seo_dtype wire;   /* f32, or bf16: what is sent of gradients */
} seo_parallel_args;

/* Takes the gradients of slots that wait (seo_parallel_measure). SEO_ERR_USAGE: settings that
 * contradict each other. */
seo_err seo_parallel_open(const seo_parallel_args *args, seo_parallel **out);
/* Waits for what is under way. NULL is fine. */
void seo_parallel_close(seo_parallel *parallel);

/* Adds what open takes of the device, without one. */
void seo_parallel_measure(const seo_shards *shards, int64_t slots, seo_memory_table *out);

seo_comm *seo_parallel_comm(const seo_parallel *parallel); /* NULL with one rank */
const seo_shards *seo_parallel_shards(const seo_parallel *parallel);
int64_t seo_parallel_slots(const seo_parallel *parallel); /* of the global batch; 0: default mode */

/* ---- the passes of a step ---- */

/* The step has `passes` passes on this rank, in invariant mode a multiple of its slots; gradients
 * start at 0. */
seo_err seo_parallel_begin(seo_parallel *parallel, int64_t passes);
/* Around pass `index` of them, in order: *hooks is for seo_pass_args, NULL when the pass exchanges
 * nothing. */
seo_err seo_parallel_pass(seo_parallel *parallel, int64_t index, const seo_pass_hooks **hooks);
seo_err seo_parallel_passed(seo_parallel *parallel, int64_t index);
/* After the last one: the sum over the global batch is where this rank keeps it (all of it for zero
 * 0, else its chunks). */
seo_err seo_parallel_reduced(seo_parallel *parallel);

/* Hooks of passes without gradients (evaluation), between steps; NULL with one rank. */
const seo_pass_hooks *seo_parallel_reading(seo_parallel *parallel);

/* ---- around the update ---- */

/* The sums of squares of the units of each segment lie in their places of `units` (whole_count /
 * SEO_SHARD_UNIT) f32, this rank's chunks; afterwards everyone's do. For zero 1 and above. */
seo_err seo_parallel_gather_units(seo_parallel *parallel, seo_tensor units);
/* This rank's chunk of the segment has its new values: they are on their way to all ranks. */
seo_err seo_parallel_updated(seo_parallel *parallel, int64_t segment);
/* Whoever reads parameters without the hooks (a checkpoint, a test) waits first. */
seo_err seo_parallel_settle(seo_parallel *parallel);
/* The trained values were set from outside (initial values, a checkpoint), each rank's chunks at
 * least: everyone reads them from here on, in the storage type. In place of seo_model_refresh,
 * which it calls with one rank. */
seo_err seo_parallel_refresh(seo_parallel *parallel);

#ifdef __cplusplus
}
#endif
