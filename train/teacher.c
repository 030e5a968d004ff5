#include "train/teacher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "train/restore.h"

/* Names that one line of the log has room for. */
enum { NAMED_MAX = 12 };

static const char *path_of(const seo_teacher *teacher) {
    return seo_ckpt_path(teacher->ckpt);
}

int64_t seo_teacher_layer(int64_t layers, int64_t count, int64_t index) {
    if (count <= 1) return 0;
    return (2 * index * (layers - 1) + count - 1) / (2 * (count - 1));
}

/* ---- what has to fit ---- */

static bool wants_layers(const seo_config *config) {
    return strcmp(config->distill.layers, "none") != 0;
}

/* The layer of the teacher that layer `index` of the student begins as. */
static seo_err layer_of(const seo_teacher *teacher, const seo_config *config, int64_t index,
                        int64_t *out) {
    const int64_t layers = teacher->config.model.num_layers, count = config->model.num_layers;
    char word[SEO_CONFIG_TEXT_MAX];
    if (!seo_config_item(config->distill.layers, index, word)) {
        *out = seo_teacher_layer(layers, count, index);
        if (count <= layers) return SEO_OK;
        return SEO_FAIL(SEO_ERR_USAGE,
                        "distill.layers: the student has %lld layers, its teacher %s has %lld: say "
                        "which each begins as (0, 0, 1, 1, ...), or none for random ones",
                        (long long)count, path_of(teacher), (long long)layers);
    }
    if (seo_parse_int(word, out) && *out >= 0 && *out < layers) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "distill.layers: there is no layer %.60s: the teacher %s has the layers 0 to "
                    "%lld",
                    word, path_of(teacher), (long long)layers - 1);
}

static seo_err check_layers(const seo_teacher *teacher, const seo_config *config) {
    int64_t layer;
    if (!wants_layers(config) || config->checkpoint.init_from[0] != '\0') return SEO_OK;
    for (int64_t l = 0; l < config->model.num_layers; l++) {
        const seo_err err = layer_of(teacher, config, l, &layer);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

static seo_err check_model(const seo_teacher *teacher, const seo_config *config) {
    const seo_model_config *there = &teacher->config.model, *here = &config->model;
    const char *path = path_of(teacher);
    if (seo_family_is_encoder(there->family) != seo_family_is_encoder(here->family)) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "distill.teacher: %s fills in masked tokens and the student writes the "
                        "next one, or the other way round: give a teacher of the student's kind "
                        "(bert, roberta, distilbert; or gpt1, gpt2, gpt3)",
                        path);
    }
    if (there->classes > 0 || teacher->config.lora.rank > 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "distill.teacher: %s is fine-tuned (%s) and gives no probabilities of "
                        "tokens: give the model that it was made from",
                        path, there->classes > 0 ? "task.kind: classify" : "lora.rank");
    }
    if (here->next_sentence && there->type_vocab_size == 1) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "distill.teacher: %s has one token type, and the pairs of sentences that "
                        "the student reads have two: use model.next_sentence: false, or another "
                        "teacher",
                        path);
    }
    if (there->vocab_size != here->vocab_size) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "distill.teacher: %s has a vocabulary of %lld tokens, the student of %lld: "
                        "their probabilities cannot be compared. Give the student the teacher's "
                        "model.vocab_size and data built with the teacher's tokenizer, or another "
                        "teacher",
                        path, (long long)there->vocab_size, (long long)here->vocab_size);
    }
    if (there->seq_len < here->seq_len) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "distill.teacher: %s reads sequences of at most %lld tokens, the student's "
                        "have %lld: use model.seq_len: %lld",
                        path, (long long)there->seq_len, (long long)here->seq_len,
                        (long long)there->seq_len);
    }
    return SEO_OK;
}

seo_err seo_teacher_open(seo_config *config, seo_world *world, seo_teacher **out) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    *out = NULL;
    seo_teacher *teacher = calloc(1, sizeof *teacher);
    if (!teacher) return SEO_FAIL(SEO_ERR_MEMORY, "a teacher");
    err = seo_ckpt_open(config->distill.teacher, world, &teacher->ckpt);
    if (err != SEO_OK) {
        err = seo_err_context(err, "distill.teacher (a run folder, or one checkpoint of it)");
        goto done;
    }
    SEO_TRY(seo_path_join(path, path_of(teacher), "config.yaml"));
    SEO_TRY(seo_config_load_resolved(path, &teacher->config));
    SEO_TRY(check_model(teacher, config));
    SEO_TRY(check_layers(teacher, config));
    const int64_t width = teacher->config.model.hidden_size;
    const bool compared = config->distill.cosine > 0 && width != config->model.hidden_size;
    config->model.distill_width = compared ? width : 0;
    *out = teacher;
    teacher = NULL;
