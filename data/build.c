#include "data/build.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/text.h"
#include "data/build_encode.h"
#include "data/build_plan.h"
#include "data/text.h"

static const char *const k_modes[] = {"auto", "document", "block", "tail"};

seo_err seo_held_out_mode_parse(const char *name, seo_held_out_mode *out) {
    for (int64_t i = 0; i < SEO_COUNT_OF(k_modes); i++) {
        if (strcmp(name, k_modes[i]) != 0) continue;
        *out = (seo_held_out_mode)i;
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_USAGE, "'%s' is no way to hold text out: auto, document, block or tail",
                    name);
}

const char *seo_held_out_mode_name(seo_held_out_mode mode) {
    return k_modes[mode];
}

/* A walk over all documents, once for each pass. */
typedef struct walk {
    seo_text *text;
    seo_progress progress;
    int64_t number; /* of the document just read */
} walk;

static seo_err walk_start(walk *w, const seo_build_args *args, const char *label) {
    *w = (walk){.number = -1};
    const seo_err err = seo_text_open(args->paths, args->path_count, args->field, &w->text);
    if (err == SEO_OK)
        seo_progress_start(&w->progress, label, "bytes", seo_text_file_bytes(w->text));
    return err;
}

static seo_err walk_next(walk *w, seo_text_document *document) {
    const seo_err err = seo_text_next(w->text, document);
    w->number++;
    seo_progress_update(&w->progress, seo_text_counters_get(w->text).file_bytes_read);
    return err;
}

static void walk_end(walk *w) {
    if (!w->text) return;
    seo_progress_end(&w->progress);
    seo_text_close(w->text);
    w->text = NULL;
}

static seo_err survey_documents(const seo_build_args *args, seo_survey *survey,
                                seo_build_result *result) {
    seo_err err = SEO_OK;
    walk w;
    seo_text_document document;
    SEO_TRY(walk_start(&w, args, "reading"));
    for (;;) {
        SEO_TRY(walk_next(&w, &document));
        if (!document.data) break;
        SEO_TRY(seo_survey_add(survey, document.data, document.bytes));
    }
    SEO_TRY(seo_survey_finish(survey, args));
    const seo_text_counters counters = seo_text_counters_get(w.text);
    result->files = seo_text_source_count(w.text);
    result->files_left_out = counters.files_left_out;
    result->documents = counters.documents;
    result->empty_documents = counters.empty_documents;
    result->invalid_utf8_bytes = counters.invalid_utf8_bytes;
    result->duplicate_documents = survey->count - survey->stay_count;
    result->mode = survey->mode;
done:
    walk_end(&w);
    return err;
}

/* The second reading must meet the text of the first: a file that changed in between would split
 * wrongly. */
static seo_err check_same(const walk *w, const seo_survey *survey,
                          const seo_text_document *document) {
    const char *path = seo_text_source(w->text, document->source);
    if (w->number < survey->count && survey->documents[w->number].bytes == document->bytes) {
        uint64_t hash[2];
        seo_survey_hash(document->data, document->bytes, hash);
        if (memcmp(hash, survey->documents[w->number].hash, sizeof hash) == 0) return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: the file changed while it was read; run the command again",
                    path);
}

static seo_err cut_documents(const seo_build_args *args, seo_survey *survey) {
    seo_err err = SEO_OK;
    walk w;
    seo_text_document document;
    int64_t before = 0;
    SEO_TRY(walk_start(&w, args, "cutting"));
    for (;;) {
        SEO_TRY(walk_next(&w, &document));
        if (!document.data) break;
        SEO_TRY(check_same(&w, survey, &document));
        SEO_TRY(seo_survey_cut(survey, w.number, document.data, before));
        if (!survey->documents[w.number].duplicate) before += document.bytes;
    }
done:
    walk_end(&w);
    return err;
}

static seo_err encode_documents(const seo_build_args *args, const seo_survey *survey,
                                const seo_build_plan *plan, seo_build_encoder *encoder,
                                seo_build_result *result) {
    seo_err err = SEO_OK;
    walk w;
    seo_text_document document;
    int64_t piece = 0;
    SEO_TRY(walk_start(&w, args, "encoding"));
    for (;;) {
        SEO_TRY(walk_next(&w, &document));
        if (!document.data) break;
        SEO_TRY(check_same(&w, survey, &document));
        for (; piece < plan->count && plan->pieces[piece].document == w.number; piece++) {
            const seo_piece_plan *p = &plan->pieces[piece];
            SEO_TRY(seo_build_encoder_add(encoder, p->split, document.source,
                                          document.data + p->start, p->bytes));
            result->bytes[p->split] += p->bytes;
            result->pieces[p->split]++;
        }
    }
    SEO_TRY(seo_build_encoder_flush(encoder));
    SEO_ASSERT(piece == plan->count);
done:
    walk_end(&w);
    return err;
}

/* Only what decides the bytes, and nothing from the clock or the machine. */
static seo_err describe(const seo_build_args *args, const seo_build_result *result, seo_buf *out) {
    seo_buf_format(out,
                   "{\"tool\":\"seodang data build\",\"version\":\"%s\",\"options\":{\"held_out\":",
                   SEODANG_VERSION);
    seo_buf_json_float(out, args->held_out, 17);
    seo_buf_format(out, ",\"held_out_mode\":\"%s\",\"seed\":%lld,\"shard_tokens\":%lld,\"field\":",
                   seo_held_out_mode_name(result->mode), (long long)args->seed,
                   (long long)args->shard_tokens);
    const char *field = args->field ? args->field : "text";
    seo_buf_json_string(out, field, strlen(field));
    seo_buf_format(out,
                   "},\"counters\":{\"files\":%lld,\"files_left_out\":%lld,\"documents\":%lld,"
                   "\"empty_documents\":%lld,"
                   "\"duplicate_documents\":%lld,\"invalid_utf8_bytes\":%lld}}",
                   (long long)result->files, (long long)result->files_left_out,
                   (long long)result->documents, (long long)result->empty_documents,
                   (long long)result->duplicate_documents, (long long)result->invalid_utf8_bytes);
    return seo_buf_check(out);
}

