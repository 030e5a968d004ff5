/* Private to the configuration: the field table and what reads, writes and compares through it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "train/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_field_type {
    SEO_FIELD_INT,     /* int64_t; amounts like 0.5M */
    SEO_FIELD_FLOAT,   /* double */
    SEO_FIELD_SECONDS, /* double; durations like 30min */
    SEO_FIELD_BOOL,
    SEO_FIELD_CHOICE, /* an enum, as int */
    SEO_FIELD_TEXT,   /* char[SEO_CONFIG_TEXT_MAX] */
    SEO_FIELD_MIX     /* data.mix: mix_count and mix[] */
} seo_field_type;

typedef struct seo_field_choice {
    const char *name;
    int value;
    const char *refusal; /* not NULL: a known word that this version cannot do, and the remedy */
} seo_field_choice;

typedef struct seo_field {
    const char *path; /* "model.num_layers", "device" */
    seo_field_type type;
    size_t offset;
    double min, max;       /* of numbers, inclusive */
    bool below_max;        /* max itself is outside */
    bool decides;          /* the result of a run */
    const char *unit;      /* "steps", "tokens"; NULL: none */
    const char *preset;    /* the default as one would write it; NULL: none */
    const char *before;    /* of a key that runs were made without: the value that they had, as
                            * seo_field_format writes it; NULL: all runs had the key */
    const char *otherwise; /* without a default: how the value is found. NULL: it must be given */
    const seo_field_choice *choices; /* ends with a NULL name */
    const char *range_hint;          /* appended when a number is out of range; may be NULL */
    const char *help;
} seo_field;

extern const seo_field seo_config_fields[SEO_CONFIG_FIELDS];

/* The index of a path in the table, or -1. */
int64_t seo_field_find(const char *path);

/* "model" of "model.num_layers" into out; "" for a top-level key. Returns the key's own name. */
const char *seo_field_split(const char *path, char section[SEO_SHORT_TEXT]);

/* The value as YAML would have it, without a comment: 12, 6e-4, cosine, "runs/a b", null. */
void seo_field_format(const seo_field *field, const seo_config *config, seo_buf *out);

/* Reads `text` into the struct; what is wrong with it goes to *mistake (a sentence, its memory the
 * caller's) and false is returned. Not for SEO_FIELD_MIX. */
bool seo_field_parse(const seo_field *field, const char *text, seo_config *config,
                     seo_buf *mistake);

/* Appends a user's word for a message: in quotes, control characters escaped, not too long. */
void seo_field_quote(seo_buf *out, const char *word);

/* What reading has found out about each field, for the rules that join several. */
typedef enum seo_field_state {
    SEO_FIELD_ABSENT,
    SEO_FIELD_GIVEN,
    SEO_FIELD_BROKEN
} seo_field_state;

/* The rules over several fields, and the values that follow from others. Every broken rule is
 * handed to `complain` with the index of the field that it is best shown at. */
typedef struct seo_rules {
    seo_config *config;
    const char *name; /* of the file */
    bool resolved;    /* see seo_config_input */
    seo_field_state states[SEO_CONFIG_FIELDS];
    void (*complain)(void *context, int64_t field, const char *text);
    void *context;
} seo_rules;
void seo_rules_apply(seo_rules *rules);

#ifdef __cplusplus
}
#endif
