#include "data/wordpiece_train.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/basic_text.h"
#include "data/merge_learn.h"
#include "data/training_text.h"
#include "data/vocabulary.h"

enum { CODE_POINTS = 0x110000 };

static const char *const special_tokens[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
enum { SPECIAL_COUNT = SEO_COUNT_OF(special_tokens) };

/* A character and how often it occurs. */
typedef struct letter {
    int64_t count;
    int32_t cp;
} letter;

/* What is being learned: symbols are letters at the beginning of words, then those inside. */
typedef struct trainer {
    const seo_wordpiece_train_options *options;
    int64_t *counts;     /* of each code point */
    int32_t *begin;      /* of each code point: its symbol at the beginning of a word, or -1 */
    int32_t *inside;     /* the same inside of one */
    letter *letters;     /* by code point, once they are chosen */
    int32_t *symbol_cps; /* of each first symbol */
    int64_t letter_count, symbol_count;
    seo_merge_words words;
    seo_merge_list merges;
} trainer;

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory to train a tokenizer on this text");
}

static void trainer_free(trainer *t) {
    free(t->counts);
    free(t->begin);
    free(t->inside);
    free(t->letters);
    free(t->symbol_cps);
    seo_merge_words_free(&t->words);
    seo_merge_list_free(&t->merges);
}

static seo_err trainer_start(trainer *t) {
    t->counts = calloc(CODE_POINTS, sizeof *t->counts);
    t->begin = malloc(CODE_POINTS * sizeof *t->begin);
    t->inside = malloc(CODE_POINTS * sizeof *t->inside);
    if (t->counts == NULL || t->begin == NULL || t->inside == NULL) return no_memory();
    memset(t->begin, 0xFF, CODE_POINTS * sizeof *t->begin);
    memset(t->inside, 0xFF, CODE_POINTS * sizeof *t->inside);
    return SEO_OK;
}

/* ---- letters ---- */

static int by_count(const void *a, const void *b) {
    const letter *one = a, *other = b;
    if (one->count != other->count) return one->count > other->count ? -1 : 1;
    return one->cp - other->cp;
}

static int by_code_point(const void *a, const void *b) {
    return ((const letter *)a)->cp - ((const letter *)b)->cp;
}

/* Reads the next code point of a word; words are valid UTF-8. */
static int32_t next_character(const unsigned char **p, const unsigned char *end) {
    int32_t cp;
    *p += seo_utf8_decode(*p, end, &cp);
    SEO_ASSERT(cp >= 0);
    return cp;
}

static void count_characters(trainer *t, const seo_word_table *words) {
    for (int64_t slot = 0; slot < words->slot_count; slot++) {
        const seo_word *word = &words->slots[slot];
        const unsigned char *p = words->bytes + word->offset, *end = p + word->bytes;
        while (word->count > 0 && p < end) t->counts[next_character(&p, end)] += word->count;
    }
}

/* The most frequent characters; begin[] of each is its symbol from here on. */
static seo_err choose_letters(trainer *t) {
    int64_t count = 0;
    for (int32_t cp = 0; cp < CODE_POINTS; cp++) count += t->counts[cp] > 0;
    t->letters = malloc((size_t)(count + 1) * sizeof *t->letters);
    if (t->letters == NULL) return no_memory();
    for (int32_t cp = 0; cp < CODE_POINTS; cp++) {
        if (t->counts[cp] > 0) t->letters[t->letter_count++] = (letter){t->counts[cp], cp};
    }
    qsort(t->letters, (size_t)count, sizeof *t->letters, by_count);
    t->letter_count = seo_min_i64(count, t->options->alphabet_max);
    qsort(t->letters, (size_t)t->letter_count, sizeof *t->letters, by_code_point);
    for (int64_t i = 0; i < t->letter_count; i++) t->begin[t->letters[i].cp] = (int32_t)i;
    return SEO_OK;
}

/* The number of characters of a word, 0 when one of them is no letter. */
static int64_t word_length(const trainer *t, const seo_word_table *words, const seo_word *word) {
    const unsigned char *p = words->bytes + word->offset, *end = p + word->bytes;
    int64_t length = 0;
    for (; p < end; length++) {
        if (t->begin[next_character(&p, end)] < 0) return 0;
    }
    return length;
}

/* Marks in inside[] what occurs inside of words that are kept, sums what these words hold, and
 * gives the marked letters their symbols. */