done:
    seo_teacher_close(teacher);
    return err;
}

void seo_teacher_close(seo_teacher *teacher) {
    if (!teacher) return;
    seo_ckpt_close(teacher->ckpt);
    free(teacher);
}

seo_err seo_teacher_check_tokenizer(const seo_teacher *teacher, const char *tokenizer_sha256,
                                    bool tell) {
    const char *there = seo_ckpt_state_of(teacher->ckpt)->tokenizer_sha256;
    const char *path = path_of(teacher);
    if (there[0] == '\0' || tokenizer_sha256[0] == '\0') {
        if (tell) {
            seo_warn(
                "distill.teacher: %s does not tell its tokenizer: that ids mean the same text to "
                "teacher and student is not known",
                there[0] == '\0' ? path : "the data");
        }
        return SEO_OK;
    }
    if (strcmp(there, tokenizer_sha256) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "distill.teacher: %s was trained with another tokenizer than the data is made "
                    "of (SHA-256 %.12s there, %.12s here): its probabilities are of other tokens. "
                    "Build the data again with the teacher's: seodang data build --tokenizer "
                    "%s/tokenizer.json",
                    path, there, tokenizer_sha256, path);
}

/* ---- initial values ---- */

static bool starts_at_two(const seo_model_config *config) {
    return config->family == SEO_FAMILY_ROBERTA;
}

/* The name that a row of the student has in the teacher, "" where it begins otherwise. */
static seo_err name_there(const seo_teacher *teacher, const seo_config *config,
                          const seo_param *param, char out[SEO_PARAM_NAME_MAX]) {
    int64_t layer = 0;
    out[0] = '\0';
    if (strncmp(param->name, "distill.", 8) == 0) return SEO_OK;
    /* The same row of the table is another position there. */
    const bool shifted = starts_at_two(&teacher->config.model) != starts_at_two(&config->model);
    if (strcmp(param->name, "wpe") == 0 && shifted) return SEO_OK;
    if (param->block == SEO_PARAM_NO_BLOCK) {
        snprintf(out, SEO_PARAM_NAME_MAX, "%s", param->name);
        return SEO_OK;
    }
    const seo_err err = layer_of(teacher, config, param->block, &layer);
    if (err != SEO_OK) return err;
    const char *rest = strchr(param->name + strlen("blocks."), '.');
    SEO_ASSERT(rest != NULL);
    const int bytes = snprintf(out, SEO_PARAM_NAME_MAX, "blocks.%lld%s", (long long)layer, rest);
    SEO_ASSERT(bytes < SEO_PARAM_NAME_MAX);
    return SEO_OK;
}

/* A longer or shorter context has the same positions as far as both go. */
static bool fits(const seo_param *param, const seo_ckpt_tensor *there) {
    const bool positions = strcmp(param->name, "wpe") == 0;
    bool same = there->rank == param->rank;
    for (int32_t d = positions ? 1 : 0; same && d < param->rank; d++) {
        same = there->dims[d] == param->dims[d];
    }
    return same;
}

static void tell_layers(const seo_teacher *teacher, const seo_config *config) {
    seo_buf text = {0};
    const seo_model_config *there = &teacher->config.model, *here = &config->model;
    if (there->hidden_size != here->hidden_size) {
        seo_info("init        random: the teacher is %lld wide, the student %lld",
                 (long long)there->hidden_size, (long long)here->hidden_size);
        return;
    }
    for (int64_t l = 0; l < config->model.num_layers; l++) {
        int64_t layer = 0;
        if (layer_of(teacher, config, l, &layer) != SEO_OK) break;
        seo_buf_format(&text, "%s%lld", l > 0 ? ", " : "", (long long)layer);
    }
    if (text.data && !text.failed) {
        seo_info("init        %s %s of the %lld of %s", here->num_layers == 1 ? "layer" : "layers",
                 text.data, (long long)there->num_layers, path_of(teacher));
    }
    seo_buf_free(&text);
}

/* The student's table with the teacher's names: rows without a fitting one have a name that no
 * checkpoint holds. */
