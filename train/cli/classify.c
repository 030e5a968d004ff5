/* seodang classify */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/text.h"
#include "train/cli/cli.h"
#include "train/restore.h"
#include "train/signal.h"
#include "train/task.h"

static const seo_cli_command k_command = {
    .name = "classify",
    .operands = "RUN|CHECKPOINT [FILE]",
    .summary = "Gives texts the label that a model with task.kind: classify finds most likely: "
               "one text, or each line of a file.",
    .example = "seodang classify runs/author --text \"It is a truth universally acknowledged\"\n"
               "seodang classify runs/author passages.txt --json",
    .operands_min = 1,
    .operands_max = 2};

enum { FILE_BYTES_MAX = 1 << 30 };

typedef struct classify_options {
    const char *text, *pair, *device;
    int64_t threads;
    bool json;
} classify_options;

typedef struct labeling {
    const classify_options *o;
    seo_restored restored;
    seo_task *task;
    float *logits;
    double *shares; /* probabilities */
    seo_buf out;
} labeling;

static void add_json(labeling *l, const char *text, int64_t best) {
    const int64_t count = seo_task_label_count(l->task);
    const char *label = seo_task_label(l->task, best);
    seo_buf_text(&l->out, "{\"text\": ");
    seo_buf_json_string(&l->out, text, strlen(text));
    seo_buf_text(&l->out, ", \"label\": ");
    seo_buf_json_string(&l->out, label, strlen(label));
    seo_buf_text(&l->out, ", \"probabilities\": {");
    for (int64_t c = 0; c < count; c++) {
        const char *name = seo_task_label(l->task, c);
        if (c > 0) seo_buf_text(&l->out, ", ");
        seo_buf_json_string(&l->out, name, strlen(name));
        seo_buf_text(&l->out, ": ");
        seo_buf_json_float(&l->out, l->shares[c], 6);
    }
    seo_buf_text(&l->out, "}}\n");
}

static seo_err label_text(labeling *l, const char *text) {
    seo_err err = SEO_OK;
    const int64_t count = seo_task_label_count(l->task);
    SEO_TRY(seo_task_logits(l->task, l->restored.model, text, l->o->pair, l->logits));
    seo_classify_probabilities(l->logits, count, l->shares);
    const int64_t best = seo_classify_guess(l->logits, count);
    seo_buf_clear(&l->out);
    if (l->o->json) {
        add_json(l, text, best);
    } else {
        seo_buf_format(&l->out, "%s\t%.4f", seo_task_label(l->task, best), l->shares[best]);
        seo_buf_format(&l->out, "\t%s\n", text);
    }
    SEO_TRY(seo_buf_check(&l->out));
    SEO_TRY(seo_cli_print(l->out.data, (int64_t)l->out.bytes));
done:
    return err;
}

/* Line by line; blank ones are left out. */
static seo_err label_file(labeling *l, const char *path) {
    char *text = NULL;
    int64_t bytes = 0;
    seo_err err = seo_file_read(path, FILE_BYTES_MAX, &text, &bytes);
    if (err != SEO_OK) return err;
    for (char *line = text, *end = text + bytes; line < end && err == SEO_OK;) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        char *after = stop + 1;
        while (stop > line && (stop[-1] == '\r' || stop[-1] == ' ')) stop--;
        char *one = strndup(line, (size_t)(stop - line));
        if (!one) err = SEO_FAIL(SEO_ERR_MEMORY, "a line of %s", path);
        if (one && one[0] != '\0') err = label_text(l, one);
        free(one);
        if (err == SEO_OK && seo_signal_asked() != 0) {
            err = SEO_FAIL(SEO_ERR_STOPPED, "the labelling was left off");
        }
        line = after;
    }
    free(text);
    return err;
}

static seo_err open_run(labeling *l, const char *path) {
    seo_err err = SEO_OK;
    seo_device_choice device = SEO_DEVICE_AUTO;
    SEO_TRY(seo_device_choice_parse(l->o->device, &device));
    const seo_restore_args restore = {
        .path = path, .mode = SEO_MODEL_EVAL, .device = device, .threads = (int32_t)l->o->threads};
    SEO_TRY(seo_restore(&restore, &l->restored));
    if (l->restored.config.task.kind != SEO_TASK_CLASSIFY) {
        err = SEO_FAIL(SEO_ERR_USAGE,
                       "%s was not trained to give labels (task.kind: classify with task.labels)",
                       l->restored.path);
        goto done;
    }
    SEO_TRY(seo_task_open(&(seo_task_args){.config = &l->restored.config,
                                           .tokenizer_path = l->restored.tokenizer_path},
                          &l->task));
    const size_t count = (size_t)seo_task_label_count(l->task);
    l->logits = calloc(count, sizeof *l->logits);
    l->shares = calloc(count, sizeof *l->shares);
    if (!l->logits || !l->shares) err = SEO_FAIL(SEO_ERR_MEMORY, "%zu labels", count);
done:
    return err;
}

static seo_err classify(const seo_cli_list *operands, const classify_options *o) {
    seo_err err = SEO_OK;
    labeling l = {.o = o};
    if ((operands->count == 2) == (o->text != NULL)) {
        return SEO_FAIL(SEO_ERR_USAGE, "give either --text TEXT or a file with a text a line");
    }
    if (o->pair && !o->text) {
        return SEO_FAIL(SEO_ERR_USAGE, "--pair TEXT is the second text beside --text");
    }
    SEO_TRY(open_run(&l, operands->items[0]));
    SEO_TRY(o->text ? label_text(&l, o->text) : label_file(&l, operands->items[1]));
done:
    seo_task_close(l.task);
    seo_restored_close(&l.restored);
    seo_buf_free(&l.out);
    free(l.logits);
    free(l.shares);
    return err;
}

int seo_cli_classify(int argc, char **argv) {
    classify_options o = {.device = "auto"};
    bool helped = false;
    const seo_cli_option options[] = {
        {.name = "text",
         .type = SEO_CLI_TEXT,
         .value = &o.text,
         .operand = "TEXT",
         .help = "the text that wants a label"},
        {.name = "pair",
         .type = SEO_CLI_TEXT,
         .value = &o.pair,
         .operand = "TEXT",
         .help = "a second text, for a model of pairs of texts"},
        {.name = "json", .type = SEO_CLI_FLAG, .value = &o.json, .help = "a JSON object a text"},
        SEO_CLI_DEVICE(&o.device),
        SEO_CLI_THREADS(&o.threads),
    };
    seo_err err = SEO_OK;
    seo_cli_list operands = {0};
    SEO_TRY(
        seo_cli_parse(&k_command, options, SEO_COUNT_OF(options), argc, argv, &operands, &helped));
    if (helped) goto done;
    seo_signal_catch();
    SEO_TRY(classify(&operands, &o));
done:
    seo_signal_release();
    seo_cli_list_free(&operands);
    return seo_cli_exit(err);
}
