/* What a run says: how it starts, its steps, its evaluations, how it ended. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "train/config_rules.h"
#include "train/run_state.h"

/* A plain line comes at the first steps of a logarithmic series, then at most this often; a
 * terminal has its live line besides. */
static const double k_plain_every_s = 10, k_terminal_every_s = 60;

int64_t seo_run_memory_bytes(const seo_run *run) {
    struct rusage usage;
    if (!seo_device_is_cpu(run->dev)) return seo_device_bytes(run->dev);
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

double seo_run_eta_s(const seo_run *run) {
    const int64_t all = seo_ramp_tokens(run->ramp, run->config.train.steps);
    const int64_t done = seo_ramp_tokens(run->ramp, run->state.step);
    return (double)(all - done) / (double)seo_max_i64(run->clock.step_tokens, 1) *
           run->clock.step_s;
}

/* Bytes of the rows whose names begin so. */
static double rows_bytes(const seo_memory_table *table, const char *name) {
    double bytes = 0;
    for (int64_t i = 0; i < table->count; i++) {
        const seo_memory_row *row = &table->rows[i];
        if (strncmp(row->name, name, strlen(name)) == 0) bytes += (double)row->bytes;
    }
    return bytes;
}

static void banner_memory(const seo_run *run) {
    char weights[SEO_SHORT_TEXT], grads[SEO_SHORT_TEXT], moments[SEO_SHORT_TEXT],
        activations[SEO_SHORT_TEXT], all[SEO_SHORT_TEXT];
    seo_memory_table table = {0};
    seo_model_memory(run->model, &table);
    const double both =
        (double)seo_optim_moment1(run->optim)->bytes + (double)seo_optim_moment2(run->optim)->bytes;
    seo_info("memory      %s%s: parameters %s, gradients %s, moments %s, activations %s",
             seo_format_bytes(all, (double)seo_device_bytes(run->dev)),
             run->world.size > 1 ? " a rank" : "",
             seo_format_bytes(weights, rows_bytes(&table, "parameters") +
                                           rows_bytes(&table, "working parameters") +
                                           rows_bytes(&table, "frozen parameters")),
             seo_format_bytes(grads, rows_bytes(&table, "gradients")),
             seo_format_bytes(moments, both),
             seo_format_bytes(activations, rows_bytes(&table, "activations")));
}

/* "bf16 with f32 masters" */
static const char *precision_text(const seo_run *run) {
    if (run->storage == SEO_DTYPE_F32) return "f32";
    return run->config.optimizer.master_weights ? "bf16 with f32 masters"
                                                : "bf16, rounded stochastically";
}

static void banner_data(const seo_run *run) {
    char tokens[SEO_SHORT_TEXT];
    if (run->task) {
        seo_run_task_banner(run);
        return;
    }
    int64_t total = 0, planned = seo_ramp_tokens(run->ramp, run->config.train.steps);
    for (int64_t d = 0; d < run->dataset_count; d++) {
        total += seo_dataset_info_get(run->datasets[d]).token_count;
    }
    seo_info("data        %s%s, %s tokens, read %.2f times by the last step",
             seo_dataset_name(run->datasets[0]), run->dataset_count > 1 ? " and others" : "",
             seo_format_count(tokens, total), (double)planned / (double)total);
}

/* What they share out. */
static const char *zero_text(int32_t zero) {
    static const char *const texts[] = {"nothing", "moments", "moments and gradients",
                                        "moments, gradients and parameters"};
    return texts[zero];
}

static void banner_ranks(const seo_run *run) {
    const int32_t zero = seo_model_shards(run->model)->zero;
    const seo_config *c = &run->config;
    char mode[96] = "same bits for the same number of ranks";
    if (c->parallel.invariant) {
        snprintf(mode, sizeof mode, "same bits for any number of ranks (%lld slots)",
                 (long long)c->parallel.slots);
    }
    seo_info("ranks       %d over %s; zero %d shares out %s; %s", (int)run->world.size,
             seo_comm_name(run->world.comm), (int)zero, zero_text(zero), mode);
}

void seo_run_banner(const seo_run *run) {
    const seo_config *c = &run->config;
    const seo_params *table = seo_model_table(run->model);
    char count[SEO_SHORT_TEXT], tokens[SEO_SHORT_TEXT], steps[SEO_SHORT_TEXT];
    seo_info("model       %s, %lld %s, width %lld, %lld %s, context %lld: %s parameters",
             seo_config_family_name(c->model.family), (long long)c->model.num_layers,
             c->model.num_layers == 1 ? "layer" : "layers", (long long)c->model.hidden_size,
             (long long)c->model.num_heads, c->model.num_heads == 1 ? "head" : "heads",
             (long long)c->model.seq_len, seo_format_count(count, seo_params_elements(table)));
    if (c->lora.rank > 0) {
        seo_info("adapters    of rank %lld: %s parameters are trained", (long long)c->lora.rank,
                 seo_format_count(count, seo_params_trained(table)));
    }
    if (run->teacher_model) {
        const seo_model_config *teacher = seo_model_config_of(run->teacher_model);
        seo_info("teacher     %s, %lld %s, width %lld: %s parameters, from %s",
                 seo_config_family_name(teacher->family), (long long)teacher->num_layers,
                 teacher->num_layers == 1 ? "layer" : "layers", (long long)teacher->hidden_size,
                 seo_format_count(count, seo_params_elements(seo_model_table(run->teacher_model))),
                 run->state.teacher_path);
    }
    seo_info("device      %s, %s", seo_device_name(run->dev), precision_text(run));
    if (run->world.size > 1) banner_ranks(run);
    banner_data(run);
    const int64_t passes = seo_div_up(c->train.batch_tokens / c->model.seq_len / run->world.size,
                                      c->train.micro_batch);
    if (c->train.batch_ramp_tokens > 0) {
        seo_info("batch       from %s to %s tokens a step over the first %s tokens",
                 seo_format_count(count, c->train.batch_start_tokens),
                 seo_format_count(tokens, c->train.batch_tokens),
                 seo_format_count(steps, c->train.batch_ramp_tokens));
    }
    seo_info("batch       %s tokens a step, in %lld %s%s; %s steps",
             seo_format_count(tokens, c->train.batch_tokens), (long long)passes,
             passes == 1 ? "pass" : "passes", run->world.size > 1 ? " a rank" : "",
             seo_format_count(steps, c->train.steps));
    banner_memory(run);
    if (run->resumed_path[0] != '\0') {
        seo_info("checkpoint  %s: going on with step %lld", run->resumed_path,
                 (long long)run->state.step + 1);
    } else {
        seo_info("checkpoint  none in %s: a new run%s%s", run->dir.path,
                 run->state.base_path[0] != '\0' ? " from the parameters of " : "",
                 run->state.base_path);
    }
}

static bool plain_line_due(seo_run *run, double now) {
    seo_run_clock *clock = &run->clock;
    const int64_t done = run->state.step - clock->first_step + 1;
    const double every = seo_log_is_live() ? k_terminal_every_s : k_plain_every_s;
    if (done < clock->next_shown && now - clock->shown_s < every &&
        run->state.step < run->config.train.steps) {
        return false;
    }
    /* The series ends where its steps would come slower than the clock's. */
    while (clock->next_shown <= done) clock->next_shown *= 2;
    clock->shown_s = now;
    return true;
}

void seo_run_show_step(seo_run *run, const seo_step_result *r) {
    char line[256], memory[SEO_SHORT_TEXT], eta[SEO_SHORT_TEXT], rate[SEO_SHORT_TEXT];
    char parts[64] = "";
    const double now = seo_clock_s(), seconds = run->clock.step_s;
    const bool plain = plain_line_due(run, now);
    if (!plain && !seo_log_is_live()) return;
    if (r->two_losses) {
        snprintf(parts, sizeof parts, " (tokens %.4f, label %.4f)", r->token_loss, r->label_loss);
    } else if (run->teacher_model) {
        snprintf(parts, sizeof parts, " (hard %.4f, soft %.4f, cosine %.4f)", r->hard_loss,
                 r->soft_loss, r->cosine_loss);
    }
    snprintf(line, sizeof line,
             "step %lld/%lld  loss %.4f%s  mean %.4f  norm %.3f  lr %.2e  %s tok/s  %.0f ms  "
             "wait %.1f ms  %s  eta %s",
             (long long)run->state.step, (long long)run->config.train.steps, r->loss, parts,
             run->state.loss_mean, r->grad_norm, r->lr,
             seo_format_count(rate, (int64_t)((double)r->tokens / seconds)), seconds * 1e3,
             r->data_wait_s * 1e3, seo_format_bytes(memory, (double)seo_run_memory_bytes(run)),
             seo_format_seconds(eta, seo_run_eta_s(run)));
    if (plain) {
        seo_log_live("%s", "");
        seo_info("%s", line);
    } else {
        seo_log_live("%s", line);
    }
}

/* What a model's kind has beside loss and perplexity. */
static const char *eval_more(char out[64], double bits_per_byte, bool labelled, double accuracy) {
    out[0] = '\0';
    if (labelled) {
        snprintf(out, 64, "  next sentence %.1f %% right", 100 * accuracy);
    } else if (!isnan(bits_per_byte)) {
        snprintf(out, 64, "  bits per byte %.4f", bits_per_byte);
    }
    return out;
}

void seo_run_show_eval(const seo_run *run, const seo_eval_result *r) {
    char tokens[SEO_SHORT_TEXT], more[64];
    seo_info("step %lld  held-out loss %.4f  perplexity %.2f%s  (%s %stokens)",
             (long long)run->state.step, r->loss, r->perplexity,
             eval_more(more, r->bits_per_byte, r->labelled, r->label_accuracy),
             seo_format_count(tokens, r->tokens), r->masked ? "masked " : "");
}

static void summary_training(const seo_run *run) {
    char steps[SEO_SHORT_TEXT], tokens[SEO_SHORT_TEXT], time[SEO_SHORT_TEXT], rate[SEO_SHORT_TEXT];
    const seo_run_clock *clock = &run->clock;
    const int64_t here = run->state.step - clock->first_step + 1;
    const double tokens_here = (double)(seo_ramp_tokens(run->ramp, run->state.step) -
                                        seo_ramp_tokens(run->ramp, clock->first_step - 1));
    seo_info(
        "trained     %s steps, %s tokens; this time %lld steps in %s, %s tokens/s",
        seo_format_count(steps, run->state.step), seo_format_count(tokens, run->state.tokens),
        (long long)here, seo_format_seconds(time, clock->train_s),
        seo_format_count(rate, clock->train_s > 0 ? (int64_t)(tokens_here / clock->train_s) : 0));
    seo_info("loss mean   %.4f, from %.4f", run->state.loss_mean, clock->first_loss_mean);
    if (run->world.size > 1 && clock->comm_s > 0) {
        seo_info("exchange    %.0f %% of it hidden behind computing; waited %s in %s of training",
                 100 * (1 - fmin(clock->waited_s / clock->comm_s, 1)),
                 seo_format_seconds(time, clock->waited_s),
                 seo_format_seconds(rate, clock->train_s));
    }
    if (run->state.skipped_steps > 0 && seo_run_speaks(run)) {
        seo_warn("the updates of %lld steps were left out: not finite, or spikes",
                 (long long)run->state.skipped_steps);
    }
}

void seo_run_summary(const seo_run *run) {
    if (run->state.step >= run->clock.first_step) summary_training(run);
    if (run->task) {
        seo_run_task_summary(run);
    } else if (run->eval_step > 0) {
        char more[64];
        seo_info(
            "held-out    loss %.4f  perplexity %.2f%s at step %lld", run->eval.loss,
            run->eval.perplexity,
            eval_more(more, run->eval.bits_per_byte, run->eval.labelled, run->eval.label_accuracy),
            (long long)run->eval_step);
    }
    seo_info("checkpoint  %s/checkpoints/step-%08lld", run->dir.path, (long long)run->saved_step);
    if (run->state.step >= run->config.train.steps) {
        if (run->task) {
            seo_info("next        seodang eval %s%s", run->dir.path,
                     run->config.task.held_out[0] != '\0' ? "" : " --data FILE");
        } else if (run->held_out_count > 0) {
            seo_info("next        seodang eval %s --data %s", run->dir.path,
                     run->config.data.mix_count > 0 ? run->config.data.mix[0].path
                                                    : run->config.data.path);
        }
        if (run->config.task.kind == SEO_TASK_CLASSIFY) {
            seo_info("next        seodang classify %s --text \"...\"", run->dir.path);
            return;
        }
        if (seo_family_is_encoder(run->config.model.family)) {
            seo_info("next        seodang fill %s --text \"...\"", run->dir.path);
        } else {
            seo_info("next        seodang generate %s --prompt \"...\"", run->dir.path);
        }
    } else {
        seo_info("next        the same command goes on with step %lld",
                 (long long)run->state.step + 1);
    }
}
