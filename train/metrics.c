#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

enum { DIGITS = 9 };

struct seo_metrics {
    char path[SEO_PATH_MAX];
    int fd;
    int64_t bytes;      /* of whole lines in the file */
    seo_buf last;       /* the last line written, without its newline */
    int64_t last_start; /* where it begins */
    int64_t last_step;  /* 0: none */
    seo_buf pending;    /* lines that could not be written yet */
    bool failing;
};

/* The step of a line, or -1 when it is no line of ours. */
static int64_t line_step(const char *line, int64_t bytes) {
    json_t *object = json_loadb(line, (size_t)bytes, 0, NULL);
    const json_t *step = json_object_get(object, "step");
    const int64_t number = json_is_integer(step) ? (int64_t)json_integer_value(step) : -1;
    json_decref(object);
    return number;
}

/* Finds, from the end backwards, the last whole line of a step <= `step`. */
static void find_end(seo_metrics *m, const char *text, int64_t bytes, int64_t step) {
    int64_t end = bytes;
    while (end > 0 && text[end - 1] != '\n') end--; /* a torn line has no newline */
    while (end > 0) {
        int64_t start = end - 1;
        while (start > 0 && text[start - 1] != '\n') start--;
        const int64_t number = line_step(text + start, end - 1 - start);
        if (number >= 1 && number <= step) {
            seo_buf_add(&m->last, text + start, (size_t)(end - 1 - start));
            m->last_start = start;
            m->last_step = number;
            break;
        }
        end = start;
    }
    m->bytes = end;
}

static seo_err cut(seo_metrics *m) {
    if (ftruncate(m->fd, m->bytes) == 0 && lseek(m->fd, m->bytes, SEEK_SET) == m->bytes)
        return SEO_OK;
    return SEO_FAIL(SEO_ERR_IO, "%s: cannot be cut to %lld bytes: %s", m->path, (long long)m->bytes,
                    strerror(errno));
}

