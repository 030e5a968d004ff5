/* A run's opening, from what costs nothing to what costs memory: configuration, folder, checkpoint,
 * data, device, model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "train/run_state.h"
#include "train/schedule.h"

/* Batches that the loader keeps ready. */
enum { PREFETCH_BATCHES = 4 };

static seo_err open_own_folder(seo_run *run) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    SEO_TRY(seo_run_dir_open(run->args->run_dir, &run->dir));
    run->dir_open = true;
    SEO_TRY(seo_path_join(path, run->dir.path, "log.txt"));
    seo_log_file(path);
    run->log_open = true;
    if (run->args->from_scratch) SEO_TRY(seo_run_set_aside(run));
done:
    return err;
}

/* A rank that writes where rank 0 does not would leave a checkpoint in parts. */
static seo_err find_folder(seo_run *run, const char *owner) {
    char here[SEO_RUN_OWNER_MAX];
    snprintf(run->dir.path, sizeof run->dir.path, "%s", run->args->run_dir);
    const seo_err err = seo_run_dir_owner(run->dir.path, here);
    if (err != SEO_OK || strcmp(here, owner) != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s is not the folder that rank 0 has under this name: the ranks of a run "
                        "need one file system that all their hosts see",
                        run->args->run_dir);
    }
    return SEO_OK;
}

/* Rank 0 takes the folder for all. */
static seo_err open_folder(seo_run *run) {
    seo_err err = SEO_OK;
    char owner[SEO_RUN_OWNER_MAX] = "";
    const bool first = run->world.rank == 0;
    if (first) err = open_own_folder(run);
    if (err == SEO_OK && first && run->world.size > 1) {
        err = seo_run_dir_owner(run->dir.path, owner);
    }
    SEO_TRY(seo_run_agree(run, "the run's folder", err));
    SEO_TRY(seo_run_share(run, "the run's folder", owner, sizeof owner));
    SEO_TRY(seo_run_share(run, "the attempt", &run->dir.attempt, sizeof run->dir.attempt));
    SEO_TRY(seo_run_agree(run, "the run's folder", first ? SEO_OK : find_folder(run, owner)));
done:
    return err;
}

static const char *data_folder(const seo_run *run, int64_t index) {
    const seo_data_config *data = &run->config.data;
    return data->mix_count > 0 ? data->mix[index].path : data->path;
}

static seo_err check_vocabulary(const seo_run *run, const seo_dataset *dataset) {
    const seo_dataset_info info = seo_dataset_info_get(dataset);
    const seo_dataset_info first = seo_dataset_info_get(run->datasets[0]);
    if (info.vocab_size > run->config.model.vocab_size) {
        return SEO_FAIL(
            SEO_ERR_USAGE,
            "%s has a vocabulary of %lld, model.vocab_size is %lld: make it %lld or more",
            seo_dataset_name(dataset), (long long)info.vocab_size,
            (long long)run->config.model.vocab_size, (long long)info.vocab_size);
    }
    if (strcmp(info.tokenizer_sha256, first.tokenizer_sha256) != 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s and %s were made with different tokenizers",
                        seo_dataset_name(run->datasets[0]), seo_dataset_name(dataset));
    }
    return SEO_OK;
}

/* A dataset without a held-out split is trained on, and not evaluated on. */
static seo_err open_held_out(seo_run *run, const char *folder) {
    seo_dataset **slot = &run->held_out[run->held_out_count];
    const seo_err err = seo_dataset_open(folder, "held-out", slot);
    if (err == SEO_OK) run->held_out_count++;
    return err == SEO_ERR_MISSING ? SEO_OK : err;
}

/* Masks and pairs need to know which tokens are special. */
static seo_err open_tokenizer(seo_run *run) {
    if (!seo_family_is_encoder(run->config.model.family)) return SEO_OK;
    if (run->tokenizer_path[0] != '\0') {
        return seo_tokenizer_load(run->tokenizer_path, &run->tokenizer);
    }
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s has no tokenizer.json, which tells the mask token and the other special "
                    "ones: build the dataset again with seodang data build --tokenizer FILE",
                    data_folder(run, 0));
}

