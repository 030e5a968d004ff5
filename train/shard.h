/* Which part of a run's state lies on which rank: the arithmetic of sharding, and nothing else.
 *
 * The parameter table is cut into segments: runs of rows of one block. "wte, wpe" come first, then
 * one segment for each block, then what follows them ("norm_final"). In the slab every segment
 * begins at, and is padded to, a multiple of parts * SEO_SHARD_UNIT elements, so that it divides
 * into equal chunks for any number of ranks that divides `parts`. Rank r owns chunk r of every
 * segment: it sums up that chunk's gradient, updates it, saves it.
 *
 *   whole layout   | segment 0: chunk 0, chunk 1 ... | segment 1: chunk 0, chunk 1 ... | ...
 *   shard layout   | own chunk of segment 0 | own chunk of segment 1 | ...         (one rank's)
 *
 * A set (parameters, gradients, a moment) is kept in one of the two layouts, or, of segments that
 * are on a rank only while they are used, as windows: one for each segment outside the blocks, and
 * two that the blocks take in turn.
 *
 *   zero   gradients   moments, f32 masters   parameters that passes read
 *   0      whole       whole                  whole
 *   1      whole       shard                  whole
 *   2      windows + shard   shard            whole
 *   3      windows + shard   shard            windows (shard: the trained values)
 *
 * Rows that are frozen have no part in any of this: they lie whole on every rank, in a set of their
 * own, whose shards are those of a wish for them.
 *
 * Without masters (f32) the trained values are what passes read, whole for zero < 3. With one rank
 * all levels are level 0. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "train/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Elements. Sums of squares are made unit by unit, so that the gradient's norm does not depend on
 * the number of ranks. */
enum { SEO_SHARD_UNIT = 2048, SEO_SHARD_WINDOWS = 2, SEO_SHARD_PARTS_MAX = 1 << 20 };

typedef enum seo_layout { SEO_LAYOUT_WHOLE, SEO_LAYOUT_SHARD, SEO_LAYOUT_WINDOWS } seo_layout;

typedef struct seo_segment {
    int64_t block;              /* or SEO_PARAM_NO_BLOCK */
    int64_t row_first, row_end; /* of the table */
    int64_t first, count;       /* elements in the whole layout, padding included */
    int64_t chunk;              /* count / ranks */
    int64_t shard_first;        /* of the own chunk in the shard layout */
    int64_t window_first;       /* in the windows layout; blocks of one parity share it */
} seo_segment;

/* Where a row lies. */
typedef struct seo_shard_row {
    int64_t segment;
    int64_t at;    /* of its segment's elements: a multiple of SEO_ADAMW_UNIT */
    int64_t count; /* elements, padding left out; 0: it is of the other kind, frozen or trained */
} seo_shard_row;

typedef struct seo_shards {
    int32_t rank, ranks;
    int32_t zero;  /* 0..3; 0 with one rank */
    int64_t parts; /* a multiple of ranks */
    seo_segment *segments;
    int64_t segment_count;
    seo_shard_row *rows; /* by row of the table */
    int64_t row_count;
    int64_t resident_count; /* elements of the windows layout before the blocks' two */
    int64_t whole_count, shard_count, window_count; /* elements of each layout */
} seo_shards;

/* Who takes part. parts: 0 means ranks. */
typedef struct seo_shard_wish {
    int32_t rank, ranks; /* ranks 0: one */
    int32_t zero;
    int64_t parts;
    bool frozen; /* of the rows that are frozen, in place of those that are trained */
} seo_shard_wish;

/* A segment without such rows has one unit of padding a part. Needs no memory but the lists, and
 * the table no longer than the call. Free with seo_shards_free. SEO_ERR_SHAPE when the padding of
 * so many parts makes sizes impossible. */
seo_err seo_shards_open(const seo_params *params, const seo_shard_wish *wish, seo_shards *out);
void seo_shards_free(seo_shards *shards);

/* Elements of a layout; where a segment begins in it, and how many elements it has there. */
int64_t seo_shards_count(const seo_shards *shards, seo_layout layout);
int64_t seo_shards_segment_at(const seo_shards *shards, seo_layout layout, int64_t segment);
int64_t seo_shards_segment_count(const seo_shards *shards, seo_layout layout, int64_t segment);
/* Where a row begins in a layout (not SHARD: see seo_shards_piece). */
int64_t seo_shards_row_at(const seo_shards *shards, seo_layout layout, int64_t row);

/* This rank's part of a row, padding left out. */
typedef struct seo_shard_piece {
    int64_t row;
    int64_t offset, count; /* elements of the tensor, row-major */
    int64_t at;            /* where it lies in the layout that was asked for */
} seo_shard_piece;
/* False when nothing of the row lies in this rank's chunk. */
bool seo_shards_piece(const seo_shards *shards, seo_layout layout, int64_t row,
                      seo_shard_piece *out);

#ifdef __cplusplus
}
#endif
