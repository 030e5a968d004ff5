/* Any bytes as text: a tokenizer is learned from one half of them and encodes the other; ids give
 * the bytes back, and a text encoded in parts, cut where the cutter says, has the ids of the whole.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "data/bpe_train.h"
#include "data/pretoken.h"
#include "data/tokenizer.h"

static seo_tokenizer *learn(const uint8_t *data, size_t size) {
    seo_word_counter *counter = NULL;
    seo_word_table words = {0};
    seo_tokenizer *tok = NULL;
    SEO_ASSERT(seo_word_counter_open(1, seo_pretoken_end, &counter) == SEO_OK);
    SEO_ASSERT(seo_word_counter_add(counter, data, size) == SEO_OK);
    SEO_ASSERT(seo_word_counter_finish(counter, &words) == SEO_OK);
    SEO_ASSERT(seo_bpe_train_words(&words, 300, SEO_SPECIAL_GPT2, &tok) == SEO_OK);
    seo_word_table_free(&words);
    seo_word_counter_close(counter);
    return tok;
}

static void check(seo_encoder *enc, const seo_tokenizer *tok, const uint8_t *text, size_t size) {
    seo_ids whole = {0}, parts = {0};
    seo_buf back = {0};
    SEO_ASSERT(seo_encode(enc, text, size, false, &whole) == SEO_OK);
    SEO_ASSERT(seo_decode(tok, whole.items, whole.count, &back) == SEO_OK);
    SEO_ASSERT(back.bytes == size && (size == 0 || memcmp(back.data, text, size) == 0));
    for (size_t at = 0; at < size;) {
        size_t part = seo_pretoken_cut(text + at, size - at, 1 + size / 7);
        SEO_ASSERT(part > 0 && part <= size - at);
        SEO_ASSERT(seo_encode(enc, text + at, part, false, &parts) == SEO_OK);
        at += part;
    }
    SEO_ASSERT(parts.count == whole.count);
    for (int64_t i = 0; i < whole.count; i++) SEO_ASSERT(parts.items[i] == whole.items[i]);
    seo_buf_free(&back);
    seo_ids_free(&whole);
    seo_ids_free(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_QUIET});
    /* A copy of exactly the bytes lets the address sanitizer see a read behind them. */
    size_t half = size / 2;
    uint8_t *exact = malloc(size - half);
    if (size > half) {
        SEO_ASSERT(exact != NULL);
        memcpy(exact, data + half, size - half);
    }
    seo_tokenizer *tok = learn(data, half);
    seo_encoder *enc = NULL;
    SEO_ASSERT(seo_encoder_open(tok, &enc) == SEO_OK);
    check(enc, tok, exact, size - half);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
    free(exact);
    return 0;
}
