/* From a file to ids: lines are dealt to threads in equal parts, which join in the file's order. */
#include "data/examples.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "data/examples_internal.h"

enum { DETAIL_BYTES = 2048 };

typedef struct special_ids {
    int32_t eot, cls, sep, pad;
} special_ids;

/* Lines [begin, end) of the file, by one thread. */
typedef struct part {
    const seo_examples_args *a;
    const special_ids *special;
    const seo_example_line *lines;
    int64_t begin, end;
    seo_encoder *encoder;
    seo_ids first, second, ids; /* of one line, and of the part */
    seo_example *items;
    int64_t count, cut, first_cut_line;
    int64_t line_with, line_without; /* the first with a second text, and without; 0: none */
    pthread_t thread;
    bool runs;
    seo_err err;
    char detail[DETAIL_BYTES];
} part;

/* ---- one example ---- */

static seo_err add_ids(seo_ids *to, const int32_t *ids, int64_t count) {
    if (to->capacity - to->count < count) {
        const int64_t capacity = seo_max_i64(2 * to->capacity, to->count + count + 1024);
        int32_t *grown = realloc(to->items, (size_t)capacity * sizeof *grown);
        if (grown == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the examples");
        to->items = grown;
        to->capacity = capacity;
    }
    if (count > 0) memcpy(to->items + to->count, ids, (size_t)count * sizeof *ids);
    to->count += count;
    return SEO_OK;
}

static void note_cut(part *p, int64_t line) {
    if (p->cut++ == 0) p->first_cut_line = line;
}

static seo_err join_pair(part *p, seo_example *e) {
    seo_err err = SEO_OK;
    const int64_t room = p->a->seq_len + 1; /* the last id is a target only */
    if (p->first.count == 0) SEO_TRY(add_ids(&p->first, &p->special->eot, 1));
    const int64_t left = room - p->second.count - 1;
    if (left < 1) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s:%" PRId64 ": the completion has %" PRId64
                        " tokens, too many for sequences of %" PRId64
                        ": shorten it, or take a larger model.seq_len",
                        p->a->path, e->line, p->second.count, p->a->seq_len);
    }
    if (p->first.count > left) note_cut(p, e->line);
    const int64_t kept = seo_min_i64(p->first.count, left);
    SEO_TRY(add_ids(&p->ids, p->first.items + p->first.count - kept, kept));
    SEO_TRY(add_ids(&p->ids, p->second.items, p->second.count));
    SEO_TRY(add_ids(&p->ids, &p->special->eot, 1));
    e->second = (int32_t)kept;
done:
    return err;
}

/* The longer text loses its end first, until both fit (as the script of BERT does). */
static void shorten(part *p, int64_t room, int64_t line) {
    int64_t *longer = &p->first.count, *shorter = &p->second.count;
    if (*longer + *shorter <= room) return;
    note_cut(p, line);
    if (*longer < *shorter) {
        longer = &p->second.count;
        shorter = &p->first.count;
    }
    *shorter = seo_min_i64(*shorter, room / 2);
    *longer = seo_min_i64(*longer, room - *shorter);
}

static seo_err join_texts(part *p, seo_example *e, bool has_second) {
    seo_err err = SEO_OK;
    const bool encoder = p->a->encoder;
    const int32_t *closing = encoder ? &p->special->sep : &p->special->eot;
    const int64_t between = encoder && has_second ? p->a->separators : 1;
    const int64_t special = (encoder ? 1 : 0) + between + (has_second ? 1 : 0);
    const int64_t room = p->a->seq_len - special;
    if (room < 1 + (has_second ? 1 : 0)) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s:%" PRId64 ": a sequence of %" PRId64
                        " has no room for the text beside %" PRId64
                        " special tokens: take a larger model.seq_len",
                        p->a->path, e->line, p->a->seq_len, special);
    }
    shorten(p, room, e->line);
    if (encoder) SEO_TRY(add_ids(&p->ids, &p->special->cls, 1));
    SEO_TRY(add_ids(&p->ids, p->first.items, p->first.count));
    for (int64_t i = 0; i < between; i++) SEO_TRY(add_ids(&p->ids, closing, 1));
    e->second = (int32_t)(p->ids.count - e->first);
    if (!has_second) goto done;
    SEO_TRY(add_ids(&p->ids, p->second.items, p->second.count));
    SEO_TRY(add_ids(&p->ids, closing, 1));
done:
    return err;
}

