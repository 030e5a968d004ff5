/* A run's opening, from what costs nothing to what costs memory: configuration, folder, checkpoint,
 * data, device, model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "train/run_state.h"

/* Batches that the loader keeps ready. */
enum { PREFETCH_BATCHES = 4 };

static seo_err open_folder(seo_run *run) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    SEO_TRY(seo_run_dir_open(run->args->run_dir, &run->dir));
    run->dir_open = true;
    SEO_TRY(seo_path_join(path, run->dir.path, "log.txt"));
    seo_log_file(path);
    run->log_open = true;
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

static seo_err open_data(seo_run *run) {
    seo_err err = SEO_OK;
    seo_path_kind kind = SEO_PATH_NONE;
    const seo_data_config *data = &run->config.data;
    const int64_t count = data->mix_count > 0 ? data->mix_count : 1;
    for (int64_t d = 0; d < count; d++) {
        SEO_TRY(seo_dataset_open(data_folder(run, d), "train", &run->datasets[d]));
        run->dataset_count++;
        SEO_TRY(check_vocabulary(run, run->datasets[d]));
        if (data->mix_count > 0) run->weights[d] = data->mix[d].weight;
        if (run->config.eval.every > 0) SEO_TRY(open_held_out(run, data_folder(run, d)));
    }
    if (run->config.eval.every > 0 && run->held_out_count == 0) {
        seo_warn("eval.every is %lld, but the data has no held-out split: nothing is evaluated",
                 (long long)run->config.eval.every);
    }
    SEO_TRY(seo_path_join(run->tokenizer_path, data_folder(run, 0), "tokenizer.json"));
    SEO_TRY(seo_path_look(run->tokenizer_path, &kind));
    if (kind != SEO_PATH_FILE) run->tokenizer_path[0] = '\0';
done:
    return err;
}

static seo_err open_loader(seo_run *run) {
    const seo_config *c = &run->config;
    const int64_t sequences = c->train.batch_tokens / c->model.seq_len;
    return seo_loader_open(
        &(seo_loader_args){.datasets = run->datasets,
                           .weights = c->data.mix_count > 0 ? run->weights : NULL,
                           .dataset_count = run->dataset_count,
                           .seq_len = c->model.seq_len,
                           .batch_sequences = sequences,
                           .local_count = sequences,
                           .seed = (uint64_t)c->train.seed,
                           .shuffle = c->data.shuffle,
                           .prefetch = PREFETCH_BATCHES,
                           .micro_batch = seo_device_is_cpu(run->dev) ? 0 : c->train.micro_batch},
        &run->loader);
}

static seo_err open_device(seo_run *run) {
    const seo_config *c = &run->config;
    char choices[SEO_PATH_MAX];
    const seo_err err = seo_path_join(choices, run->dir.path, "matmul.txt");
    if (err != SEO_OK) return err;
    const seo_device_wish wish = {.device = c->device,
                                  .precision = c->precision,
                                  .matmul = c->kernels.matmul,
                                  .matmul_choices = choices,
                                  .threads = run->args->threads,
                                  .open_cuda = run->args->open_cuda};
    return seo_device_open_wish(&wish, &run->dev, &run->storage);
}

static seo_err open_model(seo_run *run) {
    seo_err err = SEO_OK;
    const seo_config *c = &run->config;
    const seo_model_args model = {.dev = run->dev,
                                  .config = &c->model,
                                  .mode = SEO_MODEL_TRAIN,
                                  .batch = c->train.micro_batch,
                                  .seed = (uint64_t)c->train.seed,
                                  .storage = run->storage,
                                  .no_master = !c->optimizer.master_weights,
                                  .uninitialised = run->resumed_from != NULL};
    SEO_TRY(seo_model_open(&model, &run->model));
    SEO_TRY(seo_optim_open(run->model, &c->optimizer, &run->optim));
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
    SEO_TRY(seo_path_join(path, run->dir.path, "config.yaml"));
    SEO_TRY(seo_file_write_atomic(path, run->config_yaml.data, (int64_t)run->config_yaml.bytes));
    SEO_TRY(seo_path_join(path, run->dir.path, "metrics.jsonl"));
    SEO_TRY(seo_metrics_open(path, run->state.step, &run->metrics));
    SEO_TRY(seo_ckpt_writer_open(
        &(seo_ckpt_writer_args){.run_dir = run->dir.path,
                                .attempt = run->dir.attempt,
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

/* What the configuration can say and a run cannot do yet. */
static seo_err check_parallel(const seo_config *config) {
    if (config->parallel.invariant) {
        return SEO_FAIL(SEO_ERR_USAGE, "parallel.invariant: training does not have this mode yet; "
                                       "use false");
    }
    if (config->parallel.recompute != SEO_RECOMPUTE_NONE) {
        return SEO_FAIL(SEO_ERR_USAGE, "parallel.recompute: training keeps all activations yet; "
                                       "use none, and a smaller micro_batch");
    }
    return SEO_OK;
}

seo_err seo_run_open(seo_run *run, const seo_train_args *args, bool *finished) {
    seo_err err = SEO_OK;
    *run = (seo_run){.args = args, .saved_step = -1};
    *finished = false;
    SEO_TRY(check_allowed(args));
    SEO_TRY(seo_config_load(args->config_path, args->sets, args->set_count, &run->config));
    SEO_TRY(check_parallel(&run->config));
    SEO_TRY(seo_config_write(&run->config, &run->config_yaml));
    SEO_TRY(seo_buf_check(&run->config_yaml));
    SEO_TRY(open_folder(run));
    if (args->from_scratch) SEO_TRY(seo_run_set_aside(run));
    run->state.seed = (uint64_t)run->config.train.seed;
    seo_config_hash(&run->config, run->state.config_hash);
    SEO_TRY(seo_run_find_checkpoint(run));
    SEO_TRY(open_data(run));
    SEO_TRY(seo_run_check_data(run));
    if (run->state.step >= run->config.train.steps) {
        *finished = true;
        goto done;
    }
    SEO_TRY(seo_device_too_small(open_device(run)));
    SEO_TRY(seo_device_too_small(open_model(run)));
    SEO_TRY(open_loader(run));
    SEO_TRY(seo_device_too_small(open_step(run)));
    SEO_TRY(seo_run_load(run));
    SEO_TRY(open_outputs(run));
done:
    return err;
}

void seo_run_close(seo_run *run) {
    seo_ckpt_writer_close(run->writer);
    seo_metrics_close(run->metrics);
    seo_step_close(run->step);
    seo_loader_close(run->loader);
    seo_restore_list_free(&run->tensors);
    seo_optim_close(run->optim);
    seo_model_close(run->model);
    seo_device_close(run->dev);
    for (int64_t d = 0; d < run->dataset_count; d++) seo_dataset_close(run->datasets[d]);
    for (int64_t d = 0; d < run->held_out_count; d++) seo_dataset_close(run->held_out[d]);
    seo_ckpt_close(run->resumed_from);
    seo_buf_free(&run->config_yaml);
    if (run->log_open) seo_log_file(NULL);
    if (run->dir_open) seo_run_dir_close(&run->dir);
}