static seo_err number_symbols(trainer *t, const seo_word_table *words,
                              seo_wordpiece_train_report *report, int64_t *characters) {
    for (int64_t slot = 0; slot < words->slot_count; slot++) {
        const seo_word *word = &words->slots[slot];
        if (word->count == 0) continue;
        int64_t length = word_length(t, words, word);
        *characters += length;
        if (length == 0) report->left_out += word->count;
        if (length == 0) continue;
        const unsigned char *p = words->bytes + word->offset, *end = p + word->bytes;
        for (next_character(&p, end); p < end;) t->inside[next_character(&p, end)] = 0;
    }
    t->symbol_cps = malloc((size_t)(2 * t->letter_count + 1) * sizeof *t->symbol_cps);
    if (t->symbol_cps == NULL) return no_memory();
    for (int64_t i = 0; i < t->letter_count; i++) t->symbol_cps[i] = t->letters[i].cp;
    t->symbol_count = t->letter_count;
    for (int64_t i = 0; i < t->letter_count; i++) {
        int32_t cp = t->letters[i].cp;
        if (t->inside[cp] < 0) continue;
        t->inside[cp] = (int32_t)t->symbol_count;
        t->symbol_cps[t->symbol_count++] = cp;
    }
    report->letters = t->symbol_count;
    return SEO_OK;
}

static seo_err take_words(trainer *t, const seo_word_table *words, int64_t characters) {
    seo_err err = seo_merge_words_init(&t->words, words->word_count, characters);
    if (err != SEO_OK) return err;
    t->words.symbol_count = t->symbol_count;
    for (int64_t slot = 0; slot < words->slot_count; slot++) {
        const seo_word *word = &words->slots[slot];
        if (word->count == 0 || word_length(t, words, word) == 0) continue;
        const unsigned char *p = words->bytes + word->offset, *end = p + word->bytes;
        seo_merge_words_add(&t->words, t->begin[next_character(&p, end)]);
        while (p < end) seo_merge_words_add(&t->words, t->inside[next_character(&p, end)]);
        seo_merge_words_end(&t->words, word->count);
    }
    return SEO_OK;
}

/* ---- the vocabulary ---- */

/* Appends the text of a symbol as the vocabulary spells it. Merges are made of earlier symbols, so
 * that pieces can be spelled one after the other: offsets[i] is where symbol i begins in `out`. */
static void spell(const trainer *t, int64_t symbol, const int64_t *offsets, seo_buf *out) {
    const size_t prefix = strlen(SEO_WORDPIECE_PREFIX);
    if (symbol < t->symbol_count) {
        unsigned char utf8[4];
        if (symbol >= t->letter_count) seo_buf_text(out, SEO_WORDPIECE_PREFIX);
        seo_buf_add(out, utf8, (size_t)seo_utf8_encode(t->symbol_cps[symbol], utf8));
        return;
    }
    uint64_t key = t->merges.keys[symbol - t->symbol_count];
    int64_t left = (int64_t)(key >> 32), right = (int64_t)(uint32_t)key;
    size_t right_begin = (size_t)offsets[right] + prefix;
    seo_buf text = {0};
    seo_buf_add(&text, out->data + offsets[left], (size_t)(offsets[left + 1] - offsets[left]));
    seo_buf_add(&text, out->data + right_begin, (size_t)offsets[right + 1] - right_begin);
    seo_buf_add(out, text.data, text.bytes);
    out->failed = out->failed || text.failed;
    seo_buf_free(&text);
}

static seo_err add_pieces(const trainer *t, seo_vocab_builder *builder) {
    int64_t count = t->symbol_count + t->merges.count;
    int64_t *offsets = malloc((size_t)(count + 1) * sizeof *offsets);
    if (offsets == NULL) return no_memory();
    seo_buf text = {0};
    seo_err err = SEO_OK;
    offsets[0] = 0;
    for (int64_t i = 0; i < count && err == SEO_OK; i++) {
        spell(t, i, offsets, &text);
        offsets[i + 1] = (int64_t)text.bytes;
        err = seo_buf_check(&text);
        if (err == SEO_OK)
            err = seo_vocab_builder_piece(builder, SPECIAL_COUNT + i, text.data + offsets[i],
                                          (size_t)(offsets[i + 1] - offsets[i]));
    }
    free(offsets);
    seo_buf_free(&text);
    return err;
}

