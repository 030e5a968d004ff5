/* safetensors: any file, and any header with a length that fits it. What is accepted lies inside
 * the file, without overlap or hole, and its values can be read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/hf/safetensors.h"

static void use(const uint8_t *file, int64_t size) {
    seo_safetensors *set = NULL;
    int64_t bytes = 0;
    if (seo_safetensors_parse("fuzz", file, size, &set) != SEO_OK) return;
    for (int64_t i = 0; i < seo_safetensors_count(set); i++) {
        const seo_safetensor *t = seo_safetensors_at(set, i);
        SEO_ASSERT(t->elements >= 0 && t->bytes >= 0 && t->bytes <= size);
        SEO_ASSERT(t->data >= file && t->data + t->bytes <= file + size);
        SEO_ASSERT(seo_safetensors_find(set, t->name) == t);
        bytes += t->bytes;
        if (t->elements > size) continue;
        float *values = malloc((size_t)t->elements * sizeof *values + 1);
        SEO_ASSERT(values);
        (void)seo_safetensors_read(set, t, values);
        free(values);
    }
    SEO_ASSERT(bytes <= size - 8);
    seo_safetensors_close(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    use(data, (int64_t)size);
    /* The input as a header, up to its last brace, with what follows as the data. */
    const uint8_t *start = memchr(data, '{', size);
    if (!start) return 0;
    size -= (size_t)(start - data);
    const uint8_t *brace = memrchr(start, '}', size);
    const size_t length = brace ? (size_t)(brace - start) + 1 : size;
    uint8_t *file = malloc(size + 8);
    SEO_ASSERT(file);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)length >> 8 * i & 0xff);
    memcpy(file + 8, start, size);
    use(file, (int64_t)size + 8);
    free(file);
    return 0;
}
