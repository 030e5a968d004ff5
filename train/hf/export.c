/* From a checkpoint to a Hugging Face folder, and back again to see that it is the same model. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/check.h"
#include "train/checkpoint.h"
#include "train/hf/cards.h"
#include "train/hf/folder.h"
#include "train/hf/hf.h"
#include "train/hf/model_json.h"
#include "train/hf/names.h"
#include "train/hf/probe.h"
#include "train/hf/safetensors.h"
#include "train/hf/source.h"
#include "train/models/model.h"

/* One tensor of the folder: part `part` of row `row` of our table. */
typedef struct piece {
    int64_t row;
    int32_t part;
} piece;

typedef struct export {
    const seo_hf_export_args *args;
    seo_ckpt *ckpt;
    seo_config config;
    seo_tokenizer *tokenizer; /* NULL: the checkpoint has none */
    char tokenizer_path[SEO_PATH_MAX];
    seo_params params;
    seo_hf_link *links;
    piece *pieces;
    seo_safetensors_row *rows; /* of the pieces */
    int64_t count;
    char made[SEO_PATH_MAX];
    int64_t files;
}
export;

static void export_free(export *e) {
    seo_ckpt_close(e->ckpt);
    seo_tokenizer_free(e->tokenizer);
    seo_params_free(&e->params);
    free(e->links);
    free(e->pieces);
    free(e->rows);
}

/* ---- what is exported ---- */

static seo_err open_checkpoint(export *e) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    seo_path_kind kind;
    SEO_TRY(seo_ckpt_open(e->args->checkpoint, NULL, &e->ckpt));
    SEO_TRY(seo_path_join(path, seo_ckpt_path(e->ckpt), "config.yaml"));
    SEO_TRY(seo_config_load_resolved(path, &e->config));
    /* There a model's context is as long as its table of positions. */
    e->config.model.seq_len = seo_model_positions(&e->config.model);
    e->config.model.max_positions = 0;
    if (e->config.lora.rank > 0) {
        err = SEO_FAIL(SEO_ERR_USAGE,
                       "%s holds adapters (lora.rank) and not the parameters they belong to. Write "
                       "both into one checkpoint and export that: seodang checkpoint merge %s "
                       "--out DIR",
                       seo_ckpt_path(e->ckpt), e->args->checkpoint);
        goto done;
    }
    SEO_TRY(seo_path_join(e->tokenizer_path, seo_ckpt_path(e->ckpt), "tokenizer.json"));
    SEO_TRY(seo_path_look(e->tokenizer_path, &kind));
    if (kind != SEO_PATH_NONE) SEO_TRY(seo_tokenizer_load(e->tokenizer_path, &e->tokenizer));
    err = seo_hf_model_check(&e->config.model, e->tokenizer);
    if (err != SEO_OK) seo_err_context(err, "%s cannot be exported", seo_ckpt_path(e->ckpt));
done:
    return err;
}

static void add_pieces(export *e, int64_t row) {
    const seo_param *param = &e->params.items[row];
    const seo_hf_link *link = &e->links[row];
    for (int32_t p = 0; p < link->parts; p++) {
        seo_safetensors_row *out = &e->rows[e->count];
        const int64_t rows = param->dims[0] / link->parts;
        *out = (seo_safetensors_row){.name = link->names[p], .rank = param->rank};
        out->dims[0] = link->transposed ? param->dims[1] : rows;
        out->dims[1] = link->transposed ? rows : param->dims[1];
        e->pieces[e->count++] = (piece){.row = row, .part = p};
    }
}

