/* The survey of a build: documents, duplicates, and where documents are cut. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "data/build_plan.h"

enum {
    DOCUMENT_MODE_FROM = 100,
    BLOCK_MIN_BYTES = 1 << 10,
    BLOCK_MAX_BYTES = 1 << 16,
    BLOCKS_WANTED = 16
};

void seo_survey_hash(const char *text, int64_t bytes, uint64_t hash[2]) {
    char hex[SEO_XXH128_HEX], half[17] = {0};
    seo_xxh128_hex(text, (size_t)bytes, hex);
    memcpy(half, hex, 16);
    hash[0] = strtoull(half, NULL, 16);
    hash[1] = strtoull(hex + 16, NULL, 16);
}

void seo_survey_free(seo_survey *survey) {
    free(survey->documents);
    free(survey->cuts);
    *survey = (seo_survey){0};
}

seo_err seo_survey_add(seo_survey *survey, const char *text, int64_t bytes) {
    if (survey->count == survey->capacity) {
        const int64_t capacity = survey->capacity ? survey->capacity * 2 : 256;
        seo_survey_document *documents =
            realloc(survey->documents, (size_t)capacity * sizeof *documents);
        if (!documents)
            return SEO_FAIL(SEO_ERR_MEMORY, "a list of %lld documents", (long long)capacity);
        survey->documents = documents;
        survey->capacity = capacity;
    }
    seo_survey_document *document = &survey->documents[survey->count++];
    *document = (seo_survey_document){.bytes = bytes};
    seo_survey_hash(text, bytes, document->hash);
    return SEO_OK;
}

/* By hash, then by order of appearance (documents stand in one array, so their addresses tell). */
static int by_hash(const void *a, const void *b) {
    const seo_survey_document *x = *(const seo_survey_document *const *)a;
    const seo_survey_document *y = *(const seo_survey_document *const *)b;
    const int order = memcmp(x->hash, y->hash, sizeof x->hash);
    return order != 0 ? order : (x > y) - (x < y);
}

static seo_err mark_duplicates(seo_survey *survey) {
    seo_survey_document **sorted = malloc((size_t)(survey->count + 1) * sizeof *sorted);
    if (!sorted)
        return SEO_FAIL(SEO_ERR_MEMORY, "a list of %lld documents", (long long)survey->count);
    for (int64_t i = 0; i < survey->count; i++) sorted[i] = &survey->documents[i];
    qsort(sorted, (size_t)survey->count, sizeof(seo_survey_document *), by_hash);
    for (int64_t i = 1; i < survey->count; i++) {
        const seo_survey_document *before = sorted[i - 1];
        sorted[i]->duplicate = sorted[i]->bytes == before->bytes &&
                               memcmp(sorted[i]->hash, before->hash, sizeof before->hash) == 0;
    }
    free(sorted);
    return SEO_OK;
}

seo_err seo_survey_finish(seo_survey *survey, const seo_build_args *args) {
    const seo_err err = mark_duplicates(survey);
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < survey->count; i++) {
        if (survey->documents[i].duplicate) continue;
        survey->stay_bytes += survey->documents[i].bytes;
        survey->stay_count++;
    }
    survey->mode = args->mode;
    if (survey->mode == SEO_HELD_OUT_AUTO) {
        survey->mode =
            survey->stay_count >= DOCUMENT_MODE_FROM ? SEO_HELD_OUT_DOCUMENT : SEO_HELD_OUT_BLOCK;
    }
    const double wanted = (double)survey->stay_bytes * args->held_out / BLOCKS_WANTED;
    survey->block_bytes =
        seo_max_i64(BLOCK_MIN_BYTES, seo_min_i64(BLOCK_MAX_BYTES, (int64_t)wanted));
    survey->boundary = (int64_t)((double)survey->stay_bytes * (1.0 - args->held_out));
    if (args->held_out <= 0) survey->boundary = survey->stay_bytes;
    return SEO_OK;
}

bool seo_survey_needs_cuts(const seo_survey *survey) {
    return survey->mode == SEO_HELD_OUT_BLOCK || survey->mode == SEO_HELD_OUT_TAIL;
}

static seo_err add_cut(seo_survey *survey, seo_survey_document *document, int64_t at) {
    if (at <= 0 || at >= document->bytes) return SEO_OK;
    if (survey->cut_count == survey->cut_capacity) {
        const int64_t capacity = survey->cut_capacity ? survey->cut_capacity * 2 : 64;
        int64_t *cuts = realloc(survey->cuts, (size_t)capacity * sizeof *cuts);
        if (!cuts) return SEO_FAIL(SEO_ERR_MEMORY, "a list of %lld cuts", (long long)capacity);
        survey->cuts = cuts;
        survey->cut_capacity = capacity;
    }
    survey->cuts[survey->cut_count++] = at;
    document->cut_count++;
    return SEO_OK;
}

/* The next byte from `at` on that does not continue a UTF-8 character; invalid text moves it by 3
 * bytes at most. */
static int64_t character_start(const char *text, int64_t bytes, int64_t at) {
    for (int moved = 0; moved < 3 && at < bytes && ((unsigned char)text[at] & 0xC0) == 0x80;
         moved++)
        at++;
    return at;
}

/* Cuts after the first line end from each multiple of the block size on; without one in another
 * block's length, at a character. */
static seo_err cut_blocks(seo_survey *survey, seo_survey_document *document, const char *text) {
    const int64_t block = survey->block_bytes;
    for (int64_t at = block; at < document->bytes;) {
        const int64_t reach = seo_min_i64(block, document->bytes - at);
        const char *newline = memchr(text + at, '\n', (size_t)reach);
        const int64_t cut =
            newline ? newline - text + 1 : character_start(text, document->bytes, at);
        const seo_err err = add_cut(survey, document, cut);
        if (err != SEO_OK) return err;
        at = cut + block;
    }
    return SEO_OK;
}

seo_err seo_survey_cut(seo_survey *survey, int64_t index, const char *text, int64_t before) {
    seo_survey_document *document = &survey->documents[index];
    document->cut_first = survey->cut_count;
    if (document->duplicate) return SEO_OK;
    if (survey->mode == SEO_HELD_OUT_BLOCK) return cut_blocks(survey, document, text);
    const int64_t at = survey->boundary - before;
    if (at <= 0 || at >= document->bytes) return SEO_OK;
    return add_cut(survey, document, character_start(text, document->bytes, at));
}
