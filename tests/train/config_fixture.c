#include "config_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

const char *const k_small_config =
    "model: {num_layers: 2, num_heads: 2, hidden_size: 32, seq_len: 32, vocab_size: 257}\n"
    "data: {path: shards}\n"
    "train: {steps: 100, batch_tokens: 512}\n"
    "optimizer: {lr: 1e-3}\n";

seo_err read_text(const char *text, const char *sets, seo_config *out, seo_buf *report) {
    enum { SETS_MAX = 16 };
    char copy[2048] = "";
    const char *items[SETS_MAX];
    int64_t count = 0;
    if (sets) snprintf(copy, sizeof copy, "%s", sets);
    for (char *s = strtok(copy, "\n"); s && count < SETS_MAX; s = strtok(NULL, "\n"))
        items[count++] = s;
    const seo_config_input input = {.name = "t.yaml",
                                    .text = text,
                                    .bytes = strlen(text),
                                    .sets = items,
                                    .set_count = count,
                                    .report = report};
    return seo_config_parse(&input, out);
}

void read_small(const char *sets, seo_config *out) {
    if (read_text(k_small_config, sets, out, NULL) != SEO_OK) fail_msg("%s", seo_err_detail());
}
