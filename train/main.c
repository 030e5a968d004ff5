/* The one program: settles what the environment decides, then picks the verb. Besides what a
 * launcher leaves (train/world/launch.c), the environment is read here alone. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "train/cli/cli.h"

static const seo_cli_verb k_verbs[] = {
    {"tokenizer", seo_cli_tokenizer, "train, convert and use tokenizers"},
    {"data", seo_cli_data, "build token shards from text; inspect and verify them"},
    {"plan", seo_cli_plan, "what a run takes: memory, time, energy, cost"},
    {"train", seo_cli_train, "train a model, or go on where a run stopped"},
    {"eval", seo_cli_eval, "test a model on held-out text"},
    {"generate", seo_cli_generate, "let a model write"},
    {"fill", seo_cli_fill, "let an encoder fill in masked tokens"},
    {"classify", seo_cli_classify, "give texts the labels that a model has learned"},
    {"import", seo_cli_import, "make a run of a Hugging Face model"},
    {"export", seo_cli_export, "write a model as a Hugging Face folder"},
    {"checkpoint", seo_cli_checkpoint, "inspect, verify and compare checkpoints"},
    {"config", seo_cli_config, "check, show and explain configurations"},
};

/* libgomp reads its settings before main runs. Its default, threads that spin while they wait, is
 * ruinous on a machine that does anything else: with two cores and a load of ten, 150 small steps
 * took 172 s spinning, 54 s with a spin of 20,000, 6 to 15 s with none, and one of 1,000 costs no
 * more than none. So the program starts itself once more with that, unless the user has chosen.
 * What is set here keeps the second start from making a third. */
static void settle_openmp(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("OMP_WAIT_POLICY", "passive", 1) != 0) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) != 0) return;
    execv("/proc/self/exe", argv);
    /* Where /proc is not mounted the run is right all the same, and slower on a busy machine. */
}

static seo_log_options log_options(void) {
    const char *terminal = getenv("TERM"), *no_color = getenv("NO_COLOR");
    const bool dumb = !terminal || strcmp(terminal, "dumb") == 0;
    return (seo_log_options){
        .level = SEO_LOG_INFO, .color = !dumb && !(no_color && no_color[0] != '\0'), .live = !dumb};
}

int main(int argc, char **argv) {
    settle_openmp(argv);
    /* A reader that goes away must not kill a run: the write fails with EPIPE and is reported. */
    signal(SIGPIPE, SIG_IGN);
    const seo_log_options log = log_options();
    seo_log_setup(&log);
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        static const char version[] = "seodang " SEODANG_VERSION "\n";
        return seo_cli_exit(seo_cli_print(version, (int64_t)sizeof version - 1));
    }
    return seo_cli_dispatch("seodang", k_verbs, SEO_COUNT_OF(k_verbs), argc - 1, argv + 1);
}
