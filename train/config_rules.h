/* Private to the rules of the configuration: what they share, and those of the rooms that have a
 * file of their own. */
#pragma once

#include "train/config_fields.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The index of a path that the table has. */
int64_t seo_key_index(const char *path);
bool seo_key_given(const seo_rules *rules, const char *path);
bool seo_key_from_set(const seo_rules *rules, const char *path);
void seo_key_complain(const seo_rules *rules, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The value follows from others where it was not given. */
void seo_key_derive(const seo_rules *rules, const char *path);
/* As if it had not been given. */
void seo_key_forget(seo_rules *rules, const char *path);
/* Where a mistake in two fields is shown: at the one the user wrote last, on the command line. */
const char *seo_key_blame(const seo_rules *rules, const char *first, const char *second);
/* The divisors of n nearest to `wish` on both sides; 0 where there is none. */
void seo_key_near_divisors(int64_t n, int64_t wish, int64_t *below, int64_t *above);
/* "459752 and 524288", the multiples of `of` around n, or just the one above. */
const char *seo_key_near_multiples(char out[2 * SEO_SHORT_TEXT], int64_t n, int64_t of);
/* The word for the family in the file. */
const char *seo_config_family_name(seo_family family);

/* config_rules_model.c */
void seo_config_rule_ffn(seo_rules *rules);
void seo_config_rule_heads(seo_rules *rules);
void seo_config_rule_family(seo_rules *rules);
void seo_config_rule_positions(seo_rules *rules);
void seo_config_rule_band(seo_rules *rules);
void seo_config_rule_sentences(seo_rules *rules);
void seo_config_rule_masks(seo_rules *rules);
void seo_config_rule_unmasked(seo_rules *rules);
void seo_config_rule_documents(seo_rules *rules);

/* config_rules_task.c */
void seo_config_rule_data_source(seo_rules *rules);
void seo_config_rule_task(seo_rules *rules);
void seo_config_rule_labels(seo_rules *rules);
void seo_config_rule_lora(seo_rules *rules);
void seo_config_rule_distill(seo_rules *rules);

#ifdef __cplusplus
}
#endif
