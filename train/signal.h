/* Asking a run to stop: SIGTERM (a scheduler's end), SIGUSR1 (its warning before it), SIGINT
 * (Ctrl-C). The first one sets a flag, which every long loop polls; a second SIGINT ends the
 * program at once. */
#pragma once

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starts and ends catching; ending gives the signals their default back and forgets a request. */
void seo_signal_catch(void);
void seo_signal_release(void);

/* The number of the signal that asked, 0 when none did. */
int seo_signal_asked(void);
/* "SIGTERM"; "no signal" for 0. */
const char *seo_signal_name(int number);

#ifdef __cplusplus
}
#endif
