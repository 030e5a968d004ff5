/* `seodang plan`: what a run will take, before anything is taken. */
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "train/cli/cli.h"
#include "train/config.h"
#include "train/plan/probe.h"
#include "train/plan/report.h"

typedef struct plan_options {
    const char *on;
    double price, pue, carbon, utilisation, host_watts;
    bool json;
} plan_options;

/* Beside each GPU: its share of processors, memory and fans. */
static const double k_gpu_host_watts = 150;
/* Of a data centre as they are on average (Uptime Institute's survey 2024: 1.56; large clouds say
 * 1.1 to 1.2); grams of CO2 of a kWh, the world's average (IEA 2019, as codecarbon has it). */
static const double k_pue = 1.2, k_grams_per_kwh = 475;

static seo_err settle_machine(const plan_options *o, const seo_config *c, seo_machines *m) {
    seo_err err = SEO_OK;
    seo_probe probe;
    SEO_TRY(seo_machines_parse(o->on, m));
    if (m->device.cpu) {
        if (c->precision == SEO_PRECISION_BF16) {
            return SEO_FAIL(SEO_ERR_USAGE, "precision: bf16 is for GPUs; --set precision=f32 plans "
                                           "for the CPU");
        }
        SEO_TRY(seo_probe_cpu(0, &probe));
        m->device.f32_flops = probe.flops;
    }
    if (o->utilisation > 0) {
        m->device.utilisation = o->utilisation;
        m->device.utilisation_from = "--utilisation";
    }
    const int64_t sequences = c->train.batch_tokens / c->model.seq_len;
    if (sequences % m->count != 0) {
        err = SEO_FAIL(SEO_ERR_USAGE,
                       "a batch of %lld sequences (train.batch_tokens / model.seq_len) cannot be "
                       "divided among %d ranks",
                       (long long)sequences, m->count);
    }
done:
    return err;
}

/* A plan needs no data, but of a teacher its checkpoint, which says how large it is. */
static seo_err find_teacher(seo_config *c, seo_teacher **out) {
    *out = NULL;
    if (c->distill.teacher[0] == '\0') return SEO_OK;
    const seo_err err = seo_teacher_open(c, NULL, out);
    if (err != SEO_ERR_MISSING) return err;
    seo_warn("distill.teacher: there is no checkpoint in %s: memory is planned without it",
             c->distill.teacher);
    return SEO_OK;
}

static seo_err write_plan(const plan_options *o, seo_config *c, seo_buf *out) {
    seo_err err = SEO_OK;
    seo_machines machines;
    seo_forecast forecast;
    seo_plan_memory memory;
    seo_plan_report report = {.forecast = &forecast, .memory = &memory};
    seo_teacher *teacher = NULL;
    SEO_TRY(settle_machine(o, c, &machines));
    SEO_TRY(find_teacher(c, &teacher));
    const bool bf16 = !machines.device.cpu && c->precision != SEO_PRECISION_F32;
    const seo_forecast_args args = {.config = c,
                                    .machines = &machines,
                                    .storage = bf16 ? SEO_DTYPE_BF16 : SEO_DTYPE_F32,
                                    .pue = o->pue,
                                    .host_watts = machines.device.cpu ? 0 : o->host_watts,
                                    .price = o->price > 0 ? o->price : machines.device.price,
                                    .grams_per_kwh = o->carbon};
    const seo_plan_rank wanted = {.config = c,
                                  .ranks = machines.count,
                                  .cpu = machines.device.cpu,
                                  .storage = args.storage,
                                  .micro_batch = c->train.micro_batch,
                                  .teacher = teacher};
    SEO_TRY(seo_forecast_make(&args, &forecast));
    SEO_TRY(seo_plan_memory_of(&wanted, &memory));
    if (machines.device.memory_bytes > 0) {
        SEO_TRY(seo_plan_largest_micro_batch(&wanted, (int64_t)machines.device.memory_bytes,
                                             &report.largest_micro_batch));
    }
    report.args = &args;
    if (o->json) {
        seo_plan_write_json(&report, out);
    } else {
        seo_plan_write_text(&report, out);
    }
    SEO_TRY(seo_buf_check(out));
done:
    seo_teacher_close(teacher);
    return err;
}

static const seo_cli_command k_command = {
    .name = "plan",
    .operands = "CONFIG",
    .summary = "Says what a run takes on a machine: memory by slab, time, bytes between ranks, "
               "energy, cost. Needs neither the machine nor the data.",
    .example = "seodang plan configs/gpt2-124m.yaml --on 8xH100\n"
               "seodang plan configs/gpt3-175b.yaml --on 1024xH100 --set parallel.zero=3",
    .operands_min = 1,
    .operands_max = 1};

int seo_cli_plan(int argc, char **argv) {
    seo_err err = SEO_OK;
    seo_cli_list files = {0}, sets = {0};
    seo_buf out = {0};
    bool helped = false;
    seo_config *config = NULL;
    plan_options o = {
        .on = "cpu", .pue = k_pue, .carbon = k_grams_per_kwh, .host_watts = k_gpu_host_watts};
    const seo_cli_option options[] = {
        {.name = "on",
         .type = SEO_CLI_TEXT,
         .value = &o.on,
         .operand = "NxDEVICE",
         .help = "the machine: 8xH100, A100, 2xcpu ... (cpu: this machine's processor)"},
        {.name = "set",
         .type = SEO_CLI_LIST,
         .value = &sets,
         .operand = "KEY=VALUE",
         .help = "a value that stands over the file's"},
        {.name = "price",
         .type = SEO_CLI_FLOAT,
         .value = &o.price,
         .operand = "DOLLARS",
         .help = "of a device and hour",
         .min = 1e-6,
         .max = 1e6},
        {.name = "utilisation",
         .type = SEO_CLI_FLOAT,
         .value = &o.utilisation,
         .operand = "PART",
         .help = "part of the device's peak that training reaches",
         .min = 1e-3,
         .max = 1},
        {.name = "pue",
         .type = SEO_CLI_FLOAT,
         .value = &o.pue,
         .operand = "FACTOR",
         .help = "energy of the site for each unit of the machines",
         .min = 1,
         .max = 10},
        {.name = "carbon",
         .type = SEO_CLI_FLOAT,
         .value = &o.carbon,
         .operand = "GRAMS",
         .help = "CO2 equivalents of a kWh",
         .min = 1e-3,
         .max = 1e4},
        {.name = "host-watts",
         .type = SEO_CLI_FLOAT,
         .value = &o.host_watts,
         .operand = "W",
         .help = "power of the host for each GPU",
         .min = 1e-3,
         .max = 1e5},
        {.name = "json", .type = SEO_CLI_FLAG, .value = &o.json, .help = "one JSON object"}};
    SEO_TRY(seo_cli_parse(&k_command, options, SEO_COUNT_OF(options), argc, argv, &files, &helped));
    if (helped) goto done;
    config = calloc(1, sizeof *config);
    if (!config) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "a configuration"));
    SEO_TRY(seo_config_load(files.items[0], sets.items, sets.count, config));
    SEO_TRY(write_plan(&o, config, &out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    free(config);
    seo_buf_free(&out);
    seo_cli_list_free(&sets);
    seo_cli_list_free(&files);
    return seo_cli_exit(err);
}