static seo_err list_pieces(export *e) {
    seo_err err = SEO_OK;
    seo_model_config *c = &e->config.model;
    c->distill_width = 0; /* a projection to a teacher's width is no part of the model */
    SEO_TRY(seo_model_params(c, &e->params));
    const size_t rows = (size_t)e->params.count + 1;
    e->links = calloc(rows, sizeof *e->links);
    e->pieces = calloc(rows * SEO_HF_PARTS_MAX, sizeof *e->pieces);
    e->rows = calloc(rows * SEO_HF_PARTS_MAX, sizeof *e->rows);
    if (!e->links || !e->pieces || !e->rows) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "a table of tensors");
        goto done;
    }
    for (int64_t i = 0; i < e->params.count; i++) {
        SEO_TRY(seo_hf_link_of(c, &e->params.items[i], &e->links[i]));
        add_pieces(e, i);
    }
done:
    return err;
}

/* ---- values ---- */

static seo_err read_row(export *e, int64_t row, float *out) {
    const seo_param *param = &e->params.items[row];
    seo_ckpt_tensor tensor = {.rank = param->rank, .data = out};
    snprintf(tensor.name, sizeof tensor.name, "parameters/%s", param->name);
    for (int32_t d = 0; d < param->rank; d++) tensor.dims[d] = param->dims[d];
    return seo_ckpt_read(e->ckpt, &tensor, 1);
}

/* A seo_safetensors_fetch. */
static seo_err fetch(void *context, int64_t index, float *out) {
    seo_err err = SEO_OK;
    export *e = context;
    const piece *p = &e->pieces[index];
    const seo_param *param = &e->params.items[p->row];
    const seo_hf_link *link = &e->links[p->row];
    const int64_t all = seo_param_elements(param), count = all / link->parts;
    float *values = malloc((size_t)all * sizeof *values);
    if (!values) return SEO_FAIL(SEO_ERR_MEMORY, "the parameter %s", param->name);
    SEO_TRY(read_row(e, p->row, values));
    if (link->transposed) {
        seo_hf_transpose(values, param->dims[0], param->dims[1], out);
    } else {
        memcpy(out, values + p->part * count, (size_t)count * sizeof *out);
    }
done:
    free(values);
    return err;
}

/* ---- the check ---- */

/* What the files should hold: a seo_hf_values. */
static seo_err meant(void *context, const seo_param *param, int64_t row, float *out) {
    export *e = context;
    const seo_err err = read_row(e, row, out);
    if (err != SEO_OK || e->args->dtype != SEO_DTYPE_BF16) return err;
    for (int64_t i = 0; i < seo_param_elements(param); i++) {
        out[i] = seo_f32_from_bf16(seo_bf16_from_f32(out[i]));
    }
    return SEO_OK;
}

/* What they hold. */
static seo_err written(void *context, const seo_param *param, int64_t row, float *out) {
    const seo_hf_source *source = context;
    SEO_ASSERT(strcmp(source->params.items[row].name, param->name) == 0);
    return seo_hf_source_read(source, row, out);
}

/* The model that config.json describes is the one that was meant. */
static seo_err compare_models(const seo_model_config *a, const seo_model_config *b) {
    const bool same_family =
        a->family == b->family || (a->family == SEO_FAMILY_GPT3 && b->family == SEO_FAMILY_GPT2);
    const bool same_sizes =
        a->num_layers == b->num_layers && a->num_heads == b->num_heads &&
        a->hidden_size == b->hidden_size && a->ffn_hidden_size == b->ffn_hidden_size &&
        a->seq_len == b->seq_len && a->vocab_size == b->vocab_size &&
        a->type_vocab_size == b->type_vocab_size && a->next_sentence == b->next_sentence;
    if (same_family && same_sizes && a->activation == b->activation && a->norm_eps == b->norm_eps &&
        a->dropout == b->dropout && a->attention_dropout == b->attention_dropout) {
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_IO, "config.json reads back as another model");
}