static seo_err open_data(seo_run *run) {
    seo_err err = SEO_OK;
    seo_path_kind kind = SEO_PATH_NONE;
    const seo_data_config *data = &run->config.data;
    const int64_t count = data->mix_count > 0 ? data->mix_count : 1;
    if (run->config.task.kind != SEO_TASK_PRETRAIN) return seo_run_open_task(run);
    for (int64_t d = 0; d < count; d++) {
        SEO_TRY(seo_dataset_open(data_folder(run, d), "train", &run->datasets[d]));
        run->dataset_count++;
        SEO_TRY(check_vocabulary(run, run->datasets[d]));
        if (data->mix_count > 0) run->weights[d] = data->mix[d].weight;
        if (run->config.eval.every > 0) SEO_TRY(open_held_out(run, data_folder(run, d)));
    }
    if (run->config.eval.every > 0 && run->held_out_count == 0 && seo_run_speaks(run)) {
        seo_warn("eval.every is %lld, but the data has no held-out split: nothing is evaluated",
                 (long long)run->config.eval.every);
    }
    SEO_TRY(seo_path_join(run->tokenizer_path, data_folder(run, 0), "tokenizer.json"));
    SEO_TRY(seo_path_look(run->tokenizer_path, &kind));
    if (kind != SEO_PATH_FILE) run->tokenizer_path[0] = '\0';
    SEO_TRY(open_tokenizer(run));
done:
    return err;
}

/* The same bytes on every rank, whatever their folders are called. */
static seo_err same_data(seo_run *run) {
    seo_err err = SEO_OK;
    seo_buf text = {0};
    if (run->world.size == 1) return SEO_OK;
    if (run->task) return seo_run_same_task(run);
    const seo_dataset_info first = seo_dataset_info_get(run->datasets[0]);
    SEO_TRY(seo_world_same(run->world.line, "the tokenizer", first.tokenizer_sha256));
    for (int64_t d = 0; d < run->dataset_count; d++) {
        seo_buf_format(&text, "%s\n", seo_dataset_info_get(run->datasets[d]).manifest_sha256);
    }
    seo_buf_format(&text, "%lld held-out splits\n", (long long)run->held_out_count);
    SEO_TRY(seo_run_agree(run, "the dataset", seo_buf_check(&text)));
    SEO_TRY(seo_world_same(run->world.line, "the dataset (its manifest's SHA-256)", text.data));
done:
    seo_buf_free(&text);
    return err;
}

static seo_objective objective_of(const seo_model_config *model) {
    if (!seo_family_is_encoder(model->family)) return SEO_OBJECTIVE_NEXT_TOKEN;
    return model->next_sentence ? SEO_OBJECTIVE_SENTENCE_PAIRS : SEO_OBJECTIVE_MASKED;
}

static seo_err open_loader(seo_run *run) {
    const seo_config *c = &run->config;
    const seo_ramp_args ramp = seo_schedule_ramp(c);
    const int64_t sequences = ramp.full_sequences;
    const seo_err err = seo_ramp_open(&ramp, &run->ramp);
    if (err != SEO_OK) return err;
    seo_loader_args args = {.datasets = run->datasets,
                            .weights = c->data.mix_count > 0 ? run->weights : NULL,
                            .dataset_count = run->dataset_count,
                            .seq_len = c->model.seq_len,
                            .batch_sequences = sequences,
                            .first_sequence = run->world.rank * (sequences / run->world.size),
                            .local_count = sequences / run->world.size,
                            .seed = (uint64_t)c->train.seed,
                            .shuffle = c->data.shuffle,
                            .prefetch = PREFETCH_BATCHES,
                            .micro_batch = seo_device_is_cpu(run->dev) ? 0 : c->train.micro_batch,
                            .objective = objective_of(&c->model),
                            .tokenizer = run->tokenizer,
                            .document_mask = c->data.document_mask,
                            .mask_fraction = c->data.mask_fraction,
                            .max_predictions = c->model.picks,
                            .short_sequences = c->data.short_sequences,
                            .ramp = run->ramp};
    if (run->task) {
        args.objective = SEO_OBJECTIVE_EXAMPLES;
        args.examples = seo_task_examples(run->task);
        args.tokenizer = seo_task_tokenizer(run->task);
        args.weights = NULL;
    }
    return seo_loader_open(&args, &run->loader);
}

/* Each rank keeps choices of its own: two ranks do not write one file. In invariant mode there is
 * nothing to choose, since a choice would show in the bits. */
