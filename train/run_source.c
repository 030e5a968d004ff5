/* Beginning from another run's parameters (checkpoint.init_from): they are read, and nothing else
 * of that run goes on. Moments, schedule, step and data are the new run's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "train/config_rules.h"
#include "train/run_state.h"

/* Rows that one message names. */
enum { NAMED_MAX = 12 };

seo_err seo_run_find_source(seo_run *run) {
    seo_world *world = run->world.size > 1 ? run->world.line : NULL;
    const char *path = run->config.checkpoint.init_from;
    char *real = NULL;
    if (run->resumed_from) {
        return run->config.lora.rank > 0
                   ? seo_restore_open_base(run->resumed_from, world, &run->source)
                   : SEO_OK;
    }
    if (path[0] == '\0') return SEO_OK;
    seo_err err = seo_ckpt_open(path, world, &run->source);
    if (err != SEO_OK) {
        return seo_err_context(err, "checkpoint.init_from (a run folder, or one checkpoint of it)");
    }
    /* The folder from wherever the next attempt is started. */
    real = realpath(seo_ckpt_path(run->source), NULL);
    snprintf(run->state.base_path, sizeof run->state.base_path, "%s",
             real ? real : seo_ckpt_path(run->source));
    snprintf(run->state.base_hash, sizeof run->state.base_hash, "%s", seo_ckpt_hash(run->source));
    free(real);
    return SEO_OK;
}

static seo_err check_tokenizer(const seo_run *run) {
    char tokenizer[SEO_PATH_MAX];
    const char *there = seo_ckpt_state_of(run->source)->tokenizer_sha256;
    const char *here = run->state.tokenizer_sha256, *path = seo_ckpt_path(run->source);
    seo_path_kind kind = SEO_PATH_NONE;
    if (there[0] == '\0' || here[0] == '\0') {
        if (seo_run_speaks(run)) {
            seo_warn("checkpoint.init_from: %s does not tell its tokenizer: that ids mean the same "
                     "text here is not known",
                     there[0] == '\0' ? path : "the data");
        }
        return SEO_OK;
    }
    if (strcmp(there, here) == 0) return SEO_OK;
    seo_err err = seo_path_join(tokenizer, path, "tokenizer.json");
    if (err == SEO_OK) err = seo_path_look(tokenizer, &kind);
    if (err != SEO_OK) return err;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "checkpoint.init_from: %s was trained with another tokenizer than the data is "
                    "made of (SHA-256 %.12s there, %.12s here): its ids mean other text. Build the "
                    "data again with the tokenizer of the checkpoint: seodang data build "
                    "--tokenizer %s",
                    path, there, here,
                    kind == SEO_PATH_FILE ? tokenizer : "FILE (the one that run was given)");
}

static const char *gelu_word(seo_gelu_kind kind) {
    return kind == SEO_GELU_TANH ? "gelu_tanh" : "gelu_erf";
}

/* What has to be the same for parameters to mean the same. */
static int64_t add_differences(const seo_model_config *there, const seo_model_config *here,
                               seo_buf *out) {
    const struct {
        const char *key;
        int64_t there, here;
    } sizes[] = {{"num_layers", there->num_layers, here->num_layers},
                 {"num_heads", there->num_heads, here->num_heads},
                 {"hidden_size", there->hidden_size, here->hidden_size},
                 {"ffn_hidden_size", there->ffn_hidden_size, here->ffn_hidden_size},
                 {"vocab_size", there->vocab_size, here->vocab_size},
                 {"type_vocab_size", there->type_vocab_size, here->type_vocab_size}};
    int64_t count = 0;
    const bool dense = there->family <= SEO_FAMILY_GPT3 && here->family <= SEO_FAMILY_GPT3;
    if (there->family != here->family && !dense) {
        seo_buf_format(out, "\n  model.family is %s there, %s here",
                       seo_config_family_name(there->family), seo_config_family_name(here->family));
        count++;
    }
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        if (sizes[i].there == sizes[i].here) continue;
        seo_buf_format(out, "\n  model.%s is %lld there, %lld here", sizes[i].key,
                       (long long)sizes[i].there, (long long)sizes[i].here);
        count++;
    }
    if (there->activation != here->activation) {
        seo_buf_format(out, "\n  model.activation is %s there, %s here",
                       gelu_word(there->activation), gelu_word(here->activation));
        count++;
    }
    if (there->norm_eps < here->norm_eps || there->norm_eps > here->norm_eps) {
        seo_buf_format(out, "\n  model.norm_eps is %g there, %g here", there->norm_eps,
                       here->norm_eps);
        count++;
    }
    return count;
}

static seo_err check_config(const seo_run *run, const seo_config *there) {
    seo_buf text = {0};
    const char *path = seo_ckpt_path(run->source);
    if (there->lora.rank > 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "checkpoint.init_from: %s holds adapters (lora.rank) and not the "
                        "parameters they belong to. Write both into one checkpoint and begin from "
                        "that: seodang checkpoint merge %s --out DIR",
                        path, path);
    }
    seo_err err = SEO_OK;
    if (add_differences(&there->model, &run->config.model, &text) > 0) {
        err = seo_buf_check(&text);
        if (err == SEO_OK) {
            err = SEO_FAIL(SEO_ERR_USAGE,
                           "checkpoint.init_from: %s is of another model:%s\ngive what it has "
                           "(its config.yaml), or begin from another checkpoint",
                           path, text.data);
        }
    }
    seo_buf_free(&text);
    return err;
}

