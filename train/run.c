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

/* Of rank 0, which has the file. */
static void sync_metrics(const seo_run *run) {
    if (run->metrics && seo_metrics_sync(run->metrics) != SEO_OK) seo_log_failure();
}

/* A copy of the state for the writer. What was measured until now is on the disk first, so that a
 * resumed run's metrics have no gap. */
static seo_err submit(seo_run *run) {
    sync_metrics(run);
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
    seo_err err = seo_parallel_settle(run->parallel);
    if (err == SEO_OK) err = seo_ckpt_writer_submit(run->writer, &snapshot);
    if (err == SEO_OK) run->saved_step = run->state.step;
    return err;
}

static seo_err save(seo_run *run) {
    run->clock.saved_s = seo_clock_s();
    if (run->saved_step == run->state.step) return SEO_OK;
    seo_run_doing(run, "saving", true);
    seo_run_change_begin(run);
    const seo_err err = submit(run);
    seo_run_change_end(run);
    seo_run_doing(run, "training", false);
    return err;
}

static seo_err wait_for_writer(seo_run *run) {
    seo_run_doing(run, "writing a checkpoint", true);
    return seo_ckpt_writer_wait(run->writer);
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
    if (err == SEO_OK) err = wait_for_writer(run);
    if (err == SEO_OK || err == SEO_ERR_LOCKED) return err;
    if (seo_run_speaks(run)) seo_warn("the last checkpoint is tried once more");
    run->saved_step = -1;
    err = save(run);
    return err == SEO_OK ? wait_for_writer(run) : err;
}

static bool eval_due(const seo_run *run) {
    const int64_t every = run->config.eval.every, step = run->state.step;
    const bool any = run->task ? seo_task_held_out(run->task) != NULL : run->held_out_count > 0;
    return every > 0 && any && step > 0 && (step % every == 0 || step == run->config.train.steps);
}

static seo_err evaluate_text(seo_run *run) {
    seo_eval_result result;
    const seo_err err = seo_eval(&(seo_eval_args){.model = run->model,
                                                  .batch = run->config.train.micro_batch,
                                                  .datasets = run->held_out,
                                                  .dataset_count = run->held_out_count,
                                                  .data = &run->config.data,
                                                  .tokenizer = run->tokenizer,
                                                  .tokens_max = run->config.eval.tokens,
                                                  .label = "evaluating",
                                                  .comm = run->world.comm,
                                                  .hooks = seo_parallel_reading(run->parallel)},
                                 &result);
    if (err != SEO_OK) return err;
    run->eval = (seo_metrics_eval){.loss = result.loss,
                                   .perplexity = result.perplexity,
                                   .bits_per_byte = result.bits_per_byte,
                                   .labelled = result.labelled,
                                   .label_accuracy = result.label_accuracy};
    seo_run_show_eval(run, &result);
    seo_eval_free(&result);
    return SEO_OK;
}

static seo_err evaluate(seo_run *run) {
    seo_run_doing(run, "evaluating", false);
    const seo_err err = run->task ? seo_run_evaluate_task(run) : evaluate_text(run);
    seo_run_doing(run, "training", false);
    if (err == SEO_OK) run->eval_step = run->state.step;
    return err;
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
        "optimizer.lr (--allow optimizer.lr), or look at the data: at the sequences without a "
        "finite loss or, of a step that has none, with the highest:%s",
        (long long)run->state.bad_in_row, (long long)run->state.step, told ? text.data : "");
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

/* How unequal the ranks are: the time of each without what it waited for others. */
static seo_metrics_ranks ranks_of(const seo_step_result *r) {
    seo_metrics_ranks out = {.count = r->word_count,
                             .min_s = INFINITY,
                             .comm_s = r->comm_busy_s,
                             .waited_s = r->comm_waited_s,
                             .sent_bytes = r->comm_sent_bytes};
    for (int32_t i = 0; i < r->word_count; i++) {
        const double own = r->words[i].own_s;
        out.min_s = fmin(out.min_s, own);
        out.mean_s += own / r->word_count;
        if (i > 0 && own <= out.max_s) continue;
        out.max_s = own;
        out.slowest = i;
    }
    return out;
}

