#include "train/plan/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "train/schedule.h"

/* "0.132 s" where seo_format_seconds would round too much away. */
static const char *duration(char out[SEO_SHORT_TEXT], double seconds) {
    if (seconds >= 10 || seconds == 0) return seo_format_seconds(out, seconds);
    if (seconds >= 1) {
        snprintf(out, SEO_SHORT_TEXT, "%.2f s", seconds);
    } else {
        snprintf(out, SEO_SHORT_TEXT, "%.3g ms", seconds * 1e3);
    }
    return out;
}

static void line(seo_buf *out, const char *title) {
    seo_buf_format(out, "%-11s ", title);
}

static void write_model(const seo_plan_report *r, seo_buf *out) {
    char number[SEO_SHORT_TEXT];
    const seo_config *c = r->args->config;
    line(out, "model");
    seo_config_summary(c, out);
    seo_buf_text(out, "\n");
    line(out, "parameters");
    seo_buf_format(out, "%s; ", seo_format_count(number, r->forecast->parameters));
    const double tokens = (double)seo_schedule_tokens(c);
    seo_buf_format(out,
                   "%.1f tokens are read for each (20 is what Hoffmann et al. 2022 found best "
                   "for a given amount of computing)\n",
                   tokens / (double)r->forecast->parameters);
}

static void write_memory(const seo_plan_report *r, seo_buf *out) {
    char bytes[SEO_SHORT_TEXT], all[SEO_SHORT_TEXT];
    const seo_machine *d = &r->args->machines->device;
    const seo_plan_memory *m = r->memory;
    const int64_t bytes_taken = seo_memory_total(&m->device);
    line(out, "memory");
    seo_buf_format(out, "%s a rank on the device", seo_format_bytes(bytes, (double)bytes_taken));
    if (d->memory_bytes > 0) {
        seo_buf_format(out, ", of %s (%.0f %%)%s", seo_format_bytes(all, d->memory_bytes),
                       100 * (double)bytes_taken / d->memory_bytes,
                       (double)bytes_taken > d->memory_bytes ? ": it does NOT fit" : "");
    }
    seo_buf_text(out, "\n");
    for (int64_t i = 0; i < m->device.count; i++) {
        const seo_memory_row *slab = &m->device.rows[i];
        line(out, "");
        seo_buf_format(out, "  %-44s %20s  %s\n", slab->name, seo_format_count(all, slab->bytes),
                       seo_format_bytes(bytes, (double)slab->bytes));
    }
    line(out, "");
    seo_buf_format(out, "%s on the host besides, for checkpoints on their way to the disk\n",
                   seo_format_bytes(bytes, (double)m->host_bytes));
    if (r->largest_micro_batch > 0) {
        line(out, "");
        seo_buf_format(out,
                       "the largest train.micro_batch that fits: %" PRId64 " (now %" PRId64 ")\n",
                       r->largest_micro_batch, r->args->config->train.micro_batch);
    }
}

static void write_time(const seo_plan_report *r, seo_buf *out) {
    char text[SEO_SHORT_TEXT], more[SEO_SHORT_TEXT];
    const seo_forecast *f = r->forecast;
    const seo_machines *m = r->args->machines;
    line(out, "machine");
    seo_buf_format(out, "%d x %s, %s", m->count, m->device.name,
                   r->args->storage == SEO_DTYPE_BF16 ? "bf16" : "f32");
    seo_buf_format(out, "; assumed: %.0f %% of the peak (%s)\n", 100 * m->device.utilisation,
                   m->device.utilisation_from);
    line(out, "time");
    seo_buf_format(out, "%s in all; ", duration(text, f->run_s));
    seo_buf_format(out, "a step %s", duration(text, f->step_s));
    seo_buf_format(out, " (computing %s", duration(text, f->compute_s));
    seo_buf_format(out, ", update %s", duration(more, f->update_s));
    seo_buf_format(out, ", waiting for other ranks %s)\n", duration(text, f->exposed_s));
    line(out, "");
    seo_buf_format(out, "%s tokens a second, ",
                   seo_format_count(text, (int64_t)(f->tokens_per_s + 0.5)));
    seo_buf_format(out,
                   "%.3g floating-point operations a token; evaluation and saving come on top\n",
                   f->model_flops);
    line(out, "wire");
    seo_buf_format(out, "%s bytes sent by a rank in a step", seo_format_count(text, f->sent_bytes));
    if (f->exchange_s > 0) {
        seo_buf_format(out, ", %s, of which %.0f %% behind computing",
                       duration(more, f->exchange_s), 100 * (1 - f->exposed_s / f->exchange_s));
    }
    seo_buf_text(out, "\n");
}