static seo_err open_device(seo_run *run) {
    const seo_config *c = &run->config;
    const seo_run_world *w = &run->world;
    char choices[SEO_PATH_MAX], name[64] = "matmul.txt";
    if (w->rank > 0) snprintf(name, sizeof name, "matmul.rank-%04d.txt", (int)w->rank);
    const seo_err err = seo_path_join(choices, run->dir.path, name);
    if (err != SEO_OK) return err;
    const bool fixed = c->parallel.invariant && c->kernels.matmul == SEO_MATMUL_AUTO;
    const seo_device_wish wish = {.device = c->device,
                                  .precision = c->precision,
                                  .matmul = fixed ? SEO_MATMUL_OWN : c->kernels.matmul,
                                  .matmul_choices = choices,
                                  .threads = run->args->threads,
                                  .sharers = w->sharers,
                                  .local_rank = w->launch.local_rank,
                                  .open_cuda = run->args->open_cuda};
    return seo_device_open_wish(&wish, &run->dev, &run->storage);
}

static seo_err open_model(seo_run *run) {
    seo_err err = SEO_OK;
    const seo_config *c = &run->config;
    const int64_t slots = c->parallel.invariant ? c->parallel.slots : 0;
    const seo_model_args model = {.dev = run->dev,
                                  .config = &c->model,
                                  .mode = SEO_MODEL_TRAIN,
                                  .batch = c->train.micro_batch,
                                  .seed = (uint64_t)c->train.seed,
                                  .storage = run->storage,
                                  .no_master = !c->optimizer.master_weights,
                                  .uninitialised = run->resumed_from != NULL,
                                  .shard = {.rank = run->world.rank,
                                            .ranks = run->world.size,
                                            .zero = (int32_t)c->parallel.zero,
                                            .parts = slots},
                                  .recompute = c->parallel.recompute};
    SEO_TRY(seo_model_open(&model, &run->model));
    SEO_TRY(seo_parallel_open(&(seo_parallel_args){.model = run->model,
                                                   .comm = run->world.comm,
                                                   .slots = slots,
                                                   .wire = c->parallel.reduce},
                              &run->parallel));
    SEO_TRY(seo_optim_open(run->model, &c->optimizer, &run->optim));
    seo_optim_join(run->optim, run->parallel);
done:
    return err;
}

static seo_err open_step(seo_run *run) {
    seo_err err = SEO_OK;
    const seo_config *c = &run->config;
    SEO_TRY(seo_step_open(&(seo_step_args){.config = c,
                                           .model = run->model,
                                           .optim = run->optim,
                                           .loader = run->loader,
                                           .parallel = run->parallel,
                                           .distill = run->distill,
                                           .veto = seo_run_veto,
                                           .save_due = seo_run_save_due,
                                           .context = run},
                          &run->step));
    seo_device_seal(run->dev);
done:
    return err;
}

static seo_err open_outputs(seo_run *run) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    if (seo_run_speaks(run)) {
        SEO_TRY(seo_path_join(path, run->dir.path, "config.yaml"));
        SEO_TRY(
            seo_file_write_atomic(path, run->config_yaml.data, (int64_t)run->config_yaml.bytes));
        SEO_TRY(seo_path_join(path, run->dir.path, "metrics.jsonl"));
        SEO_TRY(seo_metrics_open(path, run->state.step, &run->metrics));
    }
    SEO_TRY(seo_ckpt_writer_open(
        &(seo_ckpt_writer_args){.run_dir = run->dir.path,
                                .attempt = run->dir.attempt,
                                .world = run->world.size > 1 ? run->world.line : NULL,
                                .keep_last = run->config.checkpoint.keep_last,
                                .keep_every = run->config.checkpoint.keep_every},
        &run->writer));
done:
    return err;
}

/* A misspelt key in --allow would allow nothing, and say so only at the end of a long comparison.
 */
static seo_err check_allowed(const seo_train_args *args) {
    seo_err err = SEO_OK;
    for (int64_t i = 0; i < args->allow_count && err == SEO_OK; i++) {
        seo_buf help = {0};
        err = seo_config_explain(args->allow[i], &help);
        seo_buf_free(&help);
    }
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "--allow");
}

static seo_err read_config(seo_run *run) {
    seo_err err = SEO_OK;
    const seo_train_args *args = run->args;
    SEO_TRY(check_allowed(args));
    SEO_TRY(seo_config_load(args->config_path, args->sets, args->set_count, &run->config));
    SEO_TRY(seo_config_write(&run->config, &run->config_yaml));
    SEO_TRY(seo_buf_check(&run->config_yaml));
done:
    return err;
}