static seo_err compare_logits(const seo_hf_logits *a, const seo_hf_logits *b) {
    SEO_ASSERT(a->count == b->count);
    if (memcmp(a->items, b->items, (size_t)a->count * sizeof *a->items) == 0) return SEO_OK;
    double most = 0;
    for (int64_t i = 0; i < a->count; i++) {
        most = fmax(most, fabs((double)a->items[i] - (double)b->items[i]));
    }
    return SEO_FAIL(SEO_ERR_IO, "its outputs on the probe text differ from the checkpoint's by %g",
                    most);
}

static seo_err check_written(export *e, int64_t *positions) {
    seo_err err = SEO_OK;
    seo_hf_source source = {0};
    seo_hf_logits a = {0}, b = {0};
    int32_t ids[SEO_HF_PROBE_MAX];
    SEO_TRY(seo_hf_source_open(e->made, &source));
    SEO_TRY(compare_models(&e->config.model, &source.config));
    SEO_TRY(seo_hf_probe_ids(&e->config.model, e->tokenizer, ids, positions));
    seo_hf_probe_args probe = {
        .config = &e->config.model, .ids = ids, .count = *positions, .values = meant, .context = e};
    SEO_TRY(seo_hf_probe(&probe, &a));
    probe.config = &source.config;
    probe.values = written;
    probe.context = &source;
    SEO_TRY(seo_hf_probe(&probe, &b));
    SEO_TRY(compare_logits(&a, &b));
done:
    seo_hf_source_close(&source);
    seo_hf_logits_free(&a);
    seo_hf_logits_free(&b);
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "what was written is not the model");
}

/* ---- the folder ---- */

static seo_err write_folder(export *e) {
    seo_err err = SEO_OK;
    const seo_safetensors_out out = {.dir = e->made,
                                     .rows = e->rows,
                                     .count = e->count,
                                     .dtype = e->args->dtype,
                                     .shard_bytes = e->args->shard_bytes,
                                     .fetch = fetch,
                                     .context = e};
    const seo_hf_cards cards = {.dir = e->made,
                                .model = &e->config.model,
                                .labels = e->config.task.labels,
                                .state = seo_ckpt_state_of(e->ckpt),
                                .tokenizer = e->tokenizer,
                                .dtype = e->args->dtype,
                                .parameters = seo_params_elements(&e->params)};
    SEO_TRY(seo_safetensors_write(&out, &e->files));
    SEO_TRY(seo_hf_cards_write(&cards));
done:
    return err;
}

seo_err seo_hf_export(const seo_hf_export_args *args, seo_buf *report) {
    seo_err err = SEO_OK;
    char count[SEO_SHORT_TEXT];
    int64_t positions = 0;
    export *e = calloc(1, sizeof *e);
    if (!e) return SEO_FAIL(SEO_ERR_MEMORY, "no memory to export a model");
    e->args = args;
    SEO_TRY(open_checkpoint(e));
    SEO_TRY(list_pieces(e));
    SEO_TRY(seo_hf_folder_begin(args->dir, e->made));
    SEO_TRY(write_folder(e));
    SEO_TRY(check_written(e, &positions));
    SEO_TRY(seo_hf_folder_commit(e->made, args->dir));
    e->made[0] = '\0';
    seo_buf_format(report,
                   "%s: %s of %s parameters in %" PRId64 " file%s, %s\n"
                   "read back: the same outputs at %" PRId64 " positions, bit for bit%s\n",
                   args->dir, seo_hf_architecture(&e->config.model),
                   seo_format_count(count, seo_params_elements(&e->params)), e->files,
                   e->files == 1 ? "" : "s", args->dtype == SEO_DTYPE_BF16 ? "bfloat16" : "float32",
                   positions,
                   args->dtype == SEO_DTYPE_BF16 ? " as the rounded parameters give them" : "");
    if (!e->tokenizer) seo_buf_text(report, "the checkpoint has no tokenizer: none is written\n");
    SEO_TRY(seo_buf_check(report));
done:
    if (err != SEO_OK) seo_hf_folder_drop(e->made);
    export_free(e);
    free(e);
    return err;
}
