/* The other ranks, where there may be none: NULL is a world of one. */
#pragma once

#include "train/world/world.h"

static inline int32_t seo_ckpt_rank(const seo_world *world) {
    return world ? seo_world_rank(world) : 0;
}

static inline int32_t seo_ckpt_ranks(const seo_world *world) {
    return world ? seo_world_size(world) : 1;
}

static inline seo_err seo_ckpt_agree(seo_world *world, seo_channel channel, const char *what,
                                     seo_err mine) {
    return seo_ckpt_ranks(world) > 1 ? seo_world_agree(world, channel, what, mine) : mine;
}
