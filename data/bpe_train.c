#include "data/bpe_train.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/progress.h"
#include "data/pair_count.h"
#include "data/training_text.h"
#include "data/vocabulary.h"

/* Longer pieces come from runs and repeated passages and help nobody; GPT-2's longest has 128. */
enum { PIECE_BYTES_MAX = 1024, LEAST_COUNT = 2 };

/* Ids before the first piece of a RoBERTa vocabulary. */
enum { ROBERTA_FIRST = 4 };

/* Places merged at a time, and how far ahead memory is asked for. */
enum { BATCH = 1024, FAR = 24, NEAR = 12 };

/* What stands at a byte that no symbol begins or ends at, and between words. */
enum { INSIDE = -2, GAP = -1 };

/* All distinct words lie end to end with gaps around them. A symbol is written at its first and
 * at its last byte, so that both neighbours of a place are found without a list: the one after it
 * at place + length, the one before it ends at place - 1. A stale place in a pair's list is seen by
 * what stands there: the byte where a symbol once began never again shows that symbol unless it is
 * still there, because a symbol that ends on that byte is longer. */
typedef struct trainer {
    int32_t *symbols;
    uint32_t *owners; /* of each byte: the index of its word */
    int64_t *counts;  /* of each word */
    int64_t byte_count;
    seo_pair_counts pairs;
    seo_buf pieces; /* the bytes of all symbols, end to end */
    int64_t *offsets;
    int32_t *lengths;
    uint64_t *merges; /* pair keys, in order */
    int64_t merge_count;
    uint64_t *fresh; /* pairs that came into being with the present merge */
    int64_t fresh_count, fresh_capacity;
} trainer;

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory to train a tokenizer on this text");
}

static void trainer_free(trainer *t) {
    free(t->symbols);
    free(t->owners);
    free(t->counts);
    seo_pair_counts_free(&t->pairs);
    seo_buf_free(&t->pieces);
    free(t->offsets);
    free(t->lengths);
    free(t->merges);
    free(t->fresh);
}

static seo_err trainer_take_words(trainer *t, const seo_word_table *words) {
    t->byte_count = words->byte_count + words->word_count + 1;
    if (t->byte_count >= (int64_t)UINT32_MAX) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "the different words of the text have %lld bytes, the limit is 4 GB: train "
                        "on a part of it",
                        (long long)words->byte_count);
    }
    t->symbols = malloc((size_t)t->byte_count * sizeof *t->symbols);
    t->owners = malloc((size_t)t->byte_count * sizeof *t->owners);
    t->counts = malloc((size_t)(words->word_count + 1) * sizeof *t->counts);
    if (t->symbols == NULL || t->owners == NULL || t->counts == NULL) return no_memory();
    int64_t at = 0;
    uint32_t index = 0;
    t->symbols[at++] = GAP;
    for (int64_t slot = 0; slot < words->slot_count; slot++) {
        const seo_word *word = &words->slots[slot];
        if (word->count == 0) continue;
        t->counts[index] = word->count;
        for (int64_t i = 0; i < word->bytes; i++, at++) {
            t->symbols[at] = words->bytes[word->offset + i];
            t->owners[at] = index;
        }
        t->symbols[at++] = GAP;
        index++;
    }
    SEO_ASSERT(at == t->byte_count);
    return SEO_OK;
}

static seo_err trainer_add_piece(trainer *t, int64_t id, const void *bytes, size_t count) {
    t->offsets[id] = (int64_t)t->pieces.bytes;
    t->lengths[id] = (int32_t)count;
    seo_buf_add(&t->pieces, bytes, count);
    return seo_buf_check(&t->pieces);
}

static seo_err trainer_start(trainer *t, const seo_word_table *words, int64_t merges_max) {
    size_t symbol_count = (size_t)(256 + merges_max);
    t->offsets = calloc(symbol_count, sizeof *t->offsets);
    t->lengths = calloc(symbol_count, sizeof *t->lengths);
    t->merges = malloc((size_t)(merges_max + 1) * sizeof *t->merges);
    if (t->offsets == NULL || t->lengths == NULL || t->merges == NULL) return no_memory();
    for (int byte = 0; byte < 256; byte++) {
        unsigned char one = (unsigned char)byte;
        seo_err err = trainer_add_piece(t, byte, &one, 1);
        if (err != SEO_OK) return err;
    }
    return trainer_take_words(t, words);
}

