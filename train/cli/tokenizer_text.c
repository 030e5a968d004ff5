/* seodang tokenizer encode|decode. Without --jsonl a whole file is one document: its ids are one
 * line, and decoding the line gives the file's bytes back. Texts are read piece by piece, so a file
 * may be larger than memory. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "data/pretoken.h"
#include "data/tokenizer.h"
#include "train/cli/cli.h"
#include "train/cli/tokenizer.h"

enum {
    READ_BYTES = 1 << 20,
    PRINT_BYTES = 1 << 16,
    /* A character may be cut in two at the end of what was read; no cut is made so near to it. */
    MARGIN_BYTES = 8
};

typedef struct task {
    seo_tokenizer *tok;
    seo_encoder *enc;
    bool with_special;
    const char *name; /* of the input, for messages */
    FILE *input;
    int64_t line;
    int64_t replaced_lines; /* whose bytes are no UTF-8, so that JSON cannot hold them */
    char *unread;           /* of a plain text, still to be encoded */
    size_t unread_bytes, unread_capacity;
    seo_ids ids;
    seo_buf text, out;
} task;

static seo_err task_open(task *t, const char *tokenizer, const seo_cli_list *paths) {
    seo_err err = SEO_OK;
    bool standard = paths->count == 0 || strcmp(paths->items[0], "-") == 0;
    t->name = standard ? "standard input" : paths->items[0];
    SEO_TRY(seo_tokenizer_load(tokenizer, &t->tok));
    SEO_TRY(seo_encoder_open(t->tok, &t->enc));
    t->input = standard ? stdin : fopen(t->name, "rb");
    if (t->input == NULL) {
        err = SEO_FAIL(errno == ENOENT ? SEO_ERR_MISSING : SEO_ERR_IO, "%s: cannot open: %s",
                       t->name, strerror(errno));
    }
done:
    return err;
}

static void task_close(task *t) {
    if (t->input != NULL && t->input != stdin) fclose(t->input);
    free(t->unread);
    seo_ids_free(&t->ids);
    seo_buf_free(&t->text);
    seo_buf_free(&t->out);
    seo_encoder_close(t->enc);
    seo_tokenizer_free(t->tok);
}

/* Prints what has gathered, when it is enough or the last. */
static seo_err flush(task *t, bool last) {
    if (t->out.bytes < PRINT_BYTES && !last) return SEO_OK;
    seo_err err = seo_buf_check(&t->out);
    if (err == SEO_OK && t->out.bytes > 0) err = seo_cli_print(t->out.data, (int64_t)t->out.bytes);
    seo_buf_clear(&t->out);
    return err;
}

static seo_err check_read(const task *t) {
    if (!ferror(t->input)) return SEO_OK;
    return SEO_FAIL(SEO_ERR_IO, "%s: cannot read: %s", t->name, strerror(errno));
}

/* Appends to `unread` what there is room for; *more is false at the end of the input. The room is
 * at least what is there already, so that a text without any cut does not cost n^2. */
static seo_err read_more(task *t, bool *more) {
    if (t->unread_capacity - t->unread_bytes < t->unread_bytes + READ_BYTES) {
        size_t larger = 2 * t->unread_bytes + 2 * READ_BYTES;
        char *moved = realloc(t->unread, larger);
        if (moved == NULL) {
            return SEO_FAIL(SEO_ERR_MEMORY, "%s: not enough memory for a text of %zu bytes",
                            t->name, t->unread_bytes);
        }
        t->unread = moved;
        t->unread_capacity = larger;
    }
    size_t room = t->unread_capacity - t->unread_bytes;
    size_t got = fread(t->unread + t->unread_bytes, 1, room, t->input);
    t->unread_bytes += got;
    *more = got == room;
    return check_read(t);
}

/* One line of the input without its line feed; *more is false after the last. */
static seo_err read_line(task *t, char **line, size_t *capacity, size_t *bytes, bool *more) {
    errno = 0;
    ssize_t got = getline(line, capacity, t->input);
    *more = got >= 0;
    if (got < 0 && errno == ENOMEM) {
        return SEO_FAIL(SEO_ERR_MEMORY, "%s:%" PRId64 ": not enough memory for the line", t->name,
                        t->line + 1);
    }
    if (got < 0) return check_read(t);
    t->line++;
    *bytes = (size_t)got;
    if (got > 0 && (*line)[got - 1] == '\n') (*line)[--*bytes] = '\0';
    return SEO_OK;
}

static bool is_blank(const char *line, size_t bytes) {
    return strspn(line, " \t\r") == bytes;
}

/* ---- encode ---- */

