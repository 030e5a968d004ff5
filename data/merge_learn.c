#include "data/merge_learn.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/progress.h"
#include "data/pair_count.h"

/* A pair is merged only if it occurs as often. */
enum { LEAST_COUNT = 2 };

/* Places merged at a time, and how far ahead memory is asked for. */
enum { BATCH = 1024, FAR = 24, NEAR = 12 };

/* What stands where no symbol begins or ends. */
enum { INSIDE = -2 };

/* A symbol is written at its first and at its last place, so that both neighbours of a place are
 * found without a list: the one after it at place + length, the one before it ends at place - 1. A
 * stale place in a pair's list is seen by what stands there: the place where a symbol once began
 * never again shows that symbol unless it is still there, because a symbol that ends on that place
 * is longer. */
typedef struct learner {
    const seo_merge_words *in;
    seo_pair_counts pairs;
    int32_t *lengths; /* of each symbol, in places */
    uint64_t *fresh;  /* pairs that came into being with the present merge */
    int64_t fresh_count, fresh_capacity;
} learner;

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory to train a tokenizer on this text");
}

static seo_err add_pair(learner *t, int32_t left, int32_t right, int64_t count, int64_t place) {
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
static seo_err push_fresh(learner *t) {
    for (int64_t i = 0; i < t->fresh_count; i++) {
        seo_err err = seo_pair_push(&t->pairs, t->fresh[i]);
        if (err != SEO_OK) return err;
    }
    t->fresh_count = 0;
    return SEO_OK;
}

static seo_err count_first_pairs(learner *t) {
    for (int64_t at = 1; at + 1 < t->in->place_count; at++) {
        if (t->in->symbols[at] == SEO_MERGE_GAP || t->in->symbols[at + 1] == SEO_MERGE_GAP)
            continue;
        seo_err err = add_pair(t, t->in->symbols[at], t->in->symbols[at + 1],
                               t->in->counts[t->in->owners[at]], at);
        if (err != SEO_OK) return err;
    }
    return push_fresh(t);
}

/* Makes one symbol `id` of `left` at `place` and `right` behind it. */
static seo_err merge_place(learner *t, uint64_t key, int32_t id, int64_t place) {
    int32_t left = (int32_t)(key >> 32), right = (int32_t)(uint32_t)key;
    int64_t middle = place + t->lengths[left], end = middle + t->lengths[right];
    int32_t before = t->in->symbols[place - 1], after = t->in->symbols[end];
    int64_t count = t->in->counts[t->in->owners[place]];
    t->in->symbols[middle - 1] = INSIDE;
    t->in->symbols[middle] = INSIDE;
    t->in->symbols[place] = id;
    t->in->symbols[end - 1] = id;
    if (before != SEO_MERGE_GAP) {
        seo_pair_find(&t->pairs, seo_pair_key(before, left))->count -= count;
        seo_err err = add_pair(t, before, id, count, place - t->lengths[before]);
        if (err != SEO_OK) return err;
    }
    if (after != SEO_MERGE_GAP) {
        seo_pair_find(&t->pairs, seo_pair_key(right, after))->count -= count;
        seo_err err = add_pair(t, id, after, count, place);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* Almost every access of a merge misses the caches: fetches what place i + NEAR will look up, and
 * before that what stands around place i + FAR. Stale places fetch something useless. */
static inline void look_ahead(const learner *t, uint64_t key, int32_t id, const uint32_t *places,
                              int64_t left_over) {
    if (left_over > FAR) {
        __builtin_prefetch(&t->in->symbols[places[FAR] - 1]);
        __builtin_prefetch(&t->in->owners[places[FAR]]);
    }
    if (left_over <= NEAR) return;
    int32_t left = (int32_t)(key >> 32), right = (int32_t)(uint32_t)key;
    int64_t place = places[NEAR], end = place + t->lengths[left] + t->lengths[right];
    int32_t before = t->in->symbols[place - 1],
            after = end < t->in->place_count ? t->in->symbols[end] : SEO_MERGE_GAP;
    if (before >= 0) {
        seo_pair_prefetch(&t->pairs, seo_pair_key(before, left));
        seo_pair_prefetch(&t->pairs, seo_pair_key(before, id));
    }
    if (after >= 0) {
        seo_pair_prefetch(&t->pairs, seo_pair_key(right, after));
        seo_pair_prefetch(&t->pairs, seo_pair_key(id, after));
    }
}

static seo_err merge_places(learner *t, uint64_t key, int32_t id, const uint32_t *places,
                            int64_t count) {
    int32_t left = (int32_t)(key >> 32), right = (int32_t)(uint32_t)key;
    for (int64_t i = 0; i < count; i++) {
        int64_t place = places[i];
        look_ahead(t, key, id, places + i, count - i);
        if (t->in->symbols[place] != left || t->in->symbols[place + t->lengths[left]] != right)
            continue;
        seo_err err = merge_place(t, key, id, place);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* A pair's places come in rising order within each word, which is what makes a merge go from left
 * to right: the first list is made in that order, and every merge passes it on. */
static seo_err merge_pair(learner *t, uint64_t key, int32_t id) {
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

static seo_err learn(learner *t, const seo_merge_limits *limits, seo_merge_list *out) {
    seo_err err = SEO_OK;
    seo_progress progress;
    seo_progress_start(&progress, "learning merges", "merges", limits->merges);
    uint64_t key = 0;
    while (out->count < limits->merges && seo_pair_pop(&t->pairs, LEAST_COUNT, &key)) {
        int32_t id = (int32_t)(t->in->symbol_count + out->count);
        int32_t length = t->lengths[key >> 32] + t->lengths[(uint32_t)key];
        if (length > limits->length) continue;
        t->lengths[id] = length;
        SEO_TRY(merge_pair(t, key, id));
        out->keys[out->count++] = key;
        seo_progress_update(&progress, out->count);
    }
done:
    seo_progress_end(&progress);
    return err;
}

seo_err seo_merge_learn(const seo_merge_words *words, const seo_merge_limits *limits,
                        seo_merge_list *out) {
    seo_err err = SEO_OK;
    learner t = {.in = words};
    size_t symbol_count = (size_t)(words->symbol_count + limits->merges);
    t.lengths = malloc((symbol_count + 1) * sizeof *t.lengths);
    out->keys = malloc((size_t)(limits->merges + 1) * sizeof *out->keys);
    if (t.lengths == NULL || out->keys == NULL) SEO_TRY(no_memory());
    for (int64_t i = 0; i < words->symbol_count; i++) t.lengths[i] = 1;
    SEO_TRY(count_first_pairs(&t));
    SEO_TRY(learn(&t, limits, out));
done:
    free(t.lengths);
    free(t.fresh);
    seo_pair_counts_free(&t.pairs);
    return err;
}

seo_err seo_merge_words_init(seo_merge_words *words, int64_t word_count, int64_t character_count) {
    int64_t places = character_count + word_count + 1;
    if (places >= (int64_t)UINT32_MAX) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "the different words of the text have %lld characters, the limit is 4 G: "
                        "train on a part of it",
                        (long long)character_count);
    }
    words->symbols = malloc((size_t)places * sizeof *words->symbols);
    words->owners = malloc((size_t)places * sizeof *words->owners);
    words->counts = malloc((size_t)(word_count + 1) * sizeof *words->counts);
    if (words->symbols == NULL || words->owners == NULL || words->counts == NULL)
        return no_memory();
    words->place_count = 0;
    words->word_count = 0;
    words->symbols[words->place_count++] = SEO_MERGE_GAP;
    return SEO_OK;
}

void seo_merge_words_free(seo_merge_words *words) {
    free(words->symbols);
    free(words->owners);
    free(words->counts);
    *words = (seo_merge_words){0};
}

void seo_merge_list_free(seo_merge_list *list) {
    free(list->keys);
    *list = (seo_merge_list){0};
}
