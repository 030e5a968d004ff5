/* What a world is to its own files. */
#pragma once

#include "train/world/line.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_watch seo_watch;

struct seo_world {
    int32_t rank, size, local_rank;
    char self[160];
    seo_line *line;   /* NULL with one rank */
    seo_watch *watch; /* NULL until seo_world_watch */
};

/* From here on nobody is judged. Where the job is ending already it does not return. */
void seo_watch_stop(seo_world *world);
void seo_watch_free(seo_watch *watch); /* when the line is closed */

#ifdef __cplusplus
}
#endif
