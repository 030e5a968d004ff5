/* vocab.txt from anywhere, and any text with it. The input is cut at its first NUL: what is before
 * is the vocabulary (an error that names the file, or a tokenizer whose canonical spelling is read
 * as the same one), what is behind is encoded twice, whole and cut at white space, to the same ids,
 * which decode. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "data/vocabulary.h"

static const char fallback[] = "[UNK]\n[CLS]\n[SEP]\na\n##a\nb\n##b\nab\n##ab\n.\ne\n##e\n";

static void same_again(const seo_tokenizer *tok) {
    seo_buf text = {0};
    seo_tokenizer *again = NULL;
    SEO_ASSERT(seo_tokenizer_write(tok, &text) == SEO_OK);
    SEO_ASSERT(seo_tokenizer_parse("canonical", text.data, text.bytes, &again) == SEO_OK);
    SEO_ASSERT(strcmp(seo_tokenizer_sha256(tok), seo_tokenizer_sha256(again)) == 0);
    seo_tokenizer_free(again);
    seo_buf_free(&text);
}

static void encode_parts(seo_encoder *enc, const uint8_t *text, size_t size, seo_ids *ids) {
    size_t start = 0;
    for (size_t i = 0; i <= size; i++) {
        if (i < size && text[i] != ' ' && text[i] != '\n') continue;
        SEO_ASSERT(seo_encode(enc, text + start, i - start, false, ids) == SEO_OK);
        start = i;
    }
}

static void encode(const seo_tokenizer *tok, const uint8_t *text, size_t size) {
    seo_encoder *enc = NULL;
    seo_ids whole = {0}, parts = {0}, special = {0};
    seo_buf back = {0};
    SEO_ASSERT(seo_encoder_open(tok, &enc) == SEO_OK);
    SEO_ASSERT(seo_encode(enc, text, size, false, &whole) == SEO_OK);
    encode_parts(enc, text, size, &parts);
    SEO_ASSERT(whole.count == parts.count);
    SEO_ASSERT(whole.count == 0 ||
               memcmp(whole.items, parts.items, (size_t)whole.count * sizeof *whole.items) == 0);
    SEO_ASSERT(seo_encode(enc, text, size, true, &special) == SEO_OK);
    SEO_ASSERT(seo_decode(tok, whole.items, whole.count, &back) == SEO_OK);
    seo_ids_free(&whole);
    seo_ids_free(&parts);
    seo_ids_free(&special);
    seo_buf_free(&back);
    seo_encoder_close(enc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    size_t vocabulary = nul != NULL ? (size_t)(nul - data) : 0;
    const uint8_t *text = nul != NULL ? nul + 1 : data;
    size_t bytes = nul != NULL ? size - vocabulary - 1 : size;
    for (int cased = 0; cased < 2; cased++) {
        seo_tokenizer *tok = NULL;
        if (seo_tokenizer_parse_bert("v.txt", (const char *)data, vocabulary, cased != 0, &tok) !=
            SEO_OK) {
            SEO_ASSERT(strstr(seo_err_detail(), "v.txt") != NULL);
            SEO_ASSERT(seo_tokenizer_parse_bert("v.txt", fallback, strlen(fallback), cased != 0,
                                                &tok) == SEO_OK);
        }
        same_again(tok);
        encode(tok, text, bytes);
        seo_tokenizer_free(tok);
    }
    return 0;
}
