/* seodang eval */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "train/cli/cli.h"
#include "train/eval.h"
#include "train/restore.h"
#include "train/signal.h"
#include "train/task.h"
#include "train/world/launch.h"

static const seo_cli_command k_command = {
    .name = "eval",
    .operands = "RUN|CHECKPOINT",
    .summary = "Tests a model on a split of a dataset, where every token is scored once, or on the "
               "examples of a task.",
    .example = "seodang eval runs/first --data shards\n"
               "seodang eval runs/author --json\n"
               "seodang eval runs/first/checkpoints/step-00001000 --data shards --json",
    .operands_min = 1,
    .operands_max = 1};

typedef struct eval_options {
    const char *data, *split, *device;
    int64_t threads;
    bool json;
} eval_options;

/* The numbers mean something only for the tokens the model was trained on. */
static seo_err check_tokenizer(const seo_restored *restored, const seo_dataset *dataset) {
    const seo_dataset_info info = seo_dataset_info_get(dataset);
    const char *trained = restored->state.tokenizer_sha256;
    if (info.vocab_size > restored->config.model.vocab_size) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s has a vocabulary of %lld, the model one of %lld",
                        seo_dataset_name(dataset), (long long)info.vocab_size,
                        (long long)restored->config.model.vocab_size);
    }
    if (trained[0] == '\0' || strcmp(trained, info.tokenizer_sha256) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s was made with another tokenizer than the model's: build it again with "
                    "--tokenizer %s",
                    seo_dataset_name(dataset), restored->tokenizer_path);
}

/* A task's examples: those of --data, or the run's own task.held_out. */
static seo_err evaluate_task(const seo_restored *restored, const eval_options *o, seo_buf *out) {
    seo_err err = SEO_OK;
    seo_task *task = NULL;
    seo_task_result result = {0};
    const char *file = o->data ? o->data : restored->config.task.held_out;
    if (file[0] == '\0') {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s has no task.held_out: give --data FILE, examples like those of %s",
                        restored->path, restored->config.task.examples);
    }
    SEO_TRY(seo_task_open(&(seo_task_args){.config = &restored->config,
                                           .tokenizer_path = restored->tokenizer_path,
                                           .held_out = file},
                          &task));
    SEO_TRY(seo_task_eval(&(seo_task_eval_args){.task = task,
                                                .model = restored->model,
                                                .batch = restored->config.train.micro_batch,
                                                .label = "evaluating"},
                          &result));
    if (o->json) {
        seo_task_json(task, &result, restored->state.step, out);
    } else {
        seo_buf_format(out, "checkpoint      %s\nexamples        %s\n", restored->path, file);
        seo_task_table(task, &result, out);
    }
    SEO_TRY(seo_buf_check(out));
done:
    seo_task_result_free(&result);
    seo_task_close(task);
    return err;
}

/* A model that completes prompts can be tested on text as well; one that gives labels cannot. */
static seo_err choose(const seo_restored *restored, const eval_options *o, bool *of_task) {
    seo_path_kind kind = SEO_PATH_NONE;
    const seo_task_kind task = restored->config.task.kind;
    *of_task = false;
    if (task == SEO_TASK_PRETRAIN) {
        if (o->data) return SEO_OK;
        return SEO_FAIL(SEO_ERR_USAGE, "--data DIR is missing: the folder of a built dataset");
    }
    const seo_err err = o->data ? seo_path_look(o->data, &kind) : SEO_OK;
    *of_task = kind != SEO_PATH_DIR;
    if (err != SEO_OK || *of_task || task == SEO_TASK_PAIRS) return err;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s gives labels and predicts no text: give --data FILE, examples like those "
                    "of %s",
                    restored->path, restored->config.task.examples);
}

static seo_err evaluate(const char *path, const eval_options *o, seo_buf *out) {
    seo_err err = SEO_OK;
    seo_dataset *dataset = NULL;
    seo_restored restored = {0};
    seo_eval_result result = {0};
    seo_tokenizer *tokenizer = NULL;
    seo_device_choice device = SEO_DEVICE_AUTO;
    bool of_task = false;
    SEO_TRY(seo_device_choice_parse(o->device, &device));
    const seo_restore_args restore = {
        .path = path, .mode = SEO_MODEL_EVAL, .device = device, .threads = (int32_t)o->threads};
    SEO_TRY(seo_restore(&restore, &restored));
    SEO_TRY(choose(&restored, o, &of_task));
    if (of_task) {
        err = evaluate_task(&restored, o, out);
        goto done;
    }
    SEO_TRY(seo_dataset_open(o->data, o->split, &dataset));
    SEO_TRY(check_tokenizer(&restored, dataset));
    if (seo_family_is_encoder(restored.config.model.family)) {
        SEO_TRY(seo_tokenizer_load(restored.tokenizer_path, &tokenizer));
    }
    SEO_TRY(seo_eval(&(seo_eval_args){.model = restored.model,
                                      .batch = restored.config.train.micro_batch,
                                      .datasets = &dataset,
                                      .dataset_count = 1,
                                      .data = &restored.config.data,
                                      .tokenizer = tokenizer,
                                      .label = "evaluating"},
                     &result));
    if (o->json) {
        seo_eval_json(&result, restored.state.step, out);
    } else {
        seo_buf_format(out, "checkpoint      %s\ndata            %s\n", restored.path,
                       seo_dataset_name(dataset));
        seo_eval_table(&result, out);
    }
    SEO_TRY(seo_buf_check(out));
done:
    seo_eval_free(&result);
    seo_restored_close(&restored);
    seo_tokenizer_free(tokenizer);
    seo_dataset_close(dataset);
    return err;
}

/* Processes that a launcher started together would each do the whole of it. (Alone in a batch
 * script a process may call itself rank 0 of a job.) */
static seo_err check_alone(void) {
    seo_launch launch;
    const seo_err err = seo_launch_find(&launch);
    if (err != SEO_OK || launch.size == 1) return err;
    if (launch.launcher != SEO_LAUNCH_MPI && !launch.mpi && launch.rank == 0) return SEO_OK;
    return SEO_FAIL(
        SEO_ERR_USAGE,
        "seodang eval is the work of one process, and this is rank %d of %d: start it "
        "without mpirun or srun (a run over many ranks evaluates by itself: eval.every)",
        (int)launch.rank, (int)launch.size);
}

int seo_cli_eval(int argc, char **argv) {
    eval_options o = {.split = "held-out", .device = "auto"};
    bool helped = false;
    const seo_cli_option options[] = {
        {.name = "data",
         .type = SEO_CLI_TEXT,
         .value = &o.data,
         .operand = "DIR|FILE",
         .help = "folder of a built dataset; of a task a file of examples, task.held_out if it is "
                 "not given"},
        {.name = "split",
         .type = SEO_CLI_TEXT,
         .value = &o.split,
         .operand = "NAME",
         .help = "held-out or train"},
        {.name = "json", .type = SEO_CLI_FLAG, .value = &o.json, .help = "one JSON object"},
        SEO_CLI_DEVICE(&o.device),
        SEO_CLI_THREADS(&o.threads),
    };
    seo_err err = SEO_OK;
    seo_cli_list operands = {0};
    seo_buf out = {0};
    SEO_TRY(
        seo_cli_parse(&k_command, options, SEO_COUNT_OF(options), argc, argv, &operands, &helped));
    if (helped) goto done;
    SEO_TRY(check_alone());
    seo_signal_catch();
    SEO_TRY(evaluate(operands.items[0], &o, &out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    seo_signal_release();
    seo_buf_free(&out);
    seo_cli_list_free(&operands);
    return seo_cli_exit(err);
}
