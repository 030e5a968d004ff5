/* Manifests: any text, sealed anew so that the fields are reached. What is accepted must write
 * itself, and the text it writes must read back to the same text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/manifest.h"

#define SEAL_BEGIN "  \"sealed_sha256\": \""

/* The text up to its seal, or all of it, with a seal that fits. */
static void seal(const uint8_t *data, size_t size, seo_buf *out) {
    char hex[SEO_SHA256_HEX];
    const void *at = memmem(data, size, SEAL_BEGIN, strlen(SEAL_BEGIN));
    if (at != NULL) size = (size_t)((const uint8_t *)at - data);
    seo_buf_add(out, data, size);
    seo_buf_text(out, SEAL_BEGIN);
    seo_sha256_hex(out->data, out->bytes, hex);
    seo_buf_format(out, "%s\"\n}\n", hex);
    SEO_ASSERT(seo_buf_check(out) == SEO_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    seo_manifest manifest = {0};
    seo_buf text = {0}, once = {0}, twice = {0};
    (void)seo_manifest_parse("unsealed", (const char *)data, (int64_t)size, &manifest);
    seo_manifest_free(&manifest);
    seal(data, size, &text);
    if (seo_manifest_parse("sealed", text.data, (int64_t)text.bytes, &manifest) == SEO_OK) {
        SEO_ASSERT(seo_manifest_text(&manifest, &once) == SEO_OK);
        seo_manifest_free(&manifest);
        SEO_ASSERT(seo_manifest_parse("again", once.data, (int64_t)once.bytes, &manifest) ==
                   SEO_OK);
        SEO_ASSERT(seo_manifest_text(&manifest, &twice) == SEO_OK);
        SEO_ASSERT(once.bytes == twice.bytes && !memcmp(once.data, twice.data, once.bytes));
        seo_manifest_free(&manifest);
    }
    seo_buf_free(&text);
    seo_buf_free(&once);
    seo_buf_free(&twice);
    return 0;
}
