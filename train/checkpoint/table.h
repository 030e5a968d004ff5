/* What the processes that write a checkpoint tell the one that writes its manifest. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/checkpoint.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/part.h"
#include "train/checkpoint/peers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A run of a tensor's elements in one part; also as bytes on the line between ranks. */
typedef struct seo_ckpt_told {
    int64_t part, tensor, offset, count;
    char hash[40]; /* SEO_XXH128_HEX of them */
} seo_ckpt_told;

/* Every rank's list to rank 0, which gets all in *all (count *all_count, freed with free; with one
 * rank a copy). SEO_ERR_USAGE on rank 0 when a rank is at another step or has other tensors. */
seo_err seo_ckpt_gather_table(seo_world *world, const seo_ckpt_snapshot *snapshot,
                              const seo_ckpt_told *mine, int64_t count, seo_ckpt_told **all,
                              int64_t *all_count);

/* Fills the manifest's tensors and pieces. SEO_ERR_ARG naming a tensor that the runs do not cover
 * without gap or overlap. Sorts `told`. */
seo_err seo_ckpt_fill_table(seo_ckpt_manifest *manifest, const seo_ckpt_snapshot *snapshot,
                            seo_ckpt_told *told, int64_t count);

/* Every rank's file to rank 0, where files[rank] is filled for the others' ranks. */
seo_err seo_ckpt_gather_files(seo_world *world, const seo_ckpt_file *mine, seo_ckpt_file *files);

#ifdef __cplusplus
}
#endif
