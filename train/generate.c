#include "train/generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct seo_generator {
    seo_model *model;
    seo_sampler *sampler;
    int64_t context;  /* most tokens the model sees */
    int32_t *window;  /* those it sees now */
    int64_t count;    /* of the window */
    int64_t cached;   /* of the window, in the cache already */
    int64_t position; /* of the next token in the whole text: what the sampler is keyed by */
    float *logits;
};

seo_err seo_generator_open(seo_model *model, const seo_sample_args *sample, seo_generator **out) {
    seo_err err = SEO_OK;
    const seo_model_config *config = seo_model_config_of(model);
    *out = NULL;
    seo_generator *g = calloc(1, sizeof *g);
    if (!g) return SEO_FAIL(SEO_ERR_MEMORY, "a generator");
    g->model = model;
    g->context = config->seq_len;
    g->window = calloc((size_t)g->context, sizeof *g->window);
    g->logits = calloc((size_t)config->vocab_size, sizeof *g->logits);
    if (!g->window || !g->logits) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "a generator");
        goto done;
    }
    SEO_TRY(seo_sampler_open(sample, config->vocab_size, &g->sampler));
    *out = g;
    g = NULL;
done:
    seo_generator_close(g);
    return err;
}

void seo_generator_close(seo_generator *g) {
    if (!g) return;
    seo_sampler_close(g->sampler);
    free(g->window);
    free(g->logits);
    free(g);
}

/* Room for one more token: forgets the older half of a full window, and with it the cache. */
static void make_room(seo_generator *g) {
    if (g->count < g->context) return;
    const int64_t kept = g->context / 2;
    memmove(g->window, g->window + g->count - kept, (size_t)kept * sizeof *g->window);
    g->count = kept;
    g->cached = 0;
}

static void add_token(seo_generator *g, int32_t id) {
    make_room(g);
    g->window[g->count++] = id;
    g->position++;
}

seo_err seo_generator_prompt(seo_generator *g, const int32_t *ids, int64_t count) {
    SEO_ASSERT(count >= 1);
    g->count = g->cached = g->position = 0;
    for (int64_t i = 0; i < count; i++) add_token(g, ids[i]);
    return SEO_OK;
}

seo_err seo_generator_next(seo_generator *g, int32_t *id) {
    seo_err err = SEO_OK;
    SEO_ASSERT(g->count > g->cached);
    SEO_TRY(seo_model_forward_cached(g->model, &(seo_cached_args){.ids = g->window + g->cached,
                                                                  .count = g->count - g->cached,
                                                                  .cached = g->cached,
                                                                  .rows = 1,
                                                                  .out = g->logits}));
    g->cached = g->count;
    SEO_TRY(seo_sampler_next(g->sampler, g->logits, g->position, id));
    add_token(g, *id);
done:
    return err;
}

static const char k_replacement[] = "\xef\xbf\xbd";

/* Whether more bytes could make `bytes` one whole character. */
static bool may_grow(const unsigned char *bytes, int count) {
    const unsigned char first = bytes[0];
    const int length = first >= 0xc2 && first <= 0xdf   ? 2
                       : first >= 0xe0 && first <= 0xef ? 3
                       : first >= 0xf0 && first <= 0xf4 ? 4
                                                        : 0;
    if (count >= length) return false;
    if (count == 1) return true;
    /* The second byte's range is narrower after four leads (Unicode 15, table 3-7). */
    const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (bytes[1] < low || bytes[1] > high) return false;
    return count == 2 || (bytes[2] >= 0x80 && bytes[2] <= 0xbf);
}

/* Gives out what can be decided of the held bytes. */
static void settle(seo_utf8_stream *s, seo_buf *out) {
    while (s->count > 0 && !may_grow(s->held, s->count)) {
        int32_t cp = 0;
        const int length = seo_utf8_decode(s->held, s->held + s->count, &cp);
        if (cp >= 0) {
            seo_buf_add(out, s->held, (size_t)length);
        } else {
            seo_buf_text(out, k_replacement);
        }
        s->count -= length;
        memmove(s->held, s->held + length, (size_t)s->count);
    }
}

void seo_utf8_stream_add(seo_utf8_stream *s, const void *bytes, int64_t count, seo_buf *out) {
    const unsigned char *p = bytes;
    for (int64_t i = 0; i < count; i++) {
        SEO_ASSERT(s->count < (int)sizeof s->held);
        s->held[s->count++] = p[i];
        settle(s, out);
    }
}

void seo_utf8_stream_end(seo_utf8_stream *s, seo_buf *out) {
    for (int i = 0; i < s->count; i++) seo_buf_text(out, k_replacement);
    s->count = 0;
}
