/* A task's examples: one file, read and tokenized at the start, kept in memory as ids.
 *
 * Prompt and completion (decoders), JSONL: {"prompt": "...", "completion": "..."}. The two are
 * tokenized each by itself, so that a prompt is the same ids when only the prompt is given; no
 * character is put between them. The ids are prompt, completion, eot; only the completion and its
 * eot are targets. An empty prompt is an eot. Where all is longer than a sequence, the prompt loses
 * ids at its front, which is counted; a completion that does not fit with one id of the prompt is
 * an error.
 *
 * Text and label, JSONL: {"text": "...", "label": "..."}, with "pair": "..." for a second text; the
 * label is a text or a whole number. TSV: label, text (and second text); a first line whose label
 * is the word label, where no class is called so, is a header. Encoders: cls text sep (pair sep).
 * Decoders: text eot (pair eot); every next token is a target, for the language model's loss beside
 * the label's, and the pick is the last eot. What is longer than a sequence loses ids at the end of
 * the longer text, which is counted.
 *
 * Blank lines are left out. Any other line that is not as above is an error that names it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "data/rows.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A larger file is refused: examples lie in memory. */
enum { SEO_EXAMPLES_BYTES_MAX = 1 << 30, SEO_EXAMPLES_THREADS_MAX = 64 };

typedef enum seo_examples_kind { SEO_EXAMPLES_PAIRS, SEO_EXAMPLES_CLASSIFY } seo_examples_kind;

typedef struct seo_examples_args {
    const char *path; /* .jsonl, or .tsv with a label */
    seo_examples_kind kind;
    const seo_tokenizer *tokenizer; /* needed while opening only */
    const char *const *labels;      /* names of the classes, in order; likewise */
    int64_t label_count;            /* >= 2 to classify */
    int64_t seq_len;
    bool encoder;
    int64_t types; /* encoders: token types of the model; from 2 on the second text is type 1 */
    int64_t separators; /* encoders: between the texts, 1 (BERT) or 2 (RoBERTa) */
    int64_t threads;    /* that tokenize, 1..SEO_EXAMPLES_THREADS_MAX */
} seo_examples_args;

/* Errors are SEO_ERR_FORMAT or SEO_ERR_USAGE naming file and line. */
seo_err seo_examples_open(const seo_examples_args *args, seo_examples **out);
void seo_examples_close(seo_examples *examples); /* NULL is fine */
/* The same from memory; args->path names it in messages and decides between JSONL and TSV. */
seo_err seo_examples_parse(const seo_examples_args *args, const char *text, int64_t bytes,
                           seo_examples **out);

typedef struct seo_examples_info {
    int64_t count;               /* > 0 */
    int64_t tokens;              /* of all, special ones too */
    int64_t cut;                 /* examples that were too long */
    int64_t first_cut_line;      /* 0: none */
    bool pairs;                  /* classify: the examples have second texts */
    char sha256[SEO_SHA256_HEX]; /* of the file: other examples are another run */
} seo_examples_info;
seo_examples_info seo_examples_info_get(const seo_examples *examples);

/* Line of an example in the file, from 1 on; index of [0, count). */
int64_t seo_examples_line(const seo_examples *examples, int64_t index);
/* Its class, to classify; else -1. */
int32_t seo_examples_label(const seo_examples *examples, int64_t index);
/* What its rows have. */
seo_row_shape seo_examples_shape(const seo_examples *examples);

#ifdef __cplusplus
}
#endif
