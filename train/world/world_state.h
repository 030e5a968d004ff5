/* What a world is to its own files. */
#pragma once

#include "train/world/line.h"

#ifdef __cplusplus
extern "C" {
#endif

struct seo_world {
    int32_t rank, size;
    char self[160];
    seo_line *line; /* NULL with one rank */
};

#ifdef __cplusplus
}
#endif