/* Path, hash and size of each source file. */
static seo_err hash_sources(const seo_build_args *args, seo_manifest_source **out, int64_t *count) {
    seo_err err = SEO_OK;
    seo_text *text = NULL;
    SEO_TRY(seo_text_open(args->paths, args->path_count, args->field, &text));
    *count = seo_text_source_count(text);
    *out = calloc((size_t)*count, sizeof **out);
    if (!*out) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "a list of %lld sources", (long long)*count));
    for (int64_t i = 0; i < *count; i++) {
        seo_manifest_source *source = &(*out)[i];
        const char *path = seo_text_source(text, i);
        source->path = strdup(path);
        if (!source->path) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "%s: a path", path));
        SEO_TRY(seo_file_bytes(path, &source->bytes));
        SEO_TRY(seo_file_sha256_hex(path, source->sha256));
    }
done:
    seo_text_close(text);
    return err;
}

static seo_err commit(const seo_build_args *args, seo_dataset_writer *writer,
                      seo_build_result *result) {
    seo_err err = SEO_OK;
    seo_buf provenance = {0};
    seo_manifest_source *sources = NULL;
    int64_t source_count = 0;
    for (int split = 0; split < SEO_SPLIT_COUNT; split++) {
        result->tokens[split] = seo_dataset_writer_tokens(writer, (seo_split)split);
    }
    SEO_TRY(hash_sources(args, &sources, &source_count));
    SEO_TRY(describe(args, result, &provenance));
    const seo_dataset_origin origin = {
        .sources = sources, .source_count = source_count, .provenance = provenance.data};
    SEO_TRY(seo_dataset_writer_commit(writer, &origin, result->manifest_sha256));
done:
    for (int64_t i = 0; sources && i < source_count; i++) free(sources[i].path);
    free(sources);
    seo_buf_free(&provenance);
    return err;
}

static seo_err check_folder(const char *folder) {
    seo_names names = {0};
    const seo_err err = seo_dir_list(folder, &names);
    const int64_t count = names.count;
    seo_names_free(&names);
    if (err == SEO_ERR_MISSING) return SEO_OK;
    if (err != SEO_OK || count == 0) return err;
    return SEO_FAIL(SEO_ERR_IO,
                    "%s: the folder is not empty; name another --out, or remove it first", folder);
}

static int32_t thread_count(const seo_build_args *args) {
    cpu_set_t set;
    if (args->threads > 0) return args->threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (int32_t)seo_max_i64(1, CPU_COUNT(&set))
                                                       : 1;
}

/* The dataset folder carries its tokenizer, in canonical spelling. */
static seo_err open_writer(const seo_build_args *args, const seo_tokenizer *tok,
                           seo_dataset_writer **writer) {
    char path[SEO_PATH_MAX];
    const seo_dataset_writer_args writer_args = {.folder = args->folder,
                                                 .vocab_size = seo_tokenizer_vocab_size(tok),
                                                 .eot_id = seo_tokenizer_eot(tok),
                                                 .tokenizer_sha256 = seo_tokenizer_sha256(tok),
                                                 .shard_tokens = args->shard_tokens};
    seo_err err = seo_dataset_writer_open(&writer_args, writer);
    if (err == SEO_OK) err = seo_path_join(path, args->folder, SEO_TOKENIZER_NAME);
    if (err == SEO_OK) err = seo_tokenizer_save(tok, path);
    return err;
}

/* Takes back what open_writer put into the folder, and the folder itself when nothing else is in
 * it. */
static void sweep(const char *folder) {
    char path[SEO_PATH_MAX];
    if (seo_path_join(path, folder, SEO_TOKENIZER_NAME) == SEO_OK) unlink(path);
    rmdir(folder);
}

seo_err seo_build(const seo_build_args *args, seo_build_result *result) {
    seo_err err = SEO_OK;
    seo_tokenizer *tok = NULL;
    seo_dataset_writer *writer = NULL;
    seo_build_encoder *encoder = NULL;
    seo_survey survey = {0};
    seo_build_plan plan = {0};
    *result = (seo_build_result){0};
    SEO_TRY(check_folder(args->folder));
    SEO_TRY(seo_tokenizer_load(args->tokenizer_path, &tok));
    if (seo_tokenizer_eot(tok) < 0) {
        SEO_TRY(SEO_FAIL(SEO_ERR_USAGE,
                         "%s: the tokenizer has no <|endoftext|>, </s> or [SEP], one of which "
                         "closes every document",
                         args->tokenizer_path));
    }
    SEO_TRY(survey_documents(args, &survey, result));
    if (seo_survey_needs_cuts(&survey) && args->held_out > 0) SEO_TRY(cut_documents(args, &survey));
    SEO_TRY(seo_build_plan_make(&survey, args, &plan));
    SEO_TRY(open_writer(args, tok, &writer));
    SEO_TRY(seo_build_encoder_open(tok, writer, thread_count(args), &encoder));
    SEO_TRY(encode_documents(args, &survey, &plan, encoder, result));
    SEO_TRY(commit(args, writer, result));
done:
    seo_build_encoder_close(encoder);
    seo_dataset_writer_close(writer);
    if (err != SEO_OK && writer) sweep(args->folder);
    seo_build_plan_free(&plan);
    seo_survey_free(&survey);
    seo_tokenizer_free(tok);
    return err;
}