static seo_err add_example(part *p, const seo_example_texts *texts, int64_t line) {
    seo_err err = SEO_OK;
    seo_example *e = &p->items[p->count];
    *e = (seo_example){.first = p->ids.count, .line = line, .label = texts->label};
    p->first.count = 0;
    p->second.count = 0;
    SEO_TRY(seo_encode(p->encoder, texts->first, texts->first_bytes, false, &p->first));
    if (texts->has_second) {
        SEO_TRY(seo_encode(p->encoder, texts->second, texts->second_bytes, false, &p->second));
    }
    if (p->a->kind == SEO_EXAMPLES_PAIRS) {
        SEO_TRY(join_pair(p, e));
    } else {
        int64_t *seen = texts->has_second ? &p->line_with : &p->line_without;
        if (*seen == 0) *seen = line;
        SEO_TRY(join_texts(p, e, texts->has_second));
    }
    e->count = (int32_t)(p->ids.count - e->first);
    p->count++;
done:
    return err;
}

/* ---- the threads ---- */

static seo_err read_part(part *p) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_encoder_open(p->a->tokenizer, &p->encoder));
    p->items = calloc((size_t)(p->end - p->begin) + 1, sizeof *p->items);
    if (p->items == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the examples");
    for (int64_t i = p->begin; i < p->end; i++) {
        seo_example_texts texts;
        err = seo_example_take(p->a, p->lines[i], &texts);
        if (err == SEO_OK) err = add_example(p, &texts, p->lines[i].number);
        json_decref(texts.json);
        if (err != SEO_OK) break;
    }
done:
    return err;
}

static void *run_part(void *argument) {
    part *p = argument;
    p->err = read_part(p);
    if (p->err != SEO_OK) snprintf(p->detail, sizeof p->detail, "%s", seo_err_detail());
    return NULL;
}

/* The error of the earliest line is told, whoever met it first. */
static seo_err run_parts(part *parts, int64_t count) {
    for (int64_t i = 1; i < count; i++) {
        parts[i].runs = pthread_create(&parts[i].thread, NULL, run_part, &parts[i]) == 0;
    }
    for (int64_t i = 0; i < count; i++) {
        if (!parts[i].runs) {
            run_part(&parts[i]);
        } else {
            pthread_join(parts[i].thread, NULL);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        if (parts[i].err != SEO_OK) return SEO_FAIL(parts[i].err, "%s", parts[i].detail);
    }
    return SEO_OK;
}

static void free_parts(part *parts, int64_t count) {
    for (int64_t i = 0; parts != NULL && i < count; i++) {
        seo_encoder_close(parts[i].encoder);
        seo_ids_free(&parts[i].first);
        seo_ids_free(&parts[i].second);
        seo_ids_free(&parts[i].ids);
        free(parts[i].items);
    }
    free(parts);
}

/* ---- the whole ---- */

/* Either all texts have a second one or none has: else it is missing somewhere. */
static seo_err check_seconds(const seo_examples_args *a, const part *parts, int64_t count,
                             bool *pairs) {
    int64_t with = 0, without = 0;
    for (int64_t i = count - 1; i >= 0; i--) {
        if (parts[i].line_with > 0) with = parts[i].line_with;
        if (parts[i].line_without > 0) without = parts[i].line_without;
    }
    *pairs = with > 0;
    if (with == 0 || without == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s:%" PRId64 ": there is no second text, line %" PRId64
                    " has one: give all lines of the file a second text or none",
                    a->path, without, with);
}

static seo_err join_parts(const seo_examples_args *a, const part *parts, int64_t count,
                          seo_examples *x) {
    seo_err err = SEO_OK;
    SEO_TRY(check_seconds(a, parts, count, &x->info.pairs));
    for (int64_t i = 0; i < count; i++) x->info.count += parts[i].count;
    x->items = calloc((size_t)x->info.count + 1, sizeof *x->items);
    if (x->items == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the examples");
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const part *p = &parts[i];
        for (int64_t k = 0; k < p->count; k++) {
            x->items[at] = p->items[k];
            x->items[at++].first += x->ids.count;
        }
        SEO_TRY(add_ids(&x->ids, p->ids.items, p->ids.count));
        if (x->info.cut == 0) x->info.first_cut_line = p->first_cut_line;
        x->info.cut += p->cut;
    }
    x->info.tokens = x->ids.count;
done:
    return err;
}

static bool is_blank(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    }
    return true;
}

