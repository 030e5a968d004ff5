#include "train/checkpoint/stream.h"

#include <stdio.h>
#include <stdlib.h>

#include <xxhash.h>

#include "base/check.h"

seo_err seo_ckpt_hash_values(seo_ckpt_read_run *read, void *context, int64_t count,
                             char hash[SEO_XXH128_HEX]) {
    seo_err err = SEO_OK;
    float *piece = malloc(SEO_CKPT_PIECE_VALUES * sizeof *piece);
    XXH3_state_t *sum = XXH3_createState();
    if (!piece || !sum) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "no memory to read a checkpoint's values");
        goto done;
    }
    XXH3_128bits_reset(sum);
    for (int64_t at = 0; at < count; at += SEO_CKPT_PIECE_VALUES) {
        const int64_t n = seo_min_i64(SEO_CKPT_PIECE_VALUES, count - at);
        SEO_TRY(read(context, at, n, piece));
        XXH3_128bits_update(sum, piece, (size_t)n * sizeof *piece);
    }
    const XXH128_hash_t h = XXH3_128bits_digest(sum);
    snprintf(hash, SEO_XXH128_HEX, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
done:
    XXH3_freeState(sum);
    free(piece);
    return err;
}
