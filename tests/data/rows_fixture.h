/* A dataset of drawn tokens with RoBERTa's special ones, which rows are made of. */
#pragma once

#include <stdint.h>

#include "base/file.h"
#include "data/rows.h"

/* The vocabulary: bytes behind four special tokens, and the mask. */
enum { ID_BOS = 0, ID_PAD = 1, ID_EOT = 2, ID_UNK = 3, ID_STOP = 4 + '.', ID_MASK = 260, VOCAB };

typedef struct rows_text {
    int64_t documents;
    int64_t least, most; /* tokens of a document, before its eot */
    int64_t unknown;     /* every n-th token or so is unknown; 0: none */
    int64_t stop;        /* every n-th or so ends a sentence; 0: none */
} rows_text;

typedef struct rows_world {
    char folder[SEO_PATH_MAX];
    seo_tokenizer *tok;
    seo_dataset *ds;
    int32_t *tokens; /* all of them */
    int64_t count, documents;
    int64_t *begins; /* of each document, and the end */
} rows_world;

void rows_world_open(rows_world *w, rows_text text);
/* The lines of a file, each `times` times over, as documents of BERT's kind of pieces. */
void rows_world_open_wordpiece(rows_world *w, const char *path, int64_t times);
void rows_world_close(rows_world *w);
/* The document that holds token `at`. */
int64_t rows_world_document(const rows_world *w, int64_t at);

/* Room for one row of any shape of up to ROW_MAX tokens. */
enum { ROW_MAX = 256 };
typedef struct rows_room {
    int32_t ids[ROW_MAX + 1], targets[ROW_MAX], types[ROW_MAX], spans[2 * ROW_MAX];
    int32_t picks[ROW_MAX], pick_targets[ROW_MAX], label;
} rows_room;
/* Makes the row; what its shape lacks stays -7. */
void rows_make(const seo_rows *rows, seo_order_place place, rows_room *out);

/* seo_rows_open that must succeed. */
seo_rows *rows_open(seo_rows_args args);
seo_tokenizer *rows_tokenizer(int roberta);
