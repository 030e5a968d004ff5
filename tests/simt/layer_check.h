/* What the tests of the layer share: problems with their right answers, and verdicts on a run. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A verdict is "none", "wrong" (numbers), the name of an error of the layer ("race"), "asan:..." or
 * "ubsan:...". A run is in this process, or in a child where a sanitizer may end it. */
enum family { FAMILY_NORM, FAMILY_MMA, FAMILY_WGMMA, FAMILY_MICRO, FAMILY_COUNT };

void layer_problems_init(void);
const char *layer_run(enum family family, int bug);
const char *layer_run_in_child(enum family family, int bug, char *report, size_t report_size);
/* Whether a verdict is among "a|b|c". */
bool layer_verdict_is(const char *verdict, const char *allowed);