/* The lines that are not blank. */
static seo_err find_lines(const char *text, int64_t bytes, seo_example_line **out, int64_t *count) {
    int64_t lines = 1, number = 0;
    for (int64_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    *count = 0;
    *out = calloc((size_t)lines, sizeof **out);
    if (*out == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the examples");
    for (const char *at = text, *end = text + bytes; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *next = newline != NULL ? newline + 1 : end;
        size_t length = (size_t)((newline != NULL ? newline : end) - at);
        number++;
        if (length > 0 && at[length - 1] == '\r') length--;
        if (!is_blank(at, length)) {
            (*out)[(*count)++] = (seo_example_line){.text = at, .bytes = length, .number = number};
        }
        at = next;
    }
    return SEO_OK;
}

static seo_err check_args(const seo_examples_args *a) {
    const bool classify = a->kind == SEO_EXAMPLES_CLASSIFY;
    const size_t length = strlen(a->path);
    const bool jsonl = length >= 6 && strcmp(a->path + length - 6, ".jsonl") == 0;
    if (a->seq_len < 1 || a->seq_len > 1 << 20 || a->threads < 1 ||
        a->threads > SEO_EXAMPLES_THREADS_MAX || (a->encoder && !classify) ||
        (a->encoder && (a->separators < 1 || a->separators > 2)) ||
        (classify && (a->label_count < 2 || a->label_count > INT32_MAX))) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "examples take sequences of 1 to %d tokens, 1 to %d threads, two classes "
                        "or more to classify, and a decoder for prompts and completions",
                        1 << 20, (int)SEO_EXAMPLES_THREADS_MAX);
    }
    if (jsonl || (classify && seo_example_is_tsv(a->path))) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s: examples are read from a file that ends in .jsonl%s: "
                    "convert or rename it",
                    a->path, classify ? " or .tsv" : "");
}

static seo_err find_special(const seo_examples_args *a, special_ids *out) {
    seo_err err = SEO_OK;
    if (a->encoder) {
        SEO_TRY(seo_tokenizer_require(a->tokenizer, SEO_ROLE_CLS, &out->cls));
        SEO_TRY(seo_tokenizer_require(a->tokenizer, SEO_ROLE_SEP, &out->sep));
        SEO_TRY(seo_tokenizer_require(a->tokenizer, SEO_ROLE_PAD, &out->pad));
    } else {
        SEO_TRY(seo_tokenizer_require(a->tokenizer, SEO_ROLE_EOT, &out->eot));
        out->pad = seo_tokenizer_role(a->tokenizer, SEO_ROLE_PAD);
        if (out->pad < 0) out->pad = out->eot;
    }
done:
    return err;
}

static seo_err read_lines(const seo_examples_args *a, const special_ids *special,
                          const seo_example_line *lines, int64_t count, seo_examples *x) {
    seo_err err = SEO_OK;
    const int64_t part_count = seo_max_i64(1, seo_min_i64(a->threads, count / 64));
    part *parts = calloc((size_t)part_count, sizeof *parts);
    if (parts == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the examples");
    for (int64_t i = 0; i < part_count; i++) {
        parts[i].a = a;
        parts[i].special = special;
        parts[i].lines = lines;
        parts[i].begin = count * i / part_count;
        parts[i].end = count * (i + 1) / part_count;
    }
    SEO_TRY(run_parts(parts, part_count));
    SEO_TRY(join_parts(a, parts, part_count, x));
done:
    free_parts(parts, part_count);
    return err;
}

seo_err seo_examples_parse(const seo_examples_args *args, const char *text, int64_t bytes,
                           seo_examples **out) {
    seo_err err = SEO_OK;
    seo_examples *x = NULL;
    seo_example_line *lines = NULL;
    special_ids special = {.eot = -1, .cls = -1, .sep = -1, .pad = -1};
    int64_t count = 0, first = 0;
    *out = NULL;
    SEO_TRY(check_args(args));
    SEO_TRY(find_special(args, &special));
    x = calloc(1, sizeof *x);
    if (x == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the examples");
    x->kind = args->kind;
    x->seq_len = args->seq_len;
    x->types = args->types;
    x->encoder = args->encoder;
    x->pad = special.pad;
    seo_sha256_hex(text, (size_t)bytes, x->info.sha256);
    SEO_TRY(find_lines(text, bytes, &lines, &count));
    if (count > 0 && seo_example_is_tsv(args->path)) first = seo_example_is_header(args, lines[0]);
    if (count == first) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: there is no example in it", args->path);
        goto done;
    }
    SEO_TRY(read_lines(args, &special, lines + first, count - first, x));
    *out = x;
    x = NULL;
done:
    free(lines);
    seo_examples_close(x);
    return err;
}

seo_err seo_examples_open(const seo_examples_args *args, seo_examples **out) {
    char *text = NULL;
    int64_t bytes = 0;
    *out = NULL;
    seo_err err = seo_file_read(args->path, SEO_EXAMPLES_BYTES_MAX, &text, &bytes);
    if (err == SEO_OK) err = seo_examples_parse(args, text, bytes, out);
    free(text);
    return err;
}

void seo_examples_close(seo_examples *examples) {
    if (examples == NULL) return;
    seo_ids_free(&examples->ids);
    free(examples->items);
    free(examples);
}

/* ---- asking ---- */

seo_examples_info seo_examples_info_get(const seo_examples *examples) {
    return examples->info;
}

int64_t seo_examples_line(const seo_examples *examples, int64_t index) {
    SEO_ASSERT(index >= 0 && index < examples->info.count);
    return examples->items[index].line;
}

int32_t seo_examples_label(const seo_examples *examples, int64_t index) {
    SEO_ASSERT(index >= 0 && index < examples->info.count);
    return examples->items[index].label;
}
