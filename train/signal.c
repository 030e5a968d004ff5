#include "train/signal.h"

#include <signal.h>
#include <stddef.h>

#include "base/check.h"

/* The one thing a handler may write: hence a global, beside the log's and the error record's. */
static volatile sig_atomic_t g_asked;

static const struct {
    int number;
    const char *name;
} k_signals[] = {{SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}, {SIGINT, "SIGINT"}};

static void on_signal(int number) {
    if (number == SIGINT && g_asked != 0) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
        return;
    }
    g_asked = number;
}

void seo_signal_catch(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    g_asked = 0;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_signals); i++) {
        sigaction(k_signals[i].number, &action, NULL);
    }
}

void seo_signal_release(void) {
    for (int64_t i = 0; i < SEO_COUNT_OF(k_signals); i++) {
        signal(k_signals[i].number, SIG_DFL);
    }
    g_asked = 0;
}

int seo_signal_asked(void) {
    return g_asked;
}

const char *seo_signal_name(int number) {
    for (int64_t i = 0; i < SEO_COUNT_OF(k_signals); i++) {
        if (k_signals[i].number == number) return k_signals[i].name;
    }
    return "no signal";
}