/* An attempt that was cut off and comes back beside a newer one may not write into its metrics.
 * Asked at most once a second: no new attempt begins in less. What else keeps the file from being
 * read is for a save to say. */
static seo_err still_ours(seo_run *run) {
    const double now = seo_clock_s();
    if (!run->metrics || now - run->clock.fenced_s < 1) return SEO_OK;
    run->clock.fenced_s = now;
    const seo_err err = seo_run_dir_fence(run->dir.path, run->dir.attempt);
    return err == SEO_ERR_LOCKED ? err : SEO_OK;
}

static void write_metrics(seo_run *run, const seo_step_result *r, double seconds) {
    if (!run->metrics) return;
    const seo_metrics_ranks ranks = ranks_of(r);
    const seo_metrics_taught taught = {
        .hard = r->hard_loss, .soft = r->soft_loss, .cosine = r->cosine_loss};
    seo_metrics_write(
        run->metrics,
        &(seo_metrics_record){.step = run->state.step,
                              .loss = r->loss,
                              .loss_mean = run->state.loss_mean,
                              .grad_norm = r->grad_norm,
                              .lr = r->lr,
                              .tokens = run->state.tokens,
                              .taught = run->distill ? &taught : NULL,
                              .skipped = !r->finite || r->vetoed,
                              .spike = run->spike.found,
                              .two_losses = r->two_losses,
                              .token_loss = r->token_loss,
                              .label_loss = r->label_loss,
                              .eval = run->eval_step == run->state.step ? &run->eval : NULL,
                              .tokens_per_s = (double)r->tokens / seconds,
                              .ms = seconds * 1e3,
                              .data_wait_ms = r->data_wait_s * 1e3,
                              .eta_s = seo_run_eta_s(run),
                              .memory_bytes = seo_run_memory_bytes(run),
                              .ranks = ranks.count > 1 ? &ranks : NULL});
}

/* The signal that asked any rank to stop, as all ranks know it. */
static bool stop_asked(seo_run *run, const seo_step_result *r) {
    for (int32_t i = 0; i < r->word_count && run->stop_signal == 0; i++) {
        run->stop_signal = r->words[i].stop;
        run->stop_rank = i;
    }
    /* With one rank also one that came since. */
    if (run->world.size == 1 && run->stop_signal == 0) run->stop_signal = seo_signal_asked();
    return run->stop_signal != 0;
}

/* One step and what follows it. SEO_ERR_STOPPED leaves run->state at the last whole step. */
static seo_err one_step(seo_run *run, int64_t number) {
    seo_err err = SEO_OK, stopped = SEO_OK;
    seo_step_result result;
    seo_run_clock *clock = &run->clock;
    const double start = seo_clock_s();
    run->spike = (seo_spike){0};
    err = seo_step_run(run->step, number, number - 1 - run->state.skipped_steps, &result);
    /* These two all ranks have come to alike. */
    if (err == SEO_ERR_STOPPED || err == SEO_ERR_NUMERIC) return err;
    if (err != SEO_OK) return seo_run_fail(run, err);
    const double seconds = seo_clock_s() - start;
    const bool first = number == clock->first_step;
    clock->train_s += seconds;
    clock->waited_s += result.comm_waited_s;
    clock->comm_s += result.comm_busy_s;
    clock->step_tokens = result.tokens;
    clock->step_s = first ? seconds : clock->step_s + k_time_share * (seconds - clock->step_s);
    seo_run_change_begin(run);
    err = count_step(run, number, &result);
    seo_run_change_end(run);
    if (first) clock->first_loss_mean = run->state.loss_mean;
    seo_run_doing(run, "training", false);
    seo_run_show_step(run, &result);
    /* A stop here leaves this step's line without its evaluation; the next attempt adds it. */
    if (err == SEO_OK && eval_due(run)) stopped = evaluate(run);
    const seo_err ours = still_ours(run);
    if (ours != SEO_OK) return ours;
    write_metrics(run, &result, seconds);
    if (err == SEO_OK) err = stopped;
    if (err == SEO_OK && save_due(run, &result)) err = save(run);
    if (err == SEO_OK && stop_asked(run, &result)) {
        err = SEO_FAIL(SEO_ERR_STOPPED, "stopped after step %lld", (long long)number);
    }
    return err;
}

