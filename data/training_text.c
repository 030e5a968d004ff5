#include "data/training_text.h"

#include "base/progress.h"
#include "data/pretoken.h"
#include "data/text.h"

/* A long document is counted slice by slice, so that progress is seen. */
enum { SLICE_BYTES = 4 << 20 };

/* `from` and `to`: the file bytes behind the document's first and last byte, for progress. */
static seo_err count_document(seo_word_counter *counter, const seo_text_document *document,
                              seo_progress *progress, int64_t from, int64_t to) {
    for (int64_t at = 0; at < document->bytes;) {
        const unsigned char *p = (const unsigned char *)document->data + at;
        size_t part = seo_pretoken_cut(p, (size_t)(document->bytes - at), SLICE_BYTES);
        seo_err err = seo_word_counter_add(counter, p, part);
        if (err != SEO_OK) return err;
        at += (int64_t)part;
        double share = (double)at / (double)document->bytes;
        seo_progress_update(progress, from + (int64_t)((double)(to - from) * share));
    }
    return SEO_OK;
}

static seo_err count_documents(seo_word_counter *counter, seo_text *text) {
    seo_err err = SEO_OK;
    seo_text_document document = {0};
    seo_progress progress;
    int64_t from = 0;
    seo_progress_start(&progress, "counting words", "bytes", seo_text_file_bytes(text));
    for (;;) {
        SEO_TRY(seo_text_next(text, &document));
        if (document.data == NULL) break;
        int64_t to = seo_text_counters_get(text).file_bytes_read;
        SEO_TRY(count_document(counter, &document, &progress, from, to));
        from = to;
    }
done:
    seo_progress_end(&progress);
    return err;
}

seo_err seo_training_text_count(const seo_training_source *source, seo_text_counters *counters,
                                seo_word_table *out) {
    seo_err err = SEO_OK;
    seo_text *text = NULL;
    seo_word_counter *counter = NULL;
    SEO_TRY(seo_text_open(source->paths, source->path_count, source->field, &text));
    SEO_TRY(seo_word_counter_open(source->threads, source->word_end, &counter));
    SEO_TRY(count_documents(counter, text));
    SEO_TRY(seo_word_counter_finish(counter, out));
    *counters = seo_text_counters_get(text);
done:
    seo_word_counter_close(counter);
    seo_text_close(text);
    return err;
}

seo_err seo_training_text_look(const seo_training_source *source) {
    seo_text *text = NULL;
    seo_err err = seo_text_open(source->paths, source->path_count, source->field, &text);
    seo_text_close(text);
    return err;
}
