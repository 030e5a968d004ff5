/* What all rows share: opening, which tokens are special, random numbers, spans of documents; and
 * the rows of the next token. */
#include "data/rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/examples.h"
#include "data/rows_internal.h"

/* ---- random numbers of a row ---- */

/* A row has 2^24 numbers: more than it can draw of the longest sequence. */
seo_row_random seo_row_random_of(const seo_rows *rows, seo_purpose purpose, seo_order_place place) {
    return (seo_row_random){.key = {.seed = rows->args.seed,
                                    .purpose = (uint32_t)purpose | (uint32_t)place.source << 8,
                                    .step = (uint32_t)place.epoch},
                            .next = (uint64_t)place.window << 24};
}

static uint32_t draw(seo_row_random *random) {
    const uint64_t number = random->next++;
    if (number % 4 == 0) random->block = seo_philox(random->key, number / 4);
    return random->block.v[number % 4];
}

/* Numbers that would make some answers likelier than others are drawn again (Lemire 2019). */
int64_t seo_row_below(seo_row_random *random, int64_t n) {
    SEO_ASSERT(n > 0);
    if (n <= UINT32_MAX) {
        const uint32_t bound = (uint32_t)n, least = (0u - bound) % bound;
        uint64_t product = (uint64_t)draw(random) * bound;
        while ((uint32_t)product < least) product = (uint64_t)draw(random) * bound;
        return (int64_t)(product >> 32);
    }
    const uint64_t bound = (uint64_t)n, least = (0u - bound) % bound;
    uint64_t wide = 0;
    do {
        wide = (uint64_t)draw(random) << 32;
        wide |= draw(random);
    } while (wide < least);
    return (int64_t)(wide % bound);
}

bool seo_row_chance(seo_row_random *random, double p) {
    return ((double)draw(random) + 0.5) / 4294967296.0 < p;
}

/* ---- tokens and documents ---- */

unsigned char seo_rows_traits(const seo_rows *rows, int32_t id) {
    return id >= 0 && id < rows->vocab_size ? rows->traits[id] : SEO_TOKEN_SPECIAL;
}

seo_err seo_rows_count_ordinary(const seo_rows *rows, int64_t source, int64_t first, int64_t count,
                                int64_t *out) {
    enum { CHUNK = 256 };
    int32_t ids[CHUNK];
    *out = 0;
    for (int64_t at = 0; at < count; at += CHUNK) {
        const int64_t part = seo_min_i64(CHUNK, count - at);
        const seo_err err = seo_dataset_read(rows->datasets[source], first + at, part, ids);
        if (err != SEO_OK) return err;
        for (int64_t i = 0; i < part; i++) {
            *out += (seo_rows_traits(rows, ids[i]) & SEO_TOKEN_SPECIAL) == 0;
        }
    }
    return SEO_OK;
}

void seo_rows_span(int32_t *spans, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        spans[2 * t] = (int32_t)begin;
        spans[2 * t + 1] = (int32_t)end;
    }
}

seo_err seo_rows_document_spans(const seo_rows *rows, seo_row_text text, int32_t *spans) {
    const int64_t end = text.first + text.count;
    for (int64_t at = text.first; at < end;) {
        seo_document_span document = {0};
        const seo_err err = seo_dataset_document_at(rows->datasets[text.source], at, &document);
        if (err != SEO_OK) return err;
        const int64_t next = seo_min_i64(end, document.first_token + document.token_count);
        const int64_t from = at == text.first ? 0 : text.lead + at - text.first;
        const int64_t to = text.lead + next - text.first + (next == end ? text.tail : 0);
        seo_rows_span(spans, from, to);
        at = next;
    }
    return SEO_OK;
}

/* ---- the next token ---- */

static seo_err make_next_token(const seo_rows *rows, seo_order_place place, const seo_row *row) {
    const int64_t seq_len = rows->args.seq_len;
    const seo_row_text text = {
        .source = place.source, .first = place.window * seq_len, .count = seq_len};
    const seo_err err =
        seo_dataset_read(rows->datasets[place.source], text.first, seq_len + 1, row->ids);
    if (err != SEO_OK || row->spans == NULL) return err;
    return seo_rows_document_spans(rows, text, row->spans);
}

static seo_err all_targets(const seo_rows *rows, seo_order_place place, int64_t *out) {
    (void)place;
    *out = rows->args.seq_len;
    return SEO_OK;
}

const seo_row_maker seo_rows_next_token = {.make = make_next_token, .targets = all_targets};

/* ---- opening ---- */