/* Appends " id", or "id" where the line begins. */
static void add_id(seo_buf *out, int32_t id, bool first) {
    char digits[12];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + id % 10);
        id /= 10;
    } while (id > 0);
    if (!first) digits[--at] = ' ';
    seo_buf_add(out, digits + at, sizeof digits - at);
}

static seo_err encode_part(task *t, size_t bytes, bool *first) {
    t->ids.count = 0;
    seo_err err = seo_encode(t->enc, t->unread, bytes, t->with_special, &t->ids);
    if (err != SEO_OK) return seo_err_context(err, "%s", t->name);
    for (int64_t i = 0; i < t->ids.count; i++) {
        add_id(&t->out, t->ids.items[i], *first);
        *first = false;
    }
    memmove(t->unread, t->unread + bytes, t->unread_bytes - bytes);
    t->unread_bytes -= bytes;
    return flush(t, false);
}

/* The length of the part that may be encoded on its own, 0 when more has to be read first. Special
 * tokens may hold anything, so that with them no place is safe. */
static size_t safe_part(const task *t) {
    if (t->with_special || t->unread_bytes <= 2 * MARGIN_BYTES) return 0;
    size_t limit = t->unread_bytes - MARGIN_BYTES;
    size_t cut = seo_pretoken_cut((const unsigned char *)t->unread, t->unread_bytes, limit);
    return cut <= limit ? cut : 0;
}

static seo_err encode_file(task *t) {
    seo_err err = SEO_OK;
    bool more = true, first = true;
    while (more) {
        SEO_TRY(read_more(t, &more));
        size_t part = more ? safe_part(t) : t->unread_bytes;
        if (part > 0) SEO_TRY(encode_part(t, part, &first));
    }
    seo_buf_text(&t->out, "\n");
    err = flush(t, true);
done:
    return err;
}

static seo_err bad_line(const task *t, const char *reason) {
    return SEO_FAIL(SEO_ERR_FORMAT, "%s:%" PRId64 ": %s", t->name, t->line, reason);
}

static seo_err parse_line(const task *t, const char *line, size_t bytes, json_t **out) {
    json_error_t error;
    *out = json_loadb(line, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (*out != NULL) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s:%" PRId64 ":%d: %s", t->name, t->line, error.column,
                    error.text);
}

static seo_err encode_line(task *t, const char *line, size_t bytes) {
    seo_err err = SEO_OK;
    json_t *object = NULL;
    SEO_TRY(parse_line(t, line, bytes, &object));
    const json_t *text = json_object_get(object, "text");
    if (!json_is_string(text)) {
        err = bad_line(t, "an object with a string \"text\" is wanted");
        goto done;
    }
    seo_buf_text(&t->out, "{\"ids\": [");
    t->ids.count = 0;
    err = seo_encode(t->enc, json_string_value(text), json_string_length(text), t->with_special,
                     &t->ids);
    if (err != SEO_OK) {
        seo_err_context(err, "%s:%" PRId64, t->name, t->line);
        goto done;
    }
    for (int64_t i = 0; i < t->ids.count; i++) {
        seo_buf_format(&t->out, "%s%" PRId32, i > 0 ? ", " : "", t->ids.items[i]);
    }
    seo_buf_text(&t->out, "]}\n");
    err = flush(t, false);
done:
    json_decref(object);
    return err;
}

/* ---- decode ---- */

static seo_err decode_line(task *t, const char *line, size_t bytes) {
    const char *p = line, *end = line + bytes;
    bool first = true;
    while (p < end) {
        p += strspn(p, " \t\r");
        if (p == end) break;
        char *stop = NULL;
        errno = 0;
        long long id = isdigit((unsigned char)*p) ? strtoll(p, &stop, 10) : -1;
        if (id < 0 || id > INT32_MAX || errno != 0 || strchr(" \t\r", *stop) == NULL) {
            return SEO_FAIL(SEO_ERR_FORMAT, "%s:%" PRId64 ":%td: '%.20s' is not an id", t->name,
                            t->line, p - line + 1, p);
        }
        int32_t item = (int32_t)id;
        seo_err err = seo_decode_one(t->tok, item, first, &t->out);
        if (err != SEO_OK) return seo_err_context(err, "%s:%" PRId64, t->name, t->line);
        first = false;
        p = stop;
    }
    return flush(t, false);
}

