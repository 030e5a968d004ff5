/* The list of families. */
#include "base/check.h"
#include "train/models/family.h"

static const seo_family_ops *const k_families[] = {&seo_family_gpt1,    &seo_family_gpt2,
                                                   &seo_family_gpt3,    &seo_family_bert,
                                                   &seo_family_roberta, &seo_family_distilbert};

const seo_family_ops *seo_family_find(seo_family family) {
    for (int64_t i = 0; i < SEO_COUNT_OF(k_families); i++) {
        if (k_families[i]->family == family) return k_families[i];
    }
    return NULL;
}

seo_err seo_family_check(const seo_model_config *m) {
    const int64_t sizes[] = {m->num_layers,      m->num_heads, m->hidden_size,
                             m->ffn_hidden_size, m->seq_len,   m->vocab_size};
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        if (sizes[i] < 1 || sizes[i] > INT32_MAX) {
            return SEO_FAIL(SEO_ERR_USAGE, "model: every size must be between 1 and 2^31 - 1");
        }
    }
    if (seo_model_positions(m) < m->seq_len) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: max_positions %lld is below seq_len %lld",
                        (long long)m->max_positions, (long long)m->seq_len);
    }
    if (m->hidden_size % m->num_heads != 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: hidden_size %lld is not divisible by num_heads %lld",
                        (long long)m->hidden_size, (long long)m->num_heads);
    }
    if (!(m->dropout >= 0 && m->dropout < 1) || !(m->norm_eps > 0)) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: dropout must be in [0, 1) and norm_eps above 0");
    }
    if (!(m->attention_dropout >= 0 && m->attention_dropout < 1)) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: attention_dropout must be in [0, 1)");
    }
    if (m->classes < 0 || m->classes == 1) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: a classification head wants at least 2 classes");
    }
    return SEO_OK;
}
