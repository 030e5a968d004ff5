/* Going on where an earlier attempt stopped: only from a checkpoint of the same run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "train/restore.h"
#include "train/run_state.h"

seo_err seo_run_set_aside(const seo_run *run) {
    char aside[SEO_PATH_MAX], metrics[SEO_PATH_MAX], metrics_aside[SEO_PATH_MAX];
    char name[128];
    seo_path_kind kind = SEO_PATH_NONE;
    seo_err err = SEO_OK;
    SEO_TRY(seo_ckpt_set_aside(run->dir.path, aside));
    if (aside[0] == '\0') goto done;
    seo_info("--from-scratch: earlier checkpoints are kept as %s", aside);
    SEO_TRY(seo_path_join(metrics, run->dir.path, "metrics.jsonl"));
    SEO_TRY(seo_path_look(metrics, &kind));
    if (kind == SEO_PATH_NONE) goto done;
    /* The same suffix as the checkpoints got: ".set-aside-3". */
    const char *suffix = strrchr(aside, '.');
    snprintf(name, sizeof name, "metrics.jsonl%.64s", suffix ? suffix : ".set-aside");
    SEO_TRY(seo_path_join(metrics_aside, run->dir.path, name));
    SEO_TRY(seo_rename(metrics, metrics_aside));
done:
    return err;
}

static seo_err compare_config(const seo_run *run) {
    seo_err err = SEO_OK;
    seo_buf differences = {0};
    char path[SEO_PATH_MAX];
    const seo_train_args *args = run->args;
    seo_config *saved = calloc(1, sizeof *saved);
    if (!saved) return SEO_FAIL(SEO_ERR_MEMORY, "a configuration");
    SEO_TRY(seo_path_join(path, run->resumed_path, "config.yaml"));
    SEO_TRY(seo_config_load_resolved(path, saved));
    const int64_t count =
        seo_config_diff(saved, &run->config, args->allow, args->allow_count, &differences);
    SEO_TRY(seo_buf_check(&differences));
    if (count > 0) {
        err = SEO_FAIL(SEO_ERR_USAGE,
                       "%s was made by another configuration:\n%s"
                       "give the earlier values to go on, --allow KEY to go on with a new one, or "
                       "another --out for a new run",
                       run->resumed_path, differences.data);
    }
done:
    seo_buf_free(&differences);
    free(saved);
    return err;
}

/* Another number of ranks goes on with the same samples; where sums are made rank by rank they
 * differ in the last digits. */
static void note_ranks(const seo_run *run) {
    const int64_t before = seo_ckpt_part_count(run->resumed_from), now = run->world.size;
    if (before == now || run->config.parallel.invariant) return;
    seo_info("%s was written by %lld %s and goes on with %lld: the same samples in the same order, "
             "sums in another one (parallel.invariant: true keeps every bit)",
             run->resumed_path, (long long)before, before == 1 ? "rank" : "ranks", (long long)now);
}

seo_err seo_run_find_checkpoint(seo_run *run) {
    seo_world *world = run->world.size > 1 ? run->world.line : NULL;
    seo_err err = seo_ckpt_open(run->dir.path, world, &run->resumed_from);
    if (err == SEO_ERR_MISSING) return SEO_OK;
    if (err == SEO_ERR_FORMAT) {
        return seo_err_context(
            err, "cannot resume (--from-scratch sets the checkpoints aside and starts anew)");
    }
    if (err != SEO_OK) return err;
    snprintf(run->resumed_path, sizeof run->resumed_path, "%s", seo_ckpt_path(run->resumed_from));
    const seo_ckpt_state *saved = seo_ckpt_state_of(run->resumed_from);
    SEO_TRY(seo_run_agree(run, "the configuration of the checkpoint", compare_config(run)));
    note_ranks(run);
    run->state = *saved;
    run->saved_step = saved->step;
    run->clock.earlier_train_s = saved->train_seconds;
    seo_config_hash(&run->config, run->state.config_hash);
done:
    return err;
}

/* One hash for all datasets of the mix; of a single one its own. */
static void data_hash(const seo_run *run, char out[SEO_SHA256_HEX]) {
    seo_sha256 sha;
    seo_sha256_init(&sha);
    for (int64_t d = 0; d < run->dataset_count; d++) {
        const seo_dataset_info info = seo_dataset_info_get(run->datasets[d]);
        if (run->dataset_count == 1) {
            memcpy(out, info.manifest_sha256, SEO_SHA256_HEX);
            return;
        }
        seo_sha256_add(&sha, info.manifest_sha256, sizeof info.manifest_sha256);
    }
    seo_sha256_end_hex(&sha, out);
}

seo_err seo_run_check_data(seo_run *run) {
    char data[SEO_SHA256_HEX];
    if (run->task) return seo_run_check_task(run);
    const seo_dataset_info info = seo_dataset_info_get(run->datasets[0]);
    data_hash(run, data);
    if (run->resumed_from && strcmp(data, run->state.data_sha256) != 0) {
        const bool tokenizer = strcmp(info.tokenizer_sha256, run->state.tokenizer_sha256) != 0;
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s was made from another dataset than %s (manifest %.12s there, %.12s "
                        "here%s); give the earlier data.path, or another --out for a new run",
                        run->resumed_path, seo_dataset_name(run->datasets[0]),
                        run->state.data_sha256, data,
                        tokenizer ? "; its tokenizer differs as well" : "");
    }
    memcpy(run->state.data_sha256, data, sizeof data);
    memcpy(run->state.tokenizer_sha256, info.tokenizer_sha256, sizeof info.tokenizer_sha256);
    return SEO_OK;
}

/* Another type goes on from the same numbers to others in the last digits. */
static void note_precision(seo_run *run) {
    const char *now = seo_storage_name(run->storage), *before = run->state.precision;
    if (run->resumed_from && seo_run_speaks(run) && before[0] != '\0' && strcmp(before, now) != 0) {
        seo_warn("%s was computed in %s and goes on in %s: the loss curve goes on, but not bit for "
                 "bit (precision: %s keeps to one)",
                 run->resumed_path, before, now, before);
    }
    snprintf(run->state.precision, sizeof run->state.precision, "%s", now);
}

static seo_err read_tensors(seo_run *run) {
    seo_err err = SEO_OK;
    const seo_params *params = seo_model_table(run->model);
    run->tensors.dev = run->dev;
    SEO_TRY(seo_restore_add(&run->tensors, "parameters", params, seo_model_weights(run->model)));
    SEO_TRY(seo_restore_add(&run->tensors, "moment1", params, seo_optim_moment1(run->optim)));
    SEO_TRY(seo_restore_add(&run->tensors, "moment2", params, seo_optim_moment2(run->optim)));
    if (run->resumed_from) SEO_TRY(seo_restore_read(&run->tensors, run->resumed_from));
    SEO_TRY(seo_run_read_source(run));
    SEO_TRY(seo_run_read_teacher(run));
done:
    return err;
}

seo_err seo_run_load(seo_run *run) {
    seo_err err = SEO_OK;
    note_precision(run);
    SEO_TRY(seo_run_agree(run, "reading the checkpoint", read_tensors(run)));
    SEO_TRY(seo_run_agree(run, "the parameters", seo_parallel_refresh(run->parallel)));
    seo_ckpt_close(run->resumed_from);
    run->resumed_from = NULL;
done:
    return err;
}
