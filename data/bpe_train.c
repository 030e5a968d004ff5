#include "data/bpe_train.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/merge_learn.h"
#include "data/pretoken.h"
#include "data/training_text.h"
#include "data/vocabulary.h"

/* Longer pieces come from runs and repeated passages and help nobody; GPT-2's longest has 128. */
enum { PIECE_BYTES_MAX = 1024 };

/* Ids before the first piece of a RoBERTa vocabulary. */
enum { ROBERTA_FIRST = 4 };

/* The bytes of symbols: of the 256 bytes, then of what merges make. */
typedef struct symbol_bytes {
    seo_buf bytes; /* of all, end to end */
    int64_t *offsets;
    int32_t *lengths;
} symbol_bytes;

static void symbol_bytes_free(symbol_bytes *s) {
    seo_buf_free(&s->bytes);
    free(s->offsets);
    free(s->lengths);
}

static void add_symbol(symbol_bytes *s, int64_t id, const void *bytes, size_t count) {
    s->offsets[id] = (int64_t)s->bytes.bytes;
    s->lengths[id] = (int32_t)count;
    seo_buf_add(&s->bytes, bytes, count);
}

static seo_err spell_symbols(symbol_bytes *s, const seo_merge_list *merges) {
    size_t count = (size_t)(256 + merges->count);
    s->offsets = calloc(count, sizeof *s->offsets);
    s->lengths = calloc(count, sizeof *s->lengths);
    if (s->offsets == NULL || s->lengths == NULL) {
        return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the pieces of the tokenizer");
    }
    for (int byte = 0; byte < 256; byte++) {
        unsigned char one = (unsigned char)byte;
        add_symbol(s, byte, &one, 1);
    }
    for (int64_t i = 0; i < merges->count; i++) {
        const int32_t parts[2] = {(int32_t)(merges->keys[i] >> 32),
                                  (int32_t)(uint32_t)merges->keys[i]};
        char bytes[PIECE_BYTES_MAX];
        size_t length = 0;
        if (s->bytes.failed) break;
        for (int part = 0; part < 2; part++) {
            memcpy(bytes + length, s->bytes.data + s->offsets[parts[part]],
                   (size_t)s->lengths[parts[part]]);
            length += (size_t)s->lengths[parts[part]];
        }
        add_symbol(s, 256 + i, bytes, length);
    }
    return seo_buf_check(&s->bytes);
}

static seo_err take_words(seo_merge_words *out, const seo_word_table *words) {
    seo_err err = seo_merge_words_init(out, words->word_count, words->byte_count);
    if (err != SEO_OK) return err;
    out->symbol_count = 256;
    for (int64_t slot = 0; slot < words->slot_count; slot++) {
        const seo_word *word = &words->slots[slot];
        if (word->count == 0) continue;
        for (int64_t i = 0; i < word->bytes; i++) {
            seo_merge_words_add(out, words->bytes[word->offset + i]);
        }
        seo_merge_words_end(out, word->count);
    }
    return SEO_OK;
}

int64_t seo_special_vocab_min(seo_special_set set) {
    return 256 + (set == SEO_SPECIAL_ROBERTA ? ROBERTA_FIRST + 1 : 1);
}

static seo_err add_special(seo_vocab_builder *builder, int64_t id, const char *text) {
    return seo_vocab_builder_special(builder, id, text, strlen(text));
}

/* The special tokens around `piece_count` pieces; *first is the id of the first piece. */
static seo_err add_special_set(seo_vocab_builder *builder, seo_special_set set, int64_t piece_count,
                               int64_t *first) {
    static const char *const roberta[ROBERTA_FIRST] = {"<s>", "<pad>", "</s>", "<unk>"};
    *first = 0;
    if (set == SEO_SPECIAL_GPT2) return add_special(builder, piece_count, SEO_EOT_TEXT);
    for (; *first < ROBERTA_FIRST; ++*first) {
        seo_err err = add_special(builder, *first, roberta[*first]);
        if (err != SEO_OK) return err;
    }
    seo_err err = add_special(builder, *first + piece_count, "<mask>");
    if (err == SEO_OK) seo_vocab_builder_strip_left(builder);
    return err;
}

static seo_err build(const seo_merge_list *merges, seo_special_set special, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    seo_vocab_builder builder = {0};
    symbol_bytes s = {0};
    int64_t piece_count = 256 + merges->count, first = 0;
    SEO_TRY(spell_symbols(&s, merges));
    SEO_TRY(add_special_set(&builder, special, piece_count, &first));
    for (int64_t i = 0; i < piece_count; i++) {
        SEO_TRY(seo_vocab_builder_piece(&builder, first + i, s.bytes.data + s.offsets[i],
                                        (size_t)s.lengths[i]));
    }
    SEO_TRY(seo_vocab_builder_index(&builder));
    for (int64_t i = 0; i < merges->count; i++) {
        int64_t left = (int64_t)(merges->keys[i] >> 32), right = (int64_t)(uint32_t)merges->keys[i];
        SEO_TRY(seo_vocab_builder_merge(&builder, s.bytes.data + s.offsets[left],
                                        (size_t)s.lengths[left], s.bytes.data + s.offsets[right],
                                        (size_t)s.lengths[right]));
    }
    SEO_TRY(seo_vocab_builder_finish(&builder, out));
done:
    symbol_bytes_free(&s);
    seo_vocab_builder_free(&builder);
    return err;
}

seo_err seo_bpe_train_words(const seo_word_table *words, int64_t vocab_size,
                            seo_special_set special, seo_tokenizer **out) {
    int64_t least = seo_special_vocab_min(special);
    if (vocab_size < least || vocab_size > INT32_MAX) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "a vocabulary of %lld: it needs at least %lld (256 bytes and the special "
                        "tokens) and at most %d",
                        (long long)vocab_size, (long long)least, INT32_MAX);
    }
    seo_err err = SEO_OK;
    seo_merge_words symbols = {0};
    seo_merge_list merges = {0};
    /* Each merge shortens some word. */
    const seo_merge_limits limits = {.merges = seo_min_i64(vocab_size - least, words->byte_count),
                                     .length = PIECE_BYTES_MAX};
    SEO_TRY(take_words(&symbols, words));
    SEO_TRY(seo_merge_learn(&symbols, &limits, &merges));
    SEO_TRY(build(&merges, special, out));
done:
    seo_merge_words_free(&symbols);
    seo_merge_list_free(&merges);
    return err;
}

seo_err seo_bpe_train(const seo_bpe_train_options *options, seo_bpe_train_report *report,
                      seo_tokenizer **out) {
    seo_err err = SEO_OK;
    seo_word_table words = {0};
    seo_text_counters counters = {0};
    const seo_training_source source = {.paths = options->paths,
                                        .path_count = options->path_count,
                                        .field = options->field,
                                        .threads = options->threads,
                                        .word_end = seo_pretoken_end};
    *report = (seo_bpe_train_report){0};
    int64_t least = seo_special_vocab_min(options->special);
    if (options->vocab_size > least) {
        SEO_TRY(seo_training_text_count(&source, &counters, &words));
    } else {
        SEO_TRY(seo_training_text_look(&source));
    }
    report->text_bytes = counters.text_bytes;
    report->documents = counters.documents;
    report->distinct_words = words.word_count;
    SEO_TRY(seo_bpe_train_words(&words, options->vocab_size, options->special, out));
    report->merges = seo_tokenizer_vocab_size(*out) - least;
done:
    seo_word_table_free(&words);
    return err;
}
