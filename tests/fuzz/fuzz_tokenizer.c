/* tokenizer.json from anywhere: an error that names the file, or a tokenizer that encodes any bytes
 * and (byte-level BPE) gives them back, and whose canonical spelling is read as the same tokenizer.
 */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "data/tokenizer.h"
#include "data/vocabulary.h"

static void round_trip(const seo_tokenizer *tok, const uint8_t *data, size_t size) {
    for (int with_special = 0; with_special < 2; with_special++) {
        seo_encoder *enc = NULL;
        seo_ids ids = {0};
        seo_buf back = {0};
        SEO_ASSERT(seo_encoder_open(tok, &enc) == SEO_OK);
        SEO_ASSERT(seo_encode(enc, data, size, with_special != 0, &ids) == SEO_OK);
        SEO_ASSERT(seo_decode(tok, ids.items, ids.count, &back) == SEO_OK);
        bool exact = seo_tokenizer_kind_of(tok) == SEO_TOKENIZER_BPE;
        /* A special token may take the white space before it with it. */
        SEO_ASSERT(!exact || (with_special != 0 ? back.bytes <= size : back.bytes == size));
        bool whole = back.bytes == size;
        SEO_ASSERT(!exact || !whole || size == 0 || memcmp(back.data, data, size) == 0);
        seo_buf_free(&back);
        seo_ids_free(&ids);
        seo_encoder_close(enc);
    }
}

static void same_again(const seo_tokenizer *tok) {
    seo_buf text = {0};
    seo_tokenizer *again = NULL;
    SEO_ASSERT(seo_tokenizer_write(tok, &text) == SEO_OK);
    SEO_ASSERT(seo_tokenizer_parse("canonical", text.data, text.bytes, &again) == SEO_OK);
    SEO_ASSERT(strcmp(seo_tokenizer_sha256(tok), seo_tokenizer_sha256(again)) == 0);
    seo_tokenizer_free(again);
    seo_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    seo_tokenizer *tok = NULL;
    if (seo_tokenizer_parse("input.json", (const char *)data, size, &tok) != SEO_OK) {
        SEO_ASSERT(strstr(seo_err_detail(), "input.json") != NULL);
        return 0;
    }
    round_trip(tok, data, size);
    same_again(tok);
    seo_tokenizer_free(tok);
    return 0;
}