static seo_err open_at(seo_metrics *m, int64_t step) {
    seo_err err = SEO_OK;
    seo_map map = {0};
    m->fd = open(m->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (m->fd < 0)
        return SEO_FAIL(SEO_ERR_IO, "%s: cannot be opened: %s", m->path, strerror(errno));
    SEO_TRY(seo_map_open(m->path, &map));
    find_end(m, (const char *)map.data, map.bytes, step);
    SEO_TRY(seo_buf_check(&m->last));
    if (m->bytes < map.bytes) SEO_TRY(cut(m));
    if (lseek(m->fd, m->bytes, SEEK_SET) != m->bytes)
        err = SEO_FAIL(SEO_ERR_IO, "%s: %s", m->path, strerror(errno));
    if (m->last_step < step) {
        seo_warn("%s has no lines of steps %lld to %lld; going on without them", m->path,
                 (long long)m->last_step + 1, (long long)step);
    }
done:
    seo_map_close(&map);
    return err;
}

seo_err seo_metrics_open(const char *path, int64_t step, seo_metrics **out) {
    *out = NULL;
    seo_metrics *m = calloc(1, sizeof *m);
    if (!m) return SEO_FAIL(SEO_ERR_MEMORY, "%s", path);
    m->fd = -1;
    snprintf(m->path, sizeof m->path, "%s", path);
    const seo_err err = open_at(m, step);
    if (err != SEO_OK) {
        seo_metrics_close(m);
        return err;
    }
    *out = m;
    return SEO_OK;
}

bool seo_metrics_has_eval(const seo_metrics *m, int64_t step) {
    return m->last_step == step && m->last.data && strstr(m->last.data, "\"eval_loss\"");
}

static void add_number(seo_buf *line, const char *key, double value) {
    seo_buf_format(line, ", \"%s\": ", key);
    seo_buf_json_float(line, value, DIGITS);
}

static void add_eval(seo_buf *line, const seo_metrics_eval *eval) {
    const seo_scores *s = &eval->scores;
    add_number(line, "eval_loss", eval->loss);
    if (eval->classes == 0) add_number(line, "eval_perplexity", eval->perplexity);
    if (!eval->of_task && !isnan(eval->bits_per_byte)) {
        add_number(line, "eval_bits_per_byte", eval->bits_per_byte);
    }
    if (eval->labelled) add_number(line, "eval_next_sentence_accuracy", eval->label_accuracy);
    if (eval->classes == 0) return;
    add_number(line, "eval_accuracy", s->accuracy);
    add_number(line, "eval_f1_macro", s->f1_macro);
    if (eval->classes == 2) add_number(line, "eval_f1", s->f1_second);
    add_number(line, "eval_matthews", s->matthews);
}

/* Clocks are not worth more digits. */
static void add_time(seo_buf *line, const char *key, double value) {
    if (isfinite(value)) {
        seo_buf_format(line, "%s%.3f", key, value);
    } else {
        seo_buf_format(line, "%snull", key);
    }
}

static bool write_all(seo_metrics *m, const char *data, size_t bytes) {
    while (bytes > 0) {
        const ssize_t n = write(m->fd, data, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

/* Writes what is pending; true when nothing is kept back. */
static bool flush(seo_metrics *m) {
    if (m->pending.bytes == 0) return true;
    if (write_all(m, m->pending.data, m->pending.bytes)) {
        m->bytes += (int64_t)m->pending.bytes;
        seo_buf_clear(&m->pending);
        if (m->failing) seo_info("%s: written again, nothing is missing", m->path);
        m->failing = false;
        return true;
    }
    const int reason = errno;
    if (!m->failing) {
        seo_warn("%s: cannot be written (%s); lines are kept in memory and tried again", m->path,
                 strerror(reason));
    }
    m->failing = true;
    if (cut(m) != SEO_OK) seo_log_failure();
    return false;
}

static void keep_line(seo_metrics *m, const seo_buf *line, int64_t step) {
    m->last_start = m->bytes + (int64_t)m->pending.bytes;
    m->last_step = step;
    seo_buf_clear(&m->last);
    seo_buf_add(&m->last, line->data, line->bytes);
    seo_buf_add(&m->pending, line->data, line->bytes);
    seo_buf_text(&m->pending, "\n");
    flush(m);
}

static void add_ranks(seo_buf *line, const seo_metrics_ranks *r) {
    seo_buf_format(line, ", \"ranks\": {\"count\": %d, \"slowest\": %d", (int)r->count,
                   (int)r->slowest);
    add_time(line, ", \"min_ms\": ", r->min_s * 1e3);
    add_time(line, ", \"mean_ms\": ", r->mean_s * 1e3);
    add_time(line, ", \"max_ms\": ", r->max_s * 1e3);
    add_time(line, ", \"comm_ms\": ", r->comm_s * 1e3);
    add_time(line, ", \"waited_ms\": ", r->waited_s * 1e3);
    seo_buf_format(line, ", \"sent_bytes\": %lld}", (long long)r->sent_bytes);
}

void seo_metrics_write(seo_metrics *m, const seo_metrics_record *r) {
    seo_buf line = {0};
    seo_buf_format(&line, "{\"step\": %lld", (long long)r->step);
    add_number(&line, "loss", r->loss);
    add_number(&line, "loss_mean", r->loss_mean);
    add_number(&line, "grad_norm", r->grad_norm);
    add_number(&line, "lr", r->lr);
    seo_buf_format(&line, ", \"tokens\": %lld", (long long)r->tokens);
    if (r->two_losses) {
        add_number(&line, "token_loss", r->token_loss);
        add_number(&line, "label_loss", r->label_loss);
    }
    if (r->taught) {
        add_number(&line, "hard_loss", r->taught->hard);
        add_number(&line, "soft_loss", r->taught->soft);
        add_number(&line, "cosine_loss", r->taught->cosine);
    }
    if (r->skipped) seo_buf_text(&line, ", \"skipped\": true");
    if (r->spike) seo_buf_text(&line, ", \"spike\": true");
    if (r->eval) add_eval(&line, r->eval);
    seo_buf_text(&line, ", \"time\": {");
    add_time(&line, "\"tokens_per_s\": ", r->tokens_per_s);
    add_time(&line, ", \"ms\": ", r->ms);
    add_time(&line, ", \"data_wait_ms\": ", r->data_wait_ms);
    seo_buf_format(&line, ", \"memory_bytes\": %lld", (long long)r->memory_bytes);
    add_time(&line, ", \"eta_s\": ", r->eta_s);
    if (r->ranks) add_ranks(&line, r->ranks);
    seo_buf_text(&line, "}}");
    if (seo_buf_check(&line) == SEO_OK) {
        keep_line(m, &line, r->step);
    } else {
        seo_log_failure();
    }
    seo_buf_free(&line);
}

seo_err seo_metrics_add_eval(seo_metrics *m, int64_t step, const seo_metrics_eval *eval) {
    seo_err err = SEO_OK;
    seo_buf line = {0};
    const char *time = m->last.data ? strstr(m->last.data, ", \"time\": ") : NULL;
    if (m->last_step != step || !time || seo_metrics_has_eval(m, step)) return SEO_OK;
    seo_buf_add(&line, m->last.data, (size_t)(time - m->last.data));
    add_eval(&line, eval);
    seo_buf_text(&line, time);
    SEO_TRY(seo_buf_check(&line));
    SEO_ASSERT(m->pending.bytes == 0);
    m->bytes = m->last_start;
    SEO_TRY(cut(m));
    keep_line(m, &line, step);
done:
    seo_buf_free(&line);
    return err;
}

seo_err seo_metrics_sync(seo_metrics *m) {
    if (!flush(m)) return SEO_FAIL(SEO_ERR_IO, "%s: lines are still kept in memory", m->path);
    if (fsync(m->fd) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_IO, "%s: cannot be synced: %s", m->path, strerror(errno));
}

void seo_metrics_close(seo_metrics *m) {
    if (!m) return;
    if (m->fd >= 0) {
        if (!flush(m)) seo_error("%s: the last lines could not be written and are lost", m->path);
        close(m->fd);
    }
    seo_buf_free(&m->last);
    seo_buf_free(&m->pending);
    free(m);
}