static void write_costs(const seo_plan_report *r, seo_buf *out) {
    char text[SEO_SHORT_TEXT];
    const seo_forecast *f = r->forecast;
    const seo_machine *d = &r->args->machines->device;
    line(out, "energy");
    seo_buf_format(out,
                   "%.3g kWh: %.0f W a device and %.0f W beside it, x %.2f for the site; "
                   "%.3g kg CO2 at %.0f g/kWh\n",
                   f->kwh, d->watts, r->args->host_watts, r->args->pue, f->kg_co2,
                   r->args->grams_per_kwh);
    line(out, "cost");
    if (r->args->price > 0) {
        if (f->dollars >= 1000) {
            seo_buf_format(out, "$%s", seo_format_count(text, (int64_t)(f->dollars + 0.5)));
        } else {
            seo_buf_format(out, "$%.2f", f->dollars);
        }
        seo_buf_format(out, " at $%.2f a device and hour", r->args->price);
        const bool assumed = r->args->price == d->price;
        seo_buf_format(out, "%s%s%s\n", assumed ? " (" : "", assumed ? d->price_from : "",
                       assumed ? "; --price replaces it)" : "");
    } else {
        seo_buf_text(out, "not known; --price gives dollars a device and hour\n");
    }
    line(out, "disk");
    seo_buf_format(out, "%s a checkpoint\n", seo_format_bytes(text, (double)f->checkpoint_bytes));
}

void seo_plan_write_text(const seo_plan_report *report, seo_buf *out) {
    write_model(report, out);
    write_memory(report, out);
    write_time(report, out);
    write_costs(report, out);
}

static void member(seo_buf *out, const char *name, double value) {
    seo_buf_format(out, ", \"%s\": ", name);
    seo_buf_json_float(out, value, 17);
}

void seo_plan_write_json(const seo_plan_report *report, seo_buf *out) {
    const seo_forecast *f = report->forecast;
    const seo_plan_memory *m = report->memory;
    seo_buf_format(out, "{\"parameters\": %" PRId64 ", \"ranks\": %d, \"device\": \"%s\"",
                   f->parameters, report->args->machines->count,
                   report->args->machines->device.name);
    seo_buf_format(out,
                   ", \"device_bytes\": %" PRId64 ", \"host_bytes\": %" PRId64 ", \"slabs\": {",
                   seo_memory_total(&m->device), m->host_bytes);
    for (int64_t i = 0; i < m->device.count; i++) {
        seo_buf_text(out, i ? ", " : "");
        seo_buf_json_string(out, m->device.rows[i].name, strlen(m->device.rows[i].name));
        seo_buf_format(out, ": %" PRId64, m->device.rows[i].bytes);
    }
    seo_buf_format(out,
                   "}, \"largest_micro_batch\": %" PRId64 ", \"sent_bytes\": %" PRId64
                   ", \"checkpoint_bytes\": %" PRId64,
                   report->largest_micro_batch, f->sent_bytes, f->checkpoint_bytes);
    member(out, "step_s", f->step_s);
    member(out, "compute_s", f->compute_s);
    member(out, "update_s", f->update_s);
    member(out, "exchange_s", f->exchange_s);
    member(out, "exposed_s", f->exposed_s);
    member(out, "run_s", f->run_s);
    member(out, "tokens_per_s", f->tokens_per_s);
    member(out, "flops_per_token", f->model_flops);
    member(out, "utilisation", f->utilisation);
    member(out, "kwh", f->kwh);
    member(out, "kg_co2", f->kg_co2);
    member(out, "dollars", f->dollars);
    seo_buf_text(out, "}\n");
}