static seo_err check_args(const seo_rows_args *a) {
    const bool masked =
        a->objective == SEO_OBJECTIVE_MASKED || a->objective == SEO_OBJECTIVE_SENTENCE_PAIRS;
    const bool of_examples = a->objective == SEO_OBJECTIVE_EXAMPLES;
    const bool sources = of_examples
                             ? a->examples != NULL && a->dataset_count == 0
                             : a->dataset_count >= 1 && a->dataset_count <= SEO_ORDER_SOURCES_MAX;
    if (!sources || a->seq_len < 1 || a->seq_len > 1 << 20) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "rows are made of 1 to %d datasets, or of examples, in sequences of 1 to "
                        "%d tokens",
                        (int)SEO_ORDER_SOURCES_MAX, 1 << 20);
    }
    if (!masked) return SEO_OK;
    const int64_t shortest = a->objective == SEO_OBJECTIVE_MASKED ? 3 : 5;
    if (a->tokenizer == NULL || !(a->mask_fraction > 0) || !(a->mask_fraction <= 1) ||
        a->max_predictions < 1 || a->max_predictions > a->seq_len || !(a->short_sequences >= 0) ||
        !(a->short_sequences <= 1) || a->seq_len < shortest) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "masked rows take a tokenizer, a mask_fraction above 0 and up to 1, 1 to "
                        "seq_len max_predictions, short_sequences of 0 to 1, and sequences of at "
                        "least %" PRId64 " tokens",
                        shortest);
    }
    return SEO_OK;
}

/* Sources of one mix share a tokenizer, and each has a row to give. */
static seo_err check_dataset(const seo_rows *rows, int64_t source) {
    const seo_dataset_info first = seo_dataset_info_get(rows->datasets[0]);
    const seo_dataset_info info = seo_dataset_info_get(rows->datasets[source]);
    const char *name = seo_dataset_name(rows->datasets[source]);
    if (strcmp(info.tokenizer_sha256, first.tokenizer_sha256) != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s and %s were made with different tokenizers and cannot be mixed: "
                        "build one of them again",
                        seo_dataset_name(rows->datasets[0]), name);
    }
    if (info.vocab_size != first.vocab_size) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s and %s have vocabularies of different sizes and cannot be mixed: "
                        "build one of them again",
                        seo_dataset_name(rows->datasets[0]), name);
    }
    if (rows->traits != NULL &&
        strcmp(info.tokenizer_sha256, seo_tokenizer_sha256(rows->args.tokenizer)) != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s was built with another tokenizer than the one given: take the "
                        "tokenizer.json of its folder, or build it again",
                        name);
    }
    if (rows->counts[source] < 1) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s has %" PRId64 " tokens, too few for one sequence of %" PRId64
                        "%s: take shorter sequences or more text",
                        name, info.token_count, rows->args.seq_len,
                        rows->args.objective == SEO_OBJECTIVE_NEXT_TOKEN ? " and its target" : "");
    }
    return SEO_OK;
}

static seo_err open_datasets(seo_rows *rows) {
    seo_err err = SEO_OK;
    const seo_rows_args *a = &rows->args;
    rows->source_count = a->dataset_count;
    rows->datasets = calloc((size_t)a->dataset_count, sizeof(seo_dataset *));
    if (rows->datasets == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the rows");
    memcpy(rows->datasets, a->datasets, (size_t)a->dataset_count * sizeof(seo_dataset *));
    rows->args.datasets = rows->datasets;
    const int64_t beyond = rows->read_tokens - rows->step_tokens;
    for (int64_t s = 0; s < rows->source_count; s++) {
        const int64_t tokens = seo_dataset_info_get(rows->datasets[s]).token_count;
        rows->counts[s] = (tokens - beyond) / rows->step_tokens;
        SEO_TRY(check_dataset(rows, s));
    }
done:
    return err;
}

/* Pieces of nothing but full stops, exclamation and question marks, of the full width too. */
static bool ends_sentence(const unsigned char *bytes, size_t count) {
    static const char *const marks[] = {".", "!", "?", "\u3002", "\uff01", "\uff1f"};
    size_t at = 0, before = 1;
    while (at < count && at != before) {
        before = at;
        for (int64_t m = 0; m < SEO_COUNT_OF(marks) && at == before; m++) {
            const size_t length = strlen(marks[m]);
            if (length <= count - at && memcmp(bytes + at, marks[m], length) == 0) at += length;
        }
    }
    return count > 0 && at == count;
}

static seo_err learn_tokens(seo_rows *rows) {
    const seo_tokenizer *tok = rows->args.tokenizer;
    rows->vocab_size = seo_tokenizer_vocab_size(tok);
    rows->traits = calloc((size_t)rows->vocab_size + 1, 1);
    rows->ordinary = calloc((size_t)rows->vocab_size + 1, sizeof *rows->ordinary);
    if (rows->traits == NULL || rows->ordinary == NULL) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the rows' vocabulary");
    }
    for (int32_t id = 0; id < rows->vocab_size; id++) {
        const unsigned char *bytes = NULL;
        size_t count = 0;
        if (!seo_tokenizer_piece(tok, id, &bytes, &count) || seo_tokenizer_is_special(tok, id)) {
            rows->traits[id] = SEO_TOKEN_SPECIAL;
            continue;
        }
        if (ends_sentence(bytes, count)) rows->traits[id] = SEO_TOKEN_ENDS_SENTENCE;
        rows->ordinary[rows->ordinary_count++] = id;
    }
    if (rows->ordinary_count > 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE, "the tokenizer has no token but special ones: train another");
}

