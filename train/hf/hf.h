/* Hugging Face model folders in and out.
 *
 *   DIR/config.json  model.safetensors (or shards with an index)  tokenizer.json
 *       tokenizer_config.json  generation_config.json (decoders)  README.md
 *
 * The classes: OpenAIGPTLMHeadModel, GPT2LMHeadModel, BertForPreTraining, BertForMaskedLM,
 * BertForSequenceClassification, RobertaForMaskedLM, RobertaForSequenceClassification,
 * DistilBertForMaskedLM. What is written is written beside the destination and
 * renamed, so that a folder is whole or not there. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/tensor.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes RUN, which must not exist: config.yaml and a checkpoint of step 0 with the tokenizer and
 * without moments: what eval, generate and fill use and checkpoint.init_from begins from. Appends
 * what was read to `report`. SEO_ERR_UNSUPPORTED, SEO_ERR_FORMAT or SEO_ERR_MISSING name the file
 * and the remedy. */
seo_err seo_hf_import(const char *dir, const char *run, seo_buf *report);

typedef struct seo_hf_export_args {
    const char *checkpoint; /* a run folder or a step-... folder */
    const char *dir;        /* must not exist */
    seo_dtype dtype;        /* f32, or bf16: rounded to nearest */
    int64_t shard_bytes;    /* most data in one safetensors file */
} seo_hf_export_args;

/* Writes the folder, reads it back as an import would and compares the two models' outputs on a
 * probe text: the same bits (of bf16: as the rounded parameters give them), or SEO_ERR_IO and no
 * folder. Appends what was written to `report`. */
seo_err seo_hf_export(const seo_hf_export_args *args, seo_buf *report);

#ifdef __cplusplus
}
#endif
