#include "train/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "train/run_state.h"
#include "train/signal.h"

/* Weight of a new loss in the running mean, and of a new step's time. */
static const double k_loss_share = 0.05, k_time_share = 0.1;

/* A copy of the state for the writer. What was measured until now is on the disk first, so that a
 * resumed run's metrics have no gap. */
static seo_err save(seo_run *run) {
    run->clock.saved_s = seo_clock_s();
    if (run->saved_step == run->state.step) return SEO_OK;
    if (seo_metrics_sync(run->metrics) != SEO_OK) seo_log_failure();
    if (seo_ckpt_writer_failures(run->writer) > 0) {
        const seo_err last = seo_ckpt_writer_wait(run->writer);
        if (last == SEO_ERR_LOCKED) return last;
    }
    run->state.train_seconds = run->clock.earlier_train_s + run->clock.train_s;
    const seo_ckpt_snapshot snapshot = {
        .state = run->state,
        .tensors = run->tensors.tensors,
        .tensor_count = run->tensors.count,
        .ranges = run->tensors.saved,
        .range_count = run->tensors.saved_count,
        .fetch = seo_restore_fetch,
        .fetch_context = &run->tensors,
        .config_yaml = run->config_yaml.data,
        .tokenizer_path = run->tokenizer_path[0] != '\0' ? run->tokenizer_path : NULL};
    const seo_err err = seo_ckpt_writer_submit(run->writer, &snapshot);
    if (err == SEO_OK) run->saved_step = run->state.step;
    return err;
}

bool seo_run_save_due(void *context) {
    const seo_run *run = context;
    const double every = run->config.checkpoint.every_seconds;
    return every > 0 && seo_clock_s() - run->clock.saved_s >= every;
}

/* By the number of the step, or by the clock of rank 0, which all have heard of. */
static bool save_due(const seo_run *run, const seo_step_result *r) {
    const int64_t every = run->config.checkpoint.every;
    return (every > 0 && run->state.step % every == 0) || r->words[0].save != 0;
}

/* The last save of an attempt: it must be on the disk. A save that failed is tried once more. */
static seo_err save_and_wait(seo_run *run) {
    seo_err err = save(run);
    if (err == SEO_OK) err = seo_ckpt_writer_wait(run->writer);
    if (err == SEO_OK || err == SEO_ERR_LOCKED) return err;
    seo_warn("the last checkpoint is tried once more");
    run->saved_step = -1;
    err = save(run);
    return err == SEO_OK ? seo_ckpt_writer_wait(run->writer) : err;
}

static bool eval_due(const seo_run *run) {
    const int64_t every = run->config.eval.every, step = run->state.step;
    return every > 0 && run->held_out_count > 0 && step > 0 &&
           (step % every == 0 || step == run->config.train.steps);
}

static seo_err evaluate(seo_run *run) {
    seo_eval_result result;
    const seo_err err = seo_eval(&(seo_eval_args){.model = run->model,
                                                  .batch = run->config.train.micro_batch,
                                                  .datasets = run->held_out,
                                                  .dataset_count = run->held_out_count,
                                                  .tokens_max = run->config.eval.tokens,
                                                  .label = "evaluating"},
                                 &result);
    if (err != SEO_OK) return err;
    run->eval = (seo_metrics_eval){.loss = result.loss,
                                   .perplexity = result.perplexity,
                                   .bits_per_byte = result.bits_per_byte};
    run->eval_step = run->state.step;
    seo_run_show_eval(run, &result);
    seo_eval_free(&result);
    return SEO_OK;
}

_Static_assert((int)SEO_CKPT_SPIKE_MAX == (int)SEO_CONFIG_SPIKE_WINDOW_MAX,
               "a checkpoint keeps the whole window");

bool seo_run_veto(void *context, double loss) {
    seo_run *run = context;
    run->spike =
        seo_spike_judge(&run->config.train, run->state.spike_window, run->state.spike_count, loss);
    return run->spike.found && run->config.train.on_spike == SEO_SPIKE_SKIP;
}

/* Too many updates in a row were left out. */
static seo_err give_up(const seo_run *run) {
    seo_buf text = {0};
    seo_run_add_suspects(run, &text);
    const bool told = text.data && !text.failed;
    const seo_err err = SEO_FAIL(
        SEO_ERR_NUMERIC,
        "%lld steps in a row up to step %lld had no finite loss or gradient, or were spikes that "
        "are left out (train.max_bad_steps). Go on from an earlier checkpoint with a lower "
        "optimizer.lr (--allow optimizer.lr), or look at the data. %s%s",
        (long long)run->state.bad_in_row, (long long)run->state.step,
        told ? "Sequences without a finite loss:"
             : "No sequence had a loss that is not finite: the warnings above name the highest",
        told ? text.data : "");
    seo_buf_free(&text);
    return err;
}

/* The state after a step: what the next one, a checkpoint and the step line start from. */
static seo_err count_step(seo_run *run, int64_t number, const seo_step_result *r) {
    seo_ckpt_state *s = &run->state;
    s->step = number;
    s->tokens += r->tokens;
    if (r->finite) {
        seo_spike_add(&run->config.train, run->state.spike_window, &run->state.spike_count,
                      r->loss);
    }
    if (run->spike.found) seo_run_show_spike(run, r);
    if (r->finite && !r->vetoed) {
        run->state.bad_in_row = 0;
        const bool first = number - 1 == s->skipped_steps;
        s->loss_mean = first ? r->loss : s->loss_mean + k_loss_share * (r->loss - s->loss_mean);
        return SEO_OK;
    }
    s->skipped_steps++;
    run->state.bad_in_row++;
    if (!r->finite) seo_run_show_bad_step(run, r);
    seo_run_note_suspects(run, r);
    return run->state.bad_in_row < run->config.train.max_bad_steps ? SEO_OK : give_up(run);
}