static seo_err learn_roles(seo_rows *rows) {
    seo_err err = SEO_OK;
    const seo_tokenizer *tok = rows->args.tokenizer;
    SEO_TRY(seo_tokenizer_require(tok, SEO_ROLE_MASK, &rows->mask));
    if (rows->args.objective == SEO_OBJECTIVE_MASKED) {
        SEO_TRY(seo_tokenizer_require(tok, SEO_ROLE_BOS, &rows->bos));
        SEO_TRY(seo_tokenizer_require(tok, SEO_ROLE_EOT, &rows->eot));
    } else {
        SEO_TRY(seo_tokenizer_require(tok, SEO_ROLE_CLS, &rows->cls));
        SEO_TRY(seo_tokenizer_require(tok, SEO_ROLE_SEP, &rows->sep));
        SEO_TRY(seo_tokenizer_require(tok, SEO_ROLE_PAD, &rows->pad));
    }
    SEO_TRY(learn_tokens(rows));
done:
    return err;
}

static seo_err open_objective(seo_rows *rows) {
    seo_err err = SEO_OK;
    const seo_rows_args *a = &rows->args;
    const int64_t seq_len = a->seq_len;
    switch (a->objective) {
    case SEO_OBJECTIVE_NEXT_TOKEN:
        rows->maker = seo_rows_next_token;
        rows->shape = (seo_row_shape){.ids = seq_len + 1};
        rows->step_tokens = seq_len;
        rows->read_tokens = seq_len + 1;
        break;
    case SEO_OBJECTIVE_MASKED:
        rows->maker = seo_rows_masked;
        rows->shape = (seo_row_shape){.ids = seq_len, .picks = a->max_predictions};
        rows->step_tokens = rows->read_tokens = seq_len - 2;
        SEO_TRY(learn_roles(rows));
        break;
    case SEO_OBJECTIVE_SENTENCE_PAIRS:
        rows->maker = seo_rows_pairs;
        rows->shape = (seo_row_shape){.ids = seq_len,
                                      .types = seq_len,
                                      .spans = 2 * seq_len,
                                      .picks = a->max_predictions,
                                      .label = 1};
        rows->step_tokens = rows->read_tokens = seq_len - 3;
        SEO_TRY(learn_roles(rows));
        break;
    case SEO_OBJECTIVE_EXAMPLES:
        rows->maker = seo_rows_examples;
        rows->shape = seo_examples_shape(a->examples);
        rows->source_count = 1;
        rows->counts[0] = seo_examples_info_get(a->examples).count;
        return SEO_OK;
    }
    if (a->document_mask) rows->shape.spans = 2 * seq_len;
    SEO_TRY(open_datasets(rows));
done:
    return err;
}

seo_err seo_rows_open(const seo_rows_args *args, seo_rows **out) {
    seo_err err = SEO_OK;
    seo_rows *rows = NULL;
    *out = NULL;
    SEO_TRY(check_args(args));
    rows = calloc(1, sizeof *rows);
    if (rows == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the rows");
    rows->args = *args;
    SEO_TRY(open_objective(rows));
    *out = rows;
    rows = NULL;
done:
    seo_rows_close(rows);
    return err;
}

void seo_rows_close(seo_rows *rows) {
    if (rows == NULL) return;
    free(rows->datasets);
    free(rows->traits);
    free(rows->ordinary);
    free(rows);
}

/* ---- asking ---- */

seo_row_shape seo_rows_shape(const seo_rows *rows) {
    return rows->shape;
}

int64_t seo_rows_sources(const seo_rows *rows) {
    return rows->source_count;
}

int64_t seo_rows_count(const seo_rows *rows, int64_t source) {
    SEO_ASSERT(source >= 0 && source < rows->source_count);
    return rows->counts[source];
}

static void check_place(const seo_rows *rows, seo_order_place place) {
    SEO_ASSERT(place.source >= 0 && place.source < rows->source_count && place.epoch >= 0 &&
               place.window >= 0 && place.window < rows->counts[place.source]);
}

seo_err seo_rows_targets(const seo_rows *rows, seo_order_place place, int64_t *out) {
    check_place(rows, place);
    return rows->maker.targets(rows, place, out);
}

seo_err seo_rows_make(const seo_rows *rows, seo_order_place place, const seo_row *row) {
    check_place(rows, place);
    return rows->maker.make(rows, place, row);
}

void seo_rows_prefetch(const seo_rows *rows, seo_order_place place) {
    check_place(rows, place);
    if (rows->datasets == NULL) return;
    seo_dataset_prefetch(rows->datasets[place.source], place.window * rows->step_tokens,
                         rows->read_tokens);
}

seo_row_range seo_rows_range(const seo_rows *rows, seo_order_place place) {
    check_place(rows, place);
    if (rows->datasets == NULL) {
        return (seo_row_range){.first = seo_examples_line(rows->args.examples, place.window),
                               .count = 1};
    }
    return (seo_row_range){.first = place.window * rows->step_tokens, .count = rows->read_tokens};
}