static seo_err decode_json_line(task *t, const char *line, size_t bytes) {
    seo_err err = SEO_OK;
    json_t *object = NULL;
    SEO_TRY(parse_line(t, line, bytes, &object));
    const json_t *ids = json_object_get(object, "ids");
    if (!json_is_array(ids)) {
        err = bad_line(t, "an object with a list \"ids\" is wanted");
        goto done;
    }
    seo_buf_clear(&t->text);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *item = json_array_get(ids, i);
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id > INT32_MAX) {
            err = SEO_FAIL(SEO_ERR_FORMAT, "%s:%" PRId64 ": ids[%zu] is not an id", t->name,
                           t->line, i);
            goto done;
        }
        int32_t one = (int32_t)id;
        err = seo_decode_one(t->tok, one, i == 0, &t->text);
        if (err != SEO_OK) seo_err_context(err, "%s:%" PRId64, t->name, t->line);
        if (err != SEO_OK) goto done;
    }
    if (seo_utf8_first_bad(t->text.data, t->text.bytes) >= 0) t->replaced_lines++;
    seo_buf_text(&t->out, "{\"text\": ");
    seo_buf_json_string(&t->out, t->text.data, t->text.bytes);
    seo_buf_text(&t->out, "}\n");
    err = flush(t, false);
done:
    json_decref(object);
    return err;
}

static seo_err each_line(task *t, seo_err (*take)(task *, const char *, size_t)) {
    seo_err err = SEO_OK;
    char *line = NULL;
    size_t capacity = 0, bytes = 0;
    for (bool more = true;;) {
        SEO_TRY(read_line(t, &line, &capacity, &bytes, &more));
        if (!more) break;
        if (is_blank(line, bytes)) continue;
        size_t complete = t->out.bytes;
        err = take(t, line, bytes);
        if (err == SEO_OK) continue;
        /* What the lines before it gave is printed all the same. */
        t->out.bytes = complete;
        flush(t, true);
        goto done;
    }
    err = flush(t, true);
    if (t->replaced_lines > 0) {
        seo_warn("%" PRId64 " lines had bytes that are no UTF-8; JSON cannot hold them, so they "
                 "became U+FFFD: decode without --jsonl to get them",
                 t->replaced_lines);
    }
done:
    free(line);
    return err;
}

/* ---- the verbs ---- */

int seo_cli_tokenizer_encode(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "tokenizer encode",
        .operands = "[FILE|-]",
        .summary = "Prints the ids of a text. A whole file is one document and gives one line; "
                   "with --jsonl each line {\"text\": ...} gives a line {\"ids\": [...]}.",
        .example = "seodang tokenizer encode --tokenizer gpt2.json book.txt\n"
                   "seodang tokenizer encode --tokenizer gpt2.json --jsonl texts.jsonl",
        .operands_min = 0,
        .operands_max = 1};
    const char *tokenizer = NULL;
    bool jsonl = false, special = false, helped = false;
    const seo_cli_option options[] = {
        {.name = "tokenizer",
         .type = SEO_CLI_TEXT,
         .value = &tokenizer,
         .operand = "FILE",
         .help = "a tokenizer.json",
         .required = true},
        {.name = "jsonl",
         .type = SEO_CLI_FLAG,
         .value = &jsonl,
         .help = "one JSON object a line, in and out"},
        {.name = "special",
         .type = SEO_CLI_FLAG,
         .value = &special,
         .help = "text spelled like a special token becomes that token"}};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    task t = {0};
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (helped) goto done;
    t.with_special = special;
    /* A reader that goes away, such as head, ends this program without a word. */
    signal(SIGPIPE, SIG_DFL);
    SEO_TRY(task_open(&t, tokenizer, &paths));
    SEO_TRY(jsonl ? each_line(&t, encode_line) : encode_file(&t));
done:
    task_close(&t);
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

int seo_cli_tokenizer_decode(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "tokenizer decode",
        .operands = "[FILE|-]",
        .summary = "Prints the text of ids, a document a line, one right after the other; with "
                   "--jsonl each line {\"ids\": [...]} gives a line {\"text\": ...}.",
        .example = "seodang tokenizer encode --tokenizer gpt2.json book.txt |\n"
                   "    seodang tokenizer decode --tokenizer gpt2.json | cmp - book.txt",
        .operands_min = 0,
        .operands_max = 1};
    const char *tokenizer = NULL;
    bool jsonl = false, helped = false;
    const seo_cli_option options[] = {{.name = "tokenizer",
                                       .type = SEO_CLI_TEXT,
                                       .value = &tokenizer,
                                       .operand = "FILE",
                                       .help = "a tokenizer.json",
                                       .required = true},
                                      {.name = "jsonl",
                                       .type = SEO_CLI_FLAG,
                                       .value = &jsonl,
                                       .help = "one JSON object a line, in and out"}};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    task t = {0};
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (helped) goto done;
    signal(SIGPIPE, SIG_DFL);
    SEO_TRY(task_open(&t, tokenizer, &paths));
    SEO_TRY(each_line(&t, jsonl ? decode_json_line : decode_line));
done:
    task_close(&t);
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}
