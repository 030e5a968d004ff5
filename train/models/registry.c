/* The list of families. */
#include "base/check.h"
#include "train/models/family.h"

static const seo_family_ops *const k_families[] = {&seo_family_gpt2, &seo_family_gpt3};

const seo_family_ops *seo_family_find(seo_family family) {
    for (int64_t i = 0; i < SEO_COUNT_OF(k_families); i++) {
        if (k_families[i]->family == family) return k_families[i];
    }
    return NULL;
}