static seo_err add_pair(trainer *t, int32_t left, int32_t right, int64_t count, int64_t place) {
    bool is_new = false;
    uint64_t key = seo_pair_key(left, right);
    seo_err err = seo_pair_add(&t->pairs, key, count, (uint32_t)place, &is_new);
    if (err != SEO_OK || !is_new) return err;
    if (t->fresh_count == t->fresh_capacity) {
        int64_t larger = 2 * t->fresh_capacity + 1024;
        uint64_t *moved = realloc(t->fresh, (size_t)larger * sizeof *moved);
        if (moved == NULL) return no_memory();
        t->fresh = moved;
        t->fresh_capacity = larger;
    }
    t->fresh[t->fresh_count++] = key;
    return SEO_OK;
}

/* The pairs that came into being have their counts now and become candidates. */
static seo_err push_fresh(trainer *t) {
    for (int64_t i = 0; i < t->fresh_count; i++) {
        seo_err err = seo_pair_push(&t->pairs, t->fresh[i]);
        if (err != SEO_OK) return err;
    }
    t->fresh_count = 0;
    return SEO_OK;
}

static seo_err count_first_pairs(trainer *t) {
    for (int64_t at = 1; at + 1 < t->byte_count; at++) {
        if (t->symbols[at] == GAP || t->symbols[at + 1] == GAP) continue;
        seo_err err = add_pair(t, t->symbols[at], t->symbols[at + 1], t->counts[t->owners[at]], at);
        if (err != SEO_OK) return err;
    }
    return push_fresh(t);
}

