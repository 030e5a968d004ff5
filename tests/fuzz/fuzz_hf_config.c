/* config.json of transformers' models: any text. What is accepted is a model that can be written
 * again, and reads back as the same one. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "train/hf/model_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    seo_hf_model first, second;
    seo_buf text = {0};
    if (seo_hf_model_parse("fuzz", (const char *)data, size, &first) != SEO_OK) return 0;
    SEO_ASSERT(first.config.num_layers >= 1 && first.config.num_layers <= 1024);
    SEO_ASSERT(first.config.seq_len >= 1 && first.config.dropout >= 0 && first.config.dropout < 1);
    first.config.next_sentence = first.config.family == SEO_FAMILY_BERT &&
                                 strcmp(first.architecture, "BertForPreTraining") == 0;
    SEO_ASSERT(seo_hf_model_write(&first.config, first.labels, NULL, SEO_DTYPE_F32, &text) ==
               SEO_OK);
    SEO_ASSERT(seo_hf_model_parse("again", text.data, text.bytes, &second) == SEO_OK);
    second.config.next_sentence = first.config.next_sentence;
    SEO_ASSERT(memcmp(&first.config, &second.config, sizeof first.config) == 0);
    SEO_ASSERT(strcmp(first.labels, second.labels) == 0);
    seo_buf_free(&text);
    return 0;
}
