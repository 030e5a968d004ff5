/* seodang generate */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "data/tokenizer.h"
#include "train/cli/cli.h"
#include "train/generate.h"
#include "train/restore.h"
#include "train/signal.h"

static const seo_cli_command k_command = {
    .name = "generate",
    .operands = "RUN|CHECKPOINT",
    .summary = "Lets a model go on with a text, until its end-of-text token or --max-tokens.",
    .example =
        "seodang generate runs/first --prompt \"In the beginning\" --max-tokens 200 --seed 1",
    .operands_min = 1,
    .operands_max = 1};

typedef struct generate_options {
    const char *prompt, *device;
    int64_t max_tokens, top_k, seed, threads;
    double temperature, top_p;
    bool ignore_eot, json;
} generate_options;

/* What is written while the model speaks. */
typedef struct writing {
    const generate_options *o;
    const seo_tokenizer *tokenizer;
    seo_generator *generator;
    seo_ids prompt;
    seo_ids ids;   /* the new ones */
    seo_buf text;  /* all of it, the prompt first */
    seo_buf fresh; /* what came since the last print */
    seo_utf8_stream stream;
    bool ended; /* by the end-of-text token */
} writing;

/* An empty prompt begins as a document does: after an end-of-text token. */
static seo_err encode_prompt(writing *w, const seo_restored *restored) {
    seo_err err = SEO_OK;
    seo_encoder *encoder = NULL;
    SEO_TRY(seo_encoder_open(w->tokenizer, &encoder));
    SEO_TRY(seo_encode(encoder, w->o->prompt, strlen(w->o->prompt), false, &w->prompt));
    if (w->prompt.count == 0) {
        SEO_TRY(seo_encode(encoder, "<|endoftext|>", strlen("<|endoftext|>"), true, &w->prompt));
    }
    for (int64_t i = 0; i < w->prompt.count; i++) {
        if (w->prompt.items[i] >= restored->config.model.vocab_size) {
            err = SEO_FAIL(SEO_ERR_FORMAT,
                           "%s: its token %d is beyond the model's vocabulary of %lld",
                           restored->tokenizer_path, (int)w->prompt.items[i],
                           (long long)restored->config.model.vocab_size);
            goto done;
        }
    }
done:
    seo_encoder_close(encoder);
    return err;
}

static seo_err print_fresh(writing *w) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_buf_check(&w->fresh));
    if (w->fresh.bytes == 0) goto done;
    seo_buf_add(&w->text, w->fresh.data, w->fresh.bytes);
    if (!w->o->json) SEO_TRY(seo_cli_print(w->fresh.data, (int64_t)w->fresh.bytes));
    seo_buf_clear(&w->fresh);
done:
    return err;
}

/* A model may have more logits than the tokenizer has pieces; such an id has no text. */
static seo_err add_token(writing *w, int32_t id) {
    const unsigned char *bytes = NULL;
    size_t count = 0;
    if (seo_tokenizer_piece(w->tokenizer, id, &bytes, &count)) {
        seo_buf text = {0};
        const bool first = w->prompt.count == 0 && w->ids.count == 1;
        const seo_err err = seo_decode_one(w->tokenizer, id, first, &text);
        if (err == SEO_OK) {
            seo_utf8_stream_add(&w->stream, text.data, (int64_t)text.bytes, &w->fresh);
        }
        seo_buf_free(&text);
        if (err != SEO_OK) return err;
    }
    return print_fresh(w);
}

static seo_err keep_id(seo_ids *ids, int32_t id) {
    if (ids->count == ids->capacity) {
        const int64_t capacity = ids->capacity ? ids->capacity * 2 : 256;
        int32_t *items = realloc(ids->items, (size_t)capacity * sizeof *items);
        if (!items) return SEO_FAIL(SEO_ERR_MEMORY, "%lld tokens", (long long)capacity);
        ids->items = items;
        ids->capacity = capacity;
    }
    ids->items[ids->count++] = id;
    return SEO_OK;
}

static seo_err write_on(writing *w) {
    seo_err err = SEO_OK;
    const int32_t eot = seo_tokenizer_eot(w->tokenizer);
    seo_utf8_stream_add(&w->stream, w->o->prompt, (int64_t)strlen(w->o->prompt), &w->fresh);
    SEO_TRY(print_fresh(w));
    SEO_TRY(seo_generator_prompt(w->generator, w->prompt.items, w->prompt.count));
    while (w->ids.count < w->o->max_tokens && !w->ended && seo_signal_asked() == 0) {
        int32_t id = 0;
        SEO_TRY(seo_generator_next(w->generator, &id));
        SEO_TRY(keep_id(&w->ids, id));
        w->ended = id == eot && !w->o->ignore_eot;
        if (!w->ended) SEO_TRY(add_token(w, id));
    }
    seo_utf8_stream_end(&w->stream, &w->fresh);
    SEO_TRY(print_fresh(w));
done:
    return err;
}