static seo_err build(const trainer *t, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    bool cased = t->options->cased;
    seo_vocab_builder builder = {.kind = SEO_TOKENIZER_WORDPIECE,
                                 .rules = {.lower_case = !cased,
                                           .strip_accents = !cased,
                                           .chinese = true,
                                           .characters_max = SEO_WORDPIECE_CHARACTERS_MAX}};
    for (int i = 0; i < SPECIAL_COUNT; i++) {
        SEO_TRY(
            seo_vocab_builder_special(&builder, i, special_tokens[i], strlen(special_tokens[i])));
    }
    SEO_TRY(add_pieces(t, &builder));
    SEO_TRY(seo_vocab_builder_index(&builder));
    SEO_TRY(seo_vocab_builder_finish(&builder, out));
done:
    seo_vocab_builder_free(&builder);
    return err;
}

static seo_err check_size(const trainer *t) {
    int64_t size = t->options->vocab_size, least = SPECIAL_COUNT + t->symbol_count;
    if (size >= least && size <= INT32_MAX) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "a vocabulary of %lld: %d special tokens and %lld letters (%lld of them inside "
                    "of words) need %lld ids before the first merge: give a larger --vocab-size or "
                    "a smaller --alphabet",
                    (long long)size, SPECIAL_COUNT, (long long)t->symbol_count,
                    (long long)(t->symbol_count - t->letter_count), (long long)least);
}

seo_err seo_wordpiece_train_words(const seo_word_table *words,
                                  const seo_wordpiece_train_options *options,
                                  seo_wordpiece_train_report *report, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    trainer t = {.options = options};
    int64_t characters = 0;
    SEO_TRY(trainer_start(&t));
    count_characters(&t, words);
    SEO_TRY(choose_letters(&t));
    SEO_TRY(number_symbols(&t, words, report, &characters));
    SEO_TRY(check_size(&t));
    SEO_TRY(take_words(&t, words, characters));
    /* Each merge shortens some word. */
    int64_t room = options->vocab_size - SPECIAL_COUNT - t.symbol_count;
    const seo_merge_limits limits = {.merges = seo_min_i64(room, characters),
                                     .length = SEO_WORDPIECE_CHARACTERS_MAX};
    SEO_TRY(seo_merge_learn(&t.words, &limits, &t.merges));
    SEO_TRY(build(&t, out));
    report->merges = t.merges.count;
    report->distinct_words = words->word_count;
done:
    trainer_free(&t);
    return err;
}

/* ---- from texts ---- */

static const unsigned char *part_end(const unsigned char *p, const unsigned char *end) {
    return seo_basic_end(p, end, true);
}

/* The words of each part, as often as the part occurs. */
static seo_err add_part(const seo_basic_rules *rules, const unsigned char *part, size_t bytes,
                        int64_t count, seo_basic_words *split, seo_word_table *words,
                        int64_t *left_out) {
    seo_err err = seo_basic_split(rules, part, bytes, split);
    for (int64_t i = 0; i < split->count && err == SEO_OK; i++) {
        const seo_basic_word *word = &split->items[i];
        if (word->characters > SEO_WORDPIECE_CHARACTERS_MAX) {
            *left_out += count;
            continue;
        }
        err = seo_word_table_add(words, split->text + word->begin,
                                 (size_t)(word->end - word->begin), count);
    }
    return err;
}

seo_err seo_wordpiece_train(const seo_wordpiece_train_options *options,
                            seo_wordpiece_train_report *report, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    seo_word_table parts = {0}, words = {0};
    seo_basic_words split = {0};
    seo_text_counters counters = {0};
    const seo_basic_rules rules = {!options->cased, !options->cased, true};
    const seo_training_source source = {.paths = options->paths,
                                        .path_count = options->path_count,
                                        .field = options->field,
                                        .threads = options->threads,
                                        .word_end = part_end};
    *report = (seo_wordpiece_train_report){0};
    SEO_TRY(seo_training_text_count(&source, &counters, &parts));
    report->text_bytes = counters.text_bytes;
    report->documents = counters.documents;
    for (int64_t slot = 0; slot < parts.slot_count; slot++) {
        const seo_word *part = &parts.slots[slot];
        if (part->count == 0) continue;
        SEO_TRY(add_part(&rules, parts.bytes + part->offset, (size_t)part->bytes, part->count,
                         &split, &words, &report->left_out));
    }
    SEO_TRY(seo_wordpiece_train_words(&words, options, report, out));
done:
    seo_basic_words_free(&split);
    seo_word_table_free(&parts);
    seo_word_table_free(&words);
    return err;
}