static seo_err rename_rows(const seo_teacher *teacher, const seo_config *config, seo_params *params,
                           bool tell) {
    seo_err err = SEO_OK;
    seo_buf others = {0};
    int64_t count = 0;
    for (int64_t row = 0; row < params->count; row++) {
        seo_param *param = &params->items[row];
        seo_ckpt_tensor there;
        char name[SEO_PARAM_NAME_MAX];
        SEO_TRY(name_there(teacher, config, param, name));
        seo_param renamed = *param;
        snprintf(renamed.name, sizeof renamed.name, "%s", name);
        if (name[0] != '\0' && seo_restore_find(teacher->ckpt, &renamed, &there) &&
            fits(param, &there)) {
            *param = renamed;
            continue;
        }
        if (count < NAMED_MAX) seo_buf_format(&others, "%s%s", count ? ", " : "", param->name);
        if (count++ == NAMED_MAX) seo_buf_text(&others, ", ...");
        param->name[0] = '\0';
    }
    if (tell && count > 0 && others.data && !others.failed) {
        seo_info("init        not from the teacher, which has none of this shape, %lld rows: %s",
                 (long long)count, others.data);
    }
done:
    seo_buf_free(&others);
    return err;
}

seo_err seo_teacher_initial(const seo_teacher *teacher, const seo_config *config, seo_model *model,
                            bool tell) {
    seo_err err = SEO_OK;
    seo_restore_list list = {.dev = seo_model_device(model)};
    seo_params renamed = *seo_model_table(model);
    const size_t bytes = (size_t)renamed.count * sizeof *renamed.items;
    if (!wants_layers(config)) return SEO_OK;
    renamed.items = malloc(bytes);
    if (!renamed.items) return SEO_FAIL(SEO_ERR_MEMORY, "a table of %lld rows", (long long)bytes);
    memcpy(renamed.items, seo_model_table(model)->items, bytes);
    const bool same_width = teacher->config.model.hidden_size == config->model.hidden_size;
    if (tell) tell_layers(teacher, config);
    SEO_TRY(rename_rows(teacher, config, &renamed, tell && same_width));
    SEO_TRY(seo_restore_add_common(&list, &renamed, seo_model_weights(model), teacher->ckpt));
    SEO_TRY(seo_restore_read(&list, teacher->ckpt));
done:
    seo_restore_list_free(&list);
    free(renamed.items);
    return err;
}

/* ---- the model ---- */

/* What the student's passes ask of the teacher: its outputs at the student's picks, and no heads
 * beside. */
static seo_model_config asked_of(const seo_teacher *teacher, const seo_config *student) {
    seo_model_config config = teacher->config.model;
    config.picks = student->model.picks;
    config.has_spans = student->model.has_spans;
    config.next_sentence = false;
    config.distill_width = 0;
    config.dropout = 0;
    config.attention_dropout = 0;
    return config;
}

seo_err seo_teacher_model(const seo_teacher *teacher, const seo_config *student, seo_device *dev,
                          seo_dtype storage, seo_model **out) {
    seo_err err = SEO_OK;
    seo_model *model = NULL;
    seo_restore_list list = {.dev = dev};
    const seo_model_config config = asked_of(teacher, student);
    *out = NULL;
    SEO_TRY(seo_model_open(&(seo_model_args){.dev = dev,
                                             .config = &config,
                                             .mode = SEO_MODEL_EVAL,
                                             .batch = student->train.micro_batch,
                                             .storage = storage,
                                             .uninitialised = true},
                           &model));
    SEO_TRY(seo_restore_add(&list, "parameters", seo_model_table(model), seo_model_weights(model)));
    SEO_TRY(seo_restore_read(&list, teacher->ckpt));
    SEO_TRY(seo_model_refresh(model));
    *out = model;
    model = NULL;
done:
    seo_restore_list_free(&list);
    seo_model_close(model);
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "distill.teacher");
}

seo_err seo_teacher_measure(const seo_teacher *teacher, const seo_config *student,
                            const seo_device_facts *facts, seo_dtype storage, int64_t micro_batch,
                            seo_memory_table *out) {
    const seo_model_config config = asked_of(teacher, student);
    seo_memory_table rows = {0};
    const seo_err err = seo_model_measure(
        &(seo_model_args){
            .config = &config, .mode = SEO_MODEL_EVAL, .batch = micro_batch, .storage = storage},
        facts, &rows);
    if (err == SEO_OK) seo_memory_add(out, "teacher", seo_memory_total(&rows));
    return err;
}