/* The ranks come together even where one of them cannot read its configuration: then all are told.
 */
static seo_err join_and_compare(seo_run *run) {
    enum { JOIN_S = 60 };
    seo_err err = read_config(run);
    char message[4096];
    snprintf(message, sizeof message, "%s", seo_err_detail());
    const seo_err joined =
        seo_run_join(run, err == SEO_OK ? run->config.parallel.join_s : (double)JOIN_S);
    if (joined != SEO_OK) return joined;
    if (err != SEO_OK) err = SEO_FAIL(err, "%s", message);
    SEO_TRY(seo_run_agree(run, "the configuration", err));
    SEO_TRY(seo_world_same(run->world.line, "the program's version", SEODANG_VERSION));
    SEO_TRY(seo_world_same(run->world.line, "the configuration", run->config_yaml.data));
    SEO_TRY(seo_run_watch(run));
    seo_run_doing(run, "opening the run", true);
done:
    return err;
}

/* What takes memory, once all else is known. */
static seo_err open_memory(seo_run *run) {
    seo_err err = SEO_OK;
    seo_run_doing(run, "opening the device", true);
    SEO_TRY(seo_run_agree(run, "the device", seo_device_too_small(open_device(run))));
    SEO_TRY(seo_run_connect(run));
    SEO_TRY(seo_run_agree(run, "the model", seo_device_too_small(open_model(run))));
    SEO_TRY(seo_run_agree(run, "the loader", open_loader(run)));
    SEO_TRY(seo_run_agree(run, "the teacher", seo_device_too_small(seo_run_open_distill(run))));
    SEO_TRY(seo_run_agree(run, "the step", seo_device_too_small(open_step(run))));
    seo_run_doing(run, "reading the checkpoint", true);
    SEO_TRY(seo_run_load(run));
    SEO_TRY(seo_run_agree(run, "the outputs", open_outputs(run)));
done:
    return err;
}

seo_err seo_run_open(seo_run *run, const seo_train_args *args, bool *finished) {
    seo_err err = SEO_OK;
    *run = (seo_run){.args = args, .saved_step = -1};
    *finished = false;
    SEO_TRY(join_and_compare(run));
    SEO_TRY(open_folder(run));
    run->state.seed = (uint64_t)run->config.train.seed;
    seo_config_hash(&run->config, run->state.config_hash);
    SEO_TRY(seo_run_find_checkpoint(run));
    SEO_TRY(seo_run_find_source(run));
    SEO_TRY(seo_run_find_teacher(run));
    seo_run_doing(run, "opening the data", true);
    SEO_TRY(seo_run_agree(run, "the data", open_data(run)));
    SEO_TRY(same_data(run));
    SEO_TRY(seo_run_agree(run, "the data", seo_run_check_data(run)));
    SEO_TRY(seo_run_agree(run, "checkpoint.init_from", seo_run_check_source(run)));
    SEO_TRY(seo_run_agree(run, "distill.teacher", seo_run_check_teacher(run)));
    if (run->state.step >= run->config.train.steps) {
        *finished = true;
        goto done;
    }
    SEO_TRY(seo_run_divide(run));
    SEO_TRY(open_memory(run));
done:
    return err;
}

void seo_run_close(seo_run *run) {
    seo_run_retire(run);
    seo_ckpt_writer_close(run->writer);
    seo_metrics_close(run->metrics);
    seo_step_close(run->step);
    seo_distill_close(run->distill);
    seo_model_close(run->teacher_model);
    seo_loader_close(run->loader);
    seo_ramp_close(run->ramp);
    seo_tokenizer_free(run->tokenizer);
    seo_restore_list_free(&run->tensors);
    seo_optim_close(run->optim);
    seo_parallel_close(run->parallel);
    seo_model_close(run->model);
    seo_run_leave(run);
    seo_device_close(run->dev);
    seo_task_close(run->task);
    for (int64_t d = 0; d < run->dataset_count; d++) seo_dataset_close(run->datasets[d]);
    for (int64_t d = 0; d < run->held_out_count; d++) seo_dataset_close(run->held_out[d]);
    seo_ckpt_close(run->resumed_from);
    seo_ckpt_close(run->source);
    seo_teacher_close(run->teacher);
    seo_buf_free(&run->config_yaml);
    if (run->log_open) seo_log_file(NULL);
    if (run->dir_open) seo_run_dir_close(&run->dir);
}
