/* Private to data/build: which bytes of which document go to which split.
 *
 * survey: every document is added, then finish marks duplicates. cut: where the mode splits
 * documents, each one's text is shown again and its cuts are recorded. plan: units between cuts are
 * chosen, and neighbours of one split joined to pieces. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "data/build.h"
#include "data/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One document as the survey saw it. */
typedef struct seo_survey_document {
    uint64_t hash[2]; /* XXH3-128 of the text */
    int64_t bytes;
    int64_t cut_first, cut_count; /* its cuts, in seo_survey.cuts */
    bool duplicate;
} seo_survey_document;

typedef struct seo_survey {
    seo_survey_document *documents;
    int64_t count, capacity;
    int64_t *cuts; /* byte offsets inside their documents, rising, never at an end */
    int64_t cut_count, cut_capacity;
    int64_t stay_bytes, stay_count; /* of documents that are no duplicates */
    seo_held_out_mode mode;         /* resolved by finish */
    int64_t block_bytes;            /* block mode */
    int64_t boundary;               /* tail mode: byte of the whole stream where held-out begins */
} seo_survey;

seo_err seo_survey_add(seo_survey *survey, const char *text, int64_t bytes);
seo_err seo_survey_finish(seo_survey *survey, const seo_build_args *args);
/* True when the mode needs seo_survey_cut for every document, in order. */
bool seo_survey_needs_cuts(const seo_survey *survey);
/* `before`: bytes of the staying documents before this one. */
seo_err seo_survey_cut(seo_survey *survey, int64_t document, const char *text, int64_t before);
void seo_survey_free(seo_survey *survey);
/* The text's hash as the survey keeps it. */
void seo_survey_hash(const char *text, int64_t bytes, uint64_t hash[2]);

/* A run of bytes of one document that goes to one split. */
typedef struct seo_piece_plan {
    int64_t document, start, bytes;
    seo_split split;
} seo_piece_plan;

typedef struct seo_build_plan {
    seo_piece_plan *pieces; /* in reading order */
    int64_t count;
} seo_build_plan;

seo_err seo_build_plan_make(const seo_survey *survey, const seo_build_args *args,
                            seo_build_plan *out);
void seo_build_plan_free(seo_build_plan *plan);

#ifdef __cplusplus
}
#endif