/* An evaluation that the last attempt was stopped in. */
static seo_err finish_evaluation(seo_run *run) {
    seo_err err = SEO_OK;
    if (!eval_due(run)) return SEO_OK;
    bool done = run->metrics && seo_metrics_has_eval(run->metrics, run->state.step);
    SEO_TRY(seo_run_share(run, "the last evaluation", &done, sizeof done));
    if (done) return SEO_OK;
    SEO_TRY(evaluate(run));
    if (run->metrics) err = seo_metrics_add_eval(run->metrics, run->state.step, &run->eval);
    SEO_TRY(seo_run_agree(run, "the last evaluation", err));
done:
    return err;
}

static seo_err loop(seo_run *run) {
    seo_err err = SEO_OK;
    const double now = seo_clock_s();
    run->clock.first_step = run->state.step + 1;
    run->clock.next_shown = 1;
    run->clock.start_s = run->clock.shown_s = run->clock.saved_s = now;
    seo_run_doing(run, "training", false);
    SEO_TRY(finish_evaluation(run));
    for (int64_t number = run->state.step + 1; number <= run->config.train.steps; number++) {
        SEO_TRY(one_step(run, number));
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

static void tell_stop(const seo_run *run) {
    const int signal = run->stop_signal != 0 ? run->stop_signal : seo_signal_asked();
    const bool other = run->world.size > 1 && run->stop_signal != 0;
    seo_info("%s%s%s: saving a checkpoint of step %lld",
             signal != 0 ? seo_signal_name(signal) : "a signal to another rank",
             other ? " to " : "", other ? seo_world_who(run->world.line, run->stop_rank) : "",
             (long long)run->state.step);
}

/* What a stop or the end leaves: a checkpoint of the last whole step. Steps that were not finite
 * are no state to go on from, and a run that lost its folder may not write there. What one rank
 * alone meets ends the job (seo_run_fail); what is left is the same on all of them. */
static seo_err conclude(seo_run *run, seo_err how) {
    if (how == SEO_ERR_NUMERIC) return how;
    if (how == SEO_ERR_LOCKED) return seo_run_fail(run, how);
    if (how != SEO_OK && how != SEO_ERR_STOPPED) {
        how = seo_run_fail(run, how);
        return keep_what_is_there(run, how);
    }
    if (how == SEO_ERR_STOPPED && seo_run_speaks(run)) tell_stop(run);
    const seo_err err = save_and_wait(run);
    if (err != SEO_OK) return seo_err_context(err, "the last checkpoint could not be saved");
    sync_metrics(run);
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
    /* Who leaves with an error has others killed by the launcher: all are done first. Rank 0 tells
     * what all know. */
    if (run->world.line && run->world.size > 1 && err != SEO_ERR_LOST) {
        char message[4096];
        snprintf(message, sizeof message, "%s", seo_err_detail());
        (void)seo_run_agree(run, "the end", SEO_OK);
        if (err != SEO_OK) err = SEO_FAIL(err, "%s", message);
        if (err != SEO_OK && !seo_run_speaks(run)) seo_log_set_level(SEO_LOG_QUIET);
    }
    seo_run_close(run);
    free(run);
    seo_signal_release();
    return err;
}