static seo_err print_json(writing *w, const seo_restored *restored) {
    seo_buf out = {0};
    seo_buf_text(&out, "{\"prompt\": ");
    seo_buf_json_string(&out, w->o->prompt, strlen(w->o->prompt));
    seo_buf_text(&out, ", \"text\": ");
    seo_buf_json_string(&out, w->text.data ? w->text.data : "", w->text.bytes);
    seo_buf_text(&out, ", \"ids\": [");
    for (int64_t i = 0; i < w->ids.count; i++) {
        seo_buf_format(&out, i > 0 ? ", %d" : "%d", (int)w->ids.items[i]);
    }
    seo_buf_format(&out,
                   "], \"tokens\": %lld, \"finish\": \"%s\", \"seed\": %lld, \"step\": %lld}\n",
                   (long long)w->ids.count, w->ended ? "eot" : "length", (long long)w->o->seed,
                   (long long)restored->state.step);
    seo_err err = seo_buf_check(&out);
    if (err == SEO_OK) err = seo_cli_print(out.data, (int64_t)out.bytes);
    seo_buf_free(&out);
    return err;
}

static seo_err generate(const char *path, const generate_options *o) {
    seo_err err = SEO_OK;
    seo_restored restored = {0};
    seo_tokenizer *tokenizer = NULL;
    seo_device_choice device = SEO_DEVICE_AUTO;
    writing w = {.o = o};
    const seo_sample_args sample = {.temperature = o->temperature,
                                    .top_k = o->top_k,
                                    .top_p = o->top_p,
                                    .seed = (uint64_t)o->seed};
    SEO_TRY(seo_device_choice_parse(o->device, &device));
    const seo_restore_args restore = {
        .path = path, .mode = SEO_MODEL_GENERATE, .device = device, .threads = (int32_t)o->threads};
    SEO_TRY(seo_restore(&restore, &restored));
    SEO_TRY(seo_tokenizer_load(restored.tokenizer_path, &tokenizer));
    w.tokenizer = tokenizer;
    SEO_TRY(encode_prompt(&w, &restored));
    SEO_TRY(seo_generator_open(restored.model, &sample, &w.generator));
    SEO_TRY(write_on(&w));
    SEO_TRY(o->json ? print_json(&w, &restored) : seo_cli_print("\n", 1));
done:
    seo_generator_close(w.generator);
    seo_ids_free(&w.prompt);
    seo_ids_free(&w.ids);
    seo_buf_free(&w.text);
    seo_buf_free(&w.fresh);
    seo_tokenizer_free(tokenizer);
    seo_restored_close(&restored);
    return err;
}

static seo_err parse(int argc, char **argv, generate_options *o, seo_cli_list *operands,
                     bool *helped) {
    const double most = 9e15;
    const seo_cli_option options[] = {
        {.name = "prompt",
         .type = SEO_CLI_TEXT,
         .value = &o->prompt,
         .operand = "TEXT",
         .help = "what to go on with; without it the model begins a document"},
        {.name = "max-tokens",
         .type = SEO_CLI_INT,
         .value = &o->max_tokens,
         .operand = "N",
         .help = "most tokens to add",
         .min = 0,
         .max = most},
        {.name = "temperature",
         .type = SEO_CLI_FLOAT,
         .value = &o->temperature,
         .operand = "T",
         .help = "0: always the most likely token; 1: as the model says",
         .min = 0,
         .max = 100},
        {.name = "top-k",
         .type = SEO_CLI_INT,
         .value = &o->top_k,
         .operand = "K",
         .help = "choose among the K most likely; 0: among all",
         .min = 0,
         .max = most},
        {.name = "top-p",
         .type = SEO_CLI_FLOAT,
         .value = &o->top_p,
         .operand = "P",
         .help = "of these, among the most likely that make up P",
         .min = 1e-9,
         .max = 1},
        {.name = "seed",
         .type = SEO_CLI_INT,
         .value = &o->seed,
         .operand = "S",
         .help = "the same seed gives the same text",
         .min = 0,
         .max = most},
        {.name = "ignore-eot",
         .type = SEO_CLI_FLAG,
         .value = &o->ignore_eot,
         .help = "go on past the end-of-text token"},
        {.name = "json", .type = SEO_CLI_FLAG, .value = &o->json, .help = "one JSON object"},
        SEO_CLI_DEVICE(&o->device),
        SEO_CLI_THREADS(&o->threads),
    };
    return seo_cli_parse(&k_command, options, SEO_COUNT_OF(options), argc, argv, operands, helped);
}

int seo_cli_generate(int argc, char **argv) {
    generate_options o = {.prompt = "",
                          .device = "auto",
                          .max_tokens = 200,
                          .temperature = 0.8,
                          .top_k = 50,
                          .top_p = 1,
                          .seed = 1};
    seo_err err = SEO_OK;
    seo_cli_list operands = {0};
    bool helped = false;
    SEO_TRY(parse(argc, argv, &o, &operands, &helped));
    if (helped) goto done;
    seo_signal_catch();
    err = generate(operands.items[0], &o);
    seo_signal_release();
done:
    seo_cli_list_free(&operands);
    return seo_cli_exit(err);
}
