/* Ranks as processes of one machine, for comms that want a process each. */
#pragma once

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Brings rank 0's bytes to all, as a comm's opening wants it: the context is the rank's own. */
typedef struct rank_process {
    int32_t rank, size;
    struct rank_board *board;
} rank_process;
seo_err rank_process_share(void *rank_process, void *data, int64_t bytes);

/* What a rank does. It does not assert through cmocka: it returns SEO_FAIL. */
typedef seo_err rank_process_body(rank_process *self, const void *context);

enum { RANK_PROCESSES_MAX = 8 };

/* Starts `size` processes, waits for all of them, and returns how many did not end well; their
 * messages are on standard error. The caller has opened no device: a process inherits none. */
int32_t rank_processes_run(int32_t size, rank_process_body *body, const void *context);

#ifdef __cplusplus
}
#endif