/* Makes one symbol `id` of `left` at `place` and `right` behind it. */
static seo_err merge_place(trainer *t, uint64_t key, int32_t id, int64_t place) {
    int32_t left = (int32_t)(key >> 32), right = (int32_t)(uint32_t)key;
    int64_t middle = place + t->lengths[left], end = middle + t->lengths[right];
    int32_t before = t->symbols[place - 1], after = t->symbols[end];
    int64_t count = t->counts[t->owners[place]];
    t->symbols[middle - 1] = INSIDE;
    t->symbols[middle] = INSIDE;
    t->symbols[place] = id;
    t->symbols[end - 1] = id;
    if (before != GAP) {
        seo_pair_find(&t->pairs, seo_pair_key(before, left))->count -= count;
        seo_err err = add_pair(t, before, id, count, place - t->lengths[before]);
        if (err != SEO_OK) return err;
    }
    if (after != GAP) {
        seo_pair_find(&t->pairs, seo_pair_key(right, after))->count -= count;
        seo_err err = add_pair(t, id, after, count, place);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* Almost every access of a merge misses the caches: fetches what place i + NEAR will look up, and
 * before that what stands around place i + FAR. Stale places fetch something useless. */
static inline void look_ahead(const trainer *t, uint64_t key, int32_t id, const uint32_t *places,
                              int64_t left_over) {
    if (left_over > FAR) {
        __builtin_prefetch(&t->symbols[places[FAR] - 1]);
        __builtin_prefetch(&t->owners[places[FAR]]);
    }
    if (left_over <= NEAR) return;
    int32_t left = (int32_t)(key >> 32), right = (int32_t)(uint32_t)key;
    int64_t place = places[NEAR], end = place + t->lengths[left] + t->lengths[right];
    int32_t before = t->symbols[place - 1], after = end < t->byte_count ? t->symbols[end] : GAP;
    if (before >= 0) {
        seo_pair_prefetch(&t->pairs, seo_pair_key(before, left));
        seo_pair_prefetch(&t->pairs, seo_pair_key(before, id));
    }
    if (after >= 0) {
        seo_pair_prefetch(&t->pairs, seo_pair_key(right, after));
        seo_pair_prefetch(&t->pairs, seo_pair_key(id, after));
    }
}

static seo_err merge_places(trainer *t, uint64_t key, int32_t id, const uint32_t *places,
                            int64_t count) {
    int32_t left = (int32_t)(key >> 32), right = (int32_t)(uint32_t)key;
    for (int64_t i = 0; i < count; i++) {
        int64_t place = places[i];
        look_ahead(t, key, id, places + i, count - i);
        if (t->symbols[place] != left || t->symbols[place + t->lengths[left]] != right) continue;
        seo_err err = merge_place(t, key, id, place);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* A pair's places come in rising order within each word, which is what makes a merge go from left
 * to right: the first list is made in that order, and every merge passes it on. */
static seo_err merge_pair(trainer *t, uint64_t key, int32_t id) {
    seo_pair *pair = seo_pair_find(&t->pairs, key);
    uint32_t chunk = pair->first, places[BATCH];
    pair->first = SEO_NO_CHUNK;
    while (chunk != SEO_NO_CHUNK) {
        int64_t count = seo_pair_take_places(&t->pairs, &chunk, places, BATCH);
        seo_err err = merge_places(t, key, id, places, count);
        if (err != SEO_OK) return err;
    }
    /* None is left; in a run of one symbol the neighbours' updates went to this pair itself. */
    seo_pair_find(&t->pairs, key)->count = 0;
    return push_fresh(t);
}

static seo_err new_piece(trainer *t, uint64_t key, int32_t id) {
    int32_t parts[2] = {(int32_t)(key >> 32), (int32_t)(uint32_t)key};
    char bytes[PIECE_BYTES_MAX];
    size_t count = 0;
    for (int i = 0; i < 2; i++) {
        memcpy(bytes + count, t->pieces.data + t->offsets[parts[i]], (size_t)t->lengths[parts[i]]);
        count += (size_t)t->lengths[parts[i]];
    }
    return trainer_add_piece(t, id, bytes, count);
}

static seo_err learn(trainer *t, int64_t merges_max) {
    seo_err err = SEO_OK;
    seo_progress progress;
    seo_progress_start(&progress, "learning merges", "merges", merges_max);
    uint64_t key = 0;
    while (t->merge_count < merges_max && seo_pair_pop(&t->pairs, LEAST_COUNT, &key)) {
        int32_t id = (int32_t)(256 + t->merge_count);
        if (t->lengths[key >> 32] + t->lengths[(uint32_t)key] > PIECE_BYTES_MAX) continue;
        SEO_TRY(new_piece(t, key, id));
        SEO_TRY(merge_pair(t, key, id));
        t->merges[t->merge_count++] = key;
        seo_progress_update(&progress, t->merge_count);
    }
done:
    seo_progress_end(&progress);
    return err;
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

static seo_err build(const trainer *t, seo_special_set special, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    seo_vocab_builder builder = {0};
    int64_t piece_count = 256 + t->merge_count, first = 0;
    SEO_TRY(add_special_set(&builder, special, piece_count, &first));
    for (int64_t i = 0; i < piece_count; i++) {
        SEO_TRY(seo_vocab_builder_piece(&builder, first + i, t->pieces.data + t->offsets[i],
                                        (size_t)t->lengths[i]));
    }
    SEO_TRY(seo_vocab_builder_index(&builder));
    for (int64_t i = 0; i < t->merge_count; i++) {
        int64_t left = (int64_t)(t->merges[i] >> 32), right = (int64_t)(uint32_t)t->merges[i];
        SEO_TRY(seo_vocab_builder_merge(
            &builder, t->pieces.data + t->offsets[left], (size_t)t->lengths[left],
            t->pieces.data + t->offsets[right], (size_t)t->lengths[right]));
    }
    SEO_TRY(seo_vocab_builder_finish(&builder, out));
done:
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
    trainer t = {0};
    /* Each merge shortens some word. */
    int64_t merges_max = seo_min_i64(vocab_size - least, words->byte_count);
    SEO_TRY(trainer_start(&t, words, merges_max));
    SEO_TRY(count_first_pairs(&t));
    SEO_TRY(learn(&t, merges_max));
    SEO_TRY(build(&t, special, out));
done:
    trainer_free(&t);
    return err;
}

seo_err seo_bpe_train(const seo_bpe_train_options *options, seo_bpe_train_report *report,
                      seo_tokenizer **out) {
    seo_err err = SEO_OK;
    seo_word_table words = {0};
    *report = (seo_bpe_train_report){0};
    int64_t least = seo_special_vocab_min(options->special);
    if (options->vocab_size > least) {
        SEO_TRY(seo_training_text_count(options, report, &words));
    } else {
        SEO_TRY(seo_training_text_look(options));
    }
    report->distinct_words = words.word_count;
    SEO_TRY(seo_bpe_train_words(&words, options->vocab_size, options->special, out));
    report->merges = seo_tokenizer_vocab_size(*out) - least;
done:
    seo_word_table_free(&words);
    return err;
}
