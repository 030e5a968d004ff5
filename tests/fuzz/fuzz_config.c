/* Any bytes as a configuration: it is read or refused with a report, and what was read is written
 * and read back to the same run. What stands after a 0x01 byte is the text of a --set. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "train/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static seo_config g_config, g_again; /* large: not for the stack */

static void check_round_trip(const seo_config *config) {
    seo_buf text = {0}, report = {0};
    SEO_ASSERT(seo_config_write(config, &text) == SEO_OK);
    const seo_config_input input = {.name = "resolved", .text = text.data, .bytes = text.bytes};
    SEO_ASSERT(seo_config_parse(&input, &g_again) == SEO_OK);
    char a[33], b[33];
    seo_config_hash(config, a);
    seo_config_hash(&g_again, b);
    SEO_ASSERT(strcmp(a, b) == 0);
    SEO_ASSERT(seo_config_diff(config, &g_again, NULL, 0, &report) == 0);
    seo_config_summary(config, &report);
    seo_buf_free(&report);
    seo_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { SETS_MAX = 8 };
    char *text = malloc(size + 1);
    if (!text) return 0;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    const char *sets[SETS_MAX];
    int64_t set_count = 0;
    size_t bytes = size;
    for (char *mark = memchr(text, 1, size); mark && set_count < SETS_MAX;
         mark = strchr(mark + 1, 1)) {
        if (set_count == 0) bytes = (size_t)(mark - text);
        *mark = '\0';
        sets[set_count++] = mark + 1;
    }
    seo_buf report = {0};
    const seo_config_input input = {.name = "fuzz.yaml",
                                    .text = text,
                                    .bytes = bytes,
                                    .sets = sets,
                                    .set_count = set_count,
                                    .report = &report};
    const seo_err err = seo_config_parse(&input, &g_config);
    SEO_ASSERT(err == SEO_OK || err == SEO_ERR_USAGE);
    SEO_ASSERT((err == SEO_OK) == (report.bytes == 0));
    if (err == SEO_OK) check_round_trip(&g_config);
    seo_buf_free(&report);
    free(text);
    return 0;
}
