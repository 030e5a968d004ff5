/* The command line: a table of verbs, each with a table of options, from which parsing, --help,
 * errors and "did you mean" come. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 75
 * stopped with a checkpoint and wants to be started again, 97 a rank was lost and nothing newer
 * could be saved (train/world/world.h ends the process with it).
 *
 * Every verb also takes --help, --quiet and --log-level LEVEL; main takes the last two before the
 * verb as well. Options have long names only, written whole: an abbreviation that is unique today
 * would change its meaning with the next option. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_EXIT_OK = 0, SEO_EXIT_FAILED = 1, SEO_EXIT_USAGE = 2, SEO_EXIT_REQUEUE = 75 };

typedef enum seo_cli_type {
    SEO_CLI_FLAG,  /* bool *: present or not */
    SEO_CLI_TEXT,  /* const char **: borrowed from argv */
    SEO_CLI_INT,   /* int64_t *: amounts like 0.5M allowed; range [min, max] */
    SEO_CLI_FLOAT, /* double *: range [min, max] */
    SEO_CLI_LIST   /* seo_cli_list *: may be given again */
} seo_cli_type;

typedef struct seo_cli_list {
    const char **items; /* freed by seo_cli_list_free */
    int64_t count;
} seo_cli_list;

typedef struct seo_cli_option {
    const char *name; /* "vocab-size": long form only, both --name VALUE and --name=VALUE */
    seo_cli_type type;
    void *value;         /* the variable; it holds the default before parsing */
    const char *operand; /* "N", "FILE": shown in help; NULL for flags */
    const char *help;
    bool required;
    double min, max; /* of INT and FLOAT; both 0: unchecked. A default outside is not shown */
} seo_cli_option;

/* Options that several verbs have: which device, how many CPU threads (0: automatic). */
#define SEO_CLI_DEVICE(variable)                                                                   \
    {                                                                                              \
        .name = "device", .type = SEO_CLI_TEXT, .value = (variable), .operand = "NAME",            \
        .help = "auto, cpu or cuda; auto: a GPU if there is one"                                   \
    }
#define SEO_CLI_THREADS(variable)                                                                  \
    {                                                                                              \
        .name = "threads", .type = SEO_CLI_INT, .value = (variable), .operand = "N",               \
        .help = "CPU threads; 0: as many as this process may use", .min = 0, .max = 4096           \
    }

enum { SEO_CLI_OPTIONS_MAX = 32 };

typedef struct seo_cli_command {
    const char *name;                   /* "tokenizer train" */
    const char *operands;               /* "FILE|DIR..." or "" */
    const char *summary;                /* one line */
    const char *example;                /* one or more command lines */
    int64_t operands_min, operands_max; /* -1: no limit */
} seo_cli_command;

/* Parses argv[0..argc) (after the verb) into the options' variables; what is no option goes to
 * operands (borrowed from argv, to be freed with seo_cli_list_free). Options and operands may mix;
 * `--` ends options; a lone - is an operand; the last of an option given twice wins. --quiet and
 * --log-level take effect at once. *helped is set when --help was given and printed. Mistakes are
 * SEO_ERR_USAGE, all of them in one message. */
seo_err seo_cli_parse(const seo_cli_command *command, const seo_cli_option *options,
                      int64_t option_count, int argc, char **argv, seo_cli_list *operands,
                      bool *helped);
void seo_cli_list_free(seo_cli_list *list);

/* The exit code for an error, after printing it. SEO_OK gives 0. SEO_ERR_STOPPED gives 75. */
int seo_cli_exit(seo_err err);

/* Prints text to standard output; a closed pipe or full disk is SEO_ERR_IO. */
seo_err seo_cli_print(const char *text, int64_t bytes);

/* Prints a report of mistakes, which has its own places and lines, to standard error as it is. */
void seo_cli_report(const char *text, int64_t bytes);

typedef struct seo_cli_verb {
    const char *name;
    int (*run)(int argc, char **argv); /* what follows the name; returns an exit code */
    const char *summary;               /* one line for the list that --help prints */
} seo_cli_verb;

/* Runs the verb that argv[0] names, after --quiet and --log-level; prints the list for --help;
 * anything else is a usage error with "did you mean". group: "seodang", "seodang data". */
int seo_cli_dispatch(const char *group, const seo_cli_verb *verbs, int64_t verb_count, int argc,
                     char **argv);

/* The verbs; each takes what follows its name and returns an exit code. */
int seo_cli_tokenizer(int argc, char **argv);
int seo_cli_data(int argc, char **argv);
int seo_cli_plan(int argc, char **argv);
int seo_cli_train(int argc, char **argv);
int seo_cli_eval(int argc, char **argv);
int seo_cli_generate(int argc, char **argv);
int seo_cli_fill(int argc, char **argv);
int seo_cli_classify(int argc, char **argv);
int seo_cli_import(int argc, char **argv);
int seo_cli_export(int argc, char **argv);
int seo_cli_checkpoint(int argc, char **argv);
int seo_cli_config(int argc, char **argv);

#ifdef __cplusplus
}
#endif
