/* The run folder: who may write in it, and what lies where.
 *
 *   RUN/config.yaml  metrics.jsonl  log.txt  lock  attempt  checkpoints/
 *
 * One writer: an exclusive lock on RUN/lock, held by the process for as long as it lives, so that a
 * killed run never leaves a stale one; the file names host, process and start time of its holder
 * for the message the second one prints. The attempt number rises by one with each start; a save is
 * committed only while RUN/attempt still holds ours (a fence against a ghost of an earlier attempt
 * on another host, where file locks may not reach). */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_RUN_OWNER_MAX = 512 };

typedef struct seo_run_dir {
    char path[SEO_PATH_MAX];
    int64_t attempt; /* 1 for the first start */
    int lock_fd;
} seo_run_dir;

/* Makes the folder if needed, takes the lock (SEO_ERR_LOCKED naming the holder), counts the
 * attempt. */
seo_err seo_run_dir_open(const char *path, seo_run_dir *out);
void seo_run_dir_close(seo_run_dir *run);

/* SEO_ERR_LOCKED when RUN/attempt is no longer `attempt` as this process wrote it: a newer attempt
 * has taken over. attempt 0 passes: the folder belongs to no run. */
seo_err seo_run_dir_fence(const char *path, int64_t attempt);

/* The text of RUN/attempt, and the same fence for another rank of the run: SEO_ERR_LOCKED when the
 * file no longer says `owner`. "" passes. */
seo_err seo_run_dir_owner(const char *path, char owner[SEO_RUN_OWNER_MAX]);
seo_err seo_run_dir_owned_by(const char *path, const char *owner);

#ifdef __cplusplus
}
#endif