static void write_metrics(seo_run *run, const seo_step_result *r, double seconds) {
    seo_metrics_write(
        run->metrics,
        &(seo_metrics_record){.step = run->state.step,
                              .loss = r->loss,
                              .loss_mean = run->state.loss_mean,
                              .grad_norm = r->grad_norm,
                              .lr = r->lr,
                              .tokens = run->state.tokens,
                              .skipped = !r->finite || r->vetoed,
                              .spike = run->spike.found,
                              .eval = run->eval_step == run->state.step ? &run->eval : NULL,
                              .tokens_per_s = (double)r->tokens / seconds,
                              .ms = seconds * 1e3,
                              .data_wait_ms = r->data_wait_s * 1e3,
                              .eta_s = seo_run_eta_s(run),
                              .memory_bytes = seo_run_memory_bytes(run)});
}

/* One step and what follows it. SEO_ERR_STOPPED leaves run->state at the last whole step. */
static seo_err one_step(seo_run *run, int64_t number) {
    seo_err err = SEO_OK, stopped = SEO_OK;
    seo_step_result result;
    seo_run_clock *clock = &run->clock;
    const double start = seo_clock_s();
    run->spike = (seo_spike){0};
    SEO_TRY(seo_step_run(run->step, number, number - 1 - run->state.skipped_steps, &result));
    const double seconds = seo_clock_s() - start;
    const bool first = number == clock->first_step;
    clock->train_s += seconds;
    clock->step_s = first ? seconds : clock->step_s + k_time_share * (seconds - clock->step_s);
    err = count_step(run, number, &result);
    if (first) clock->first_loss_mean = run->state.loss_mean;
    seo_run_show_step(run, &result);
    /* A stop here leaves this step's line without its evaluation; the next attempt adds it. */
    if (err == SEO_OK && eval_due(run)) stopped = evaluate(run);
    write_metrics(run, &result, seconds);
    if (err == SEO_OK) err = stopped;
    if (err == SEO_OK && save_due(run, &result)) err = save(run);
done:
    return err;
}

/* An evaluation that the last attempt was stopped in. */
static seo_err finish_evaluation(seo_run *run) {
    seo_err err = SEO_OK;
    if (!eval_due(run) || seo_metrics_has_eval(run->metrics, run->state.step)) return SEO_OK;
    SEO_TRY(evaluate(run));
    SEO_TRY(seo_metrics_add_eval(run->metrics, run->state.step, &run->eval));
done:
    return err;
}

static seo_err loop(seo_run *run) {
    seo_err err = SEO_OK;
    const double now = seo_clock_s();
    run->clock.first_step = run->state.step + 1;
    run->clock.next_shown = 1;
    run->clock.start_s = run->clock.shown_s = run->clock.saved_s = now;
    SEO_TRY(finish_evaluation(run));
    for (int64_t number = run->state.step + 1; number <= run->config.train.steps; number++) {
        SEO_TRY(one_step(run, number));
        if (seo_signal_asked() != 0) {
            err = SEO_FAIL(SEO_ERR_STOPPED, "stopped after step %lld", (long long)number);
            goto done;
        }
    }
done:
    seo_log_live("%s", "");
    return err;
}

/* Something outside failed, damaged data perhaps: what was learned until then is worth keeping. The
 * first error stays the one that is told. */
static seo_err keep_what_is_there(seo_run *run, seo_err how) {
    char message[2048];
    snprintf(message, sizeof message, "%s", seo_err_detail());
    if (save_and_wait(run) != SEO_OK) seo_log_failure();
    return SEO_FAIL(how, "%s", message);
}

/* What a stop or the end leaves: a checkpoint of the last whole step. Steps that were not finite
 * are no state to go on from, and a run that lost its folder may not write there. */
static seo_err conclude(seo_run *run, seo_err how) {
    if (how == SEO_ERR_NUMERIC || how == SEO_ERR_LOCKED) return how;
    if (how != SEO_OK && how != SEO_ERR_STOPPED) return keep_what_is_there(run, how);
    if (how == SEO_ERR_STOPPED) {
        seo_info("%s: saving a checkpoint of step %lld", seo_signal_name(seo_signal_asked()),
                 (long long)run->state.step);
    }
    const seo_err err = save_and_wait(run);
    if (err != SEO_OK) return seo_err_context(err, "the last checkpoint could not be saved");
    if (seo_metrics_sync(run->metrics) != SEO_OK) seo_log_failure();
    seo_run_summary(run);
    return how;
}

seo_err seo_train(const seo_train_args *args) {
    bool finished = false;
    seo_run *run = calloc(1, sizeof *run);
    if (!run) return SEO_FAIL(SEO_ERR_MEMORY, "a run");
    seo_signal_catch();
    seo_err err = seo_run_open(run, args, &finished);
    if (err == SEO_OK && finished) {
        seo_info("%s is finished: step %lld of %lld is saved in %s", args->run_dir,
                 (long long)run->state.step, (long long)run->config.train.steps, run->resumed_path);
    } else if (err == SEO_OK) {
        seo_run_banner(run);
        err = conclude(run, loop(run));
    }
    seo_run_close(run);
    free(run);
    seo_signal_release();
    return err;
}
