/* System calls that fail on demand.
 *
 * Linked into a test program, its definitions of open, write, fsync, ... stand before those of the
 * C library; built as a shared object, LD_PRELOAD puts them into any program, armed by
 *
 *   SEODANG_FAULT_PATH=<part of a path> SEODANG_FAULT_AT=<k> SEODANG_FAULT_ERROR=ENOSPC|EIO
 *   SEODANG_FAULT_MODE=once|on
 *
 * Only calls on paths that contain the given part are counted and may fail. */
#pragma once

#include <stdint.h>

typedef enum fault_mode {
    FAULT_OFF,
    FAULT_ONCE, /* call number `at` (from 1) fails */
    FAULT_ON    /* it and all after it */
} fault_mode;

/* error: errno of the failing calls; 0: writes accept only half of what they are given; FAULT_LIE:
 * writes put one wrong bit on the disk and say that all went well. Other calls then only count. */
enum { FAULT_LIE = -1 };
void fault_arm(fault_mode mode, const char *path_part, int64_t at, int error);
void fault_disarm(void);

int64_t fault_calls(void);     /* matching calls since fault_arm */
const char *fault_log(void);   /* all matching calls so far, "fsync /path\n" each */
const char *fault_first(void); /* "fsync /path" of the first that failed; "" when none did */