/* "(16, 32)" */
static void add_shape(int32_t rank, const int64_t *dims, seo_buf *out) {
    if (rank == 2) {
        seo_buf_format(out, "(%lld, %lld)", (long long)dims[0], (long long)dims[1]);
    } else {
        seo_buf_format(out, "(%lld)", (long long)dims[0]);
    }
}

/* A longer or shorter context has the same positions as far as both go; but new ones cannot stay
 * random beside adapters. */
static bool fits_in_part(const seo_param *param, const seo_ckpt_tensor *found) {
    return strcmp(param->name, "wpe") == 0 && (!param->frozen || found->dims[0] >= param->dims[0]);
}

/* Another shape than the configurations let expect. */
static seo_err check_shapes(const seo_run *run, const seo_params *params) {
    seo_buf text = {0};
    seo_err err = SEO_OK;
    int64_t count = 0;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *param = &params->items[row];
        seo_ckpt_tensor found;
        if (!seo_restore_find(run->source, param, &found)) continue;
        bool same = found.rank == param->rank;
        for (int32_t d = fits_in_part(param, &found) ? 1 : 0; same && d < param->rank; d++) {
            same = found.dims[d] == param->dims[d];
        }
        if (same || count++ >= NAMED_MAX) continue;
        seo_buf_format(&text, "\n  %s: ", param->name);
        add_shape(found.rank, found.dims, &text);
        seo_buf_text(&text, " there, ");
        add_shape(param->rank, param->dims, &text);
        seo_buf_text(&text, " here");
    }
    if (count > 0) {
        err = seo_buf_check(&text);
        if (err == SEO_OK) {
            err = SEO_FAIL(SEO_ERR_USAGE,
                           "checkpoint.init_from: %s has %lld parameters of another shape:%s\ngive "
                           "the model section of its config.yaml (a classification head: as many "
                           "task.labels), or begin from another checkpoint",
                           seo_ckpt_path(run->source), (long long)count, text.data);
        }
    }
    seo_buf_free(&text);
    return err;
}

static void add_name(const char *name, int64_t *count, seo_buf *out) {
    if (*count < NAMED_MAX) seo_buf_format(out, "%s%s", *count > 0 ? ", " : "", name);
    if (*count == NAMED_MAX) seo_buf_text(out, ", ...");
    (*count)++;
}

static void tell_names(const char *what, int64_t count, const seo_buf *names) {
    if (count > 0 && names->data && !names->failed) {
        seo_info("%s%lld rows: %s", what, (long long)count, names->data);
    }
}

/* What is new, what was left, and where the context is another one. */
static void tell(const seo_run *run, const seo_params *params) {
    seo_buf added = {0}, left = {0};
    int64_t added_count = 0, left_count = 0;
    seo_ckpt_tensor t;
    static const char prefix[] = "parameters/";
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *param = &params->items[row];
        if (!seo_restore_find(run->source, param, &t)) {
            add_name(param->name, &added_count, &added);
        } else if (t.dims[0] != param->dims[0]) {
            seo_info("init        %s: the first %lld rows of %lld are the source's%s", param->name,
                     (long long)seo_min_i64(t.dims[0], param->dims[0]), (long long)param->dims[0],
                     t.dims[0] < param->dims[0] ? ", the others random" : "");
        }
    }
    for (int64_t i = 0; i < seo_ckpt_tensor_count(run->source); i++) {
        t = seo_ckpt_tensor_at(run->source, i);
        if (strncmp(t.name, prefix, sizeof prefix - 1) != 0) continue;
        const char *name = t.name + sizeof prefix - 1;
        if (seo_params_find(params, name) < 0) add_name(name, &left_count, &left);
    }
    tell_names("init        new, with random values, ", added_count, &added);
    tell_names("init        left in the source, ", left_count, &left);
    seo_buf_free(&left);
    seo_buf_free(&added);
}

seo_err seo_run_check_source(seo_run *run) {
    seo_err err = SEO_OK;
    seo_params params = {0};
    char path[SEO_PATH_MAX];
    seo_config *there = calloc(1, sizeof *there);
    if (!there) return SEO_FAIL(SEO_ERR_MEMORY, "a configuration");
    if (!run->source) goto done;
    SEO_TRY(check_tokenizer(run));
    SEO_TRY(seo_path_join(path, seo_ckpt_path(run->source), "config.yaml"));
    SEO_TRY(seo_config_load_resolved(path, there));
    SEO_TRY(check_config(run, there));
    SEO_TRY(seo_model_params(&run->config.model, &params));
    SEO_TRY(check_shapes(run, &params));
    if (seo_run_speaks(run) && !run->resumed_from) tell(run, &params);
done:
    seo_params_free(&params);
    free(there);
    return err;
}

seo_err seo_run_read_source(seo_run *run) {
    seo_err err = SEO_OK;
    seo_restore_list list = {.dev = run->dev};
    if (!run->source) return SEO_OK;
    SEO_TRY(seo_restore_frozen(run->model, run->source));
    if (run->resumed_from) goto done;
    SEO_TRY(seo_restore_add_common(&list, seo_model_table(run->model),
                                   seo_model_weights(run->model), run->source));
    SEO_TRY(seo_restore_read(&list, run->source));
done:
    seo_restore_list_free(&list);
    seo_ckpt_close(run->source);
    run->source = NULL;
    return err;
}
