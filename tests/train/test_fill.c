/* What stands behind the masks of a text: against the model's own logits, in order, and what is
 * refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "tiny_model.h"
#include "train/fill.h"

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

/* TINY_VOCAB pieces: five special ones, and words w5, w6, ... */
static seo_tokenizer *open_tokenizer(void) {
    char folder[] = "/tmp/seodang-fill-XXXXXX", path[64];
    seo_tokenizer *tokenizer = NULL;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/vocab.txt", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", file);
    for (int i = 5; i < TINY_VOCAB; i++) fprintf(file, "w%d\n", i);
    assert_int_equal(fclose(file), 0);
    ok(seo_tokenizer_load_bert(path, false, &tokenizer));
    unlink(path);
    rmdir(folder);
    return tokenizer;
}

static const tiny_case *case_of(seo_family family) {
    for (int64_t i = 0; i < TINY_CASES; i++) {
        if (tiny_cases[i].family == family && tiny_cases[i].classes == 0) return &tiny_cases[i];
    }
    fail_msg("no such family among the cases");
    return NULL;
}

static void open_family(tiny_model *t, seo_family family) {
    const seo_model_config config = tiny_case_config(case_of(family), 0.1);
    tiny_open(t, &config, SEO_MODEL_EVAL, 1);
}

/* Probabilities of position `at` of the ids, from a pass made here. */
static void expect(const tiny_model *t, const seo_ids *ids, int64_t at, double *out) {
    float logits[TINY_VOCAB];
    int32_t picks[TINY_PICKS];
    double sum = 0;
    for (int64_t n = 0; n < TINY_PICKS; n++) picks[n] = n == 1 ? (int32_t)at : -1;
    seo_pass_args pass = {
        .ids = ids->items,
        .stride = ids->count,
        .picks = picks,
        .batch = 1,
        .positions = ids->count,
        .losses = seo_tensor_1d(seo_model_losses(t->model).data, SEO_DTYPE_F32, TINY_PICKS)};
    if (seo_model_loss_shape(seo_model_config_of(t->model)).label) {
        pass.label_losses = seo_tensor_1d(seo_model_label_losses(t->model).data, SEO_DTYPE_F32, 1);
    }
    ok(seo_model_forward(t->model, &pass));
    ok(seo_model_logits(t->model, 1, 1, logits));
    for (int64_t v = 0; v < TINY_VOCAB; v++) sum += exp((double)logits[v]);
    for (int64_t v = 0; v < TINY_VOCAB; v++) out[v] = exp((double)logits[v]) / sum;
}

/* More masks than a sequence has picks: several passes, and each blank as if it were alone. */
static void fills_every_mask(void **state) {
    (void)state;
    static const seo_family families[] = {SEO_FAMILY_BERT, SEO_FAMILY_ROBERTA,
                                          SEO_FAMILY_DISTILBERT};
    static const int64_t places[] = {2, 3, 5, 7, 8};
    seo_tokenizer *tokenizer = open_tokenizer();
    for (int64_t f = 0; f < SEO_COUNT_OF(families); f++) {
        tiny_model t;
        seo_fill_result r;
        open_family(&t, families[f]);
        ok(seo_fill(t.model, tokenizer, "w9 [MASK] [MASK] w11 [MASK] w5 [MASK] [MASK] w20",
                    TINY_VOCAB + 5, &r));
        assert_int_equal(r.count, SEO_COUNT_OF(places));
        assert_true(r.count > TINY_PICKS);
        assert_int_equal(r.ids.count, 11);
        assert_int_equal(r.ids.items[0], 2);
        assert_int_equal(r.ids.items[1], 9);
        assert_int_equal(r.ids.items[10], 3);
        for (int64_t b = 0; b < r.count; b++) {
            const seo_fill_blank *blank = &r.blanks[b];
            double wanted[TINY_VOCAB], sum = 0;
            bool seen[TINY_VOCAB] = {false};
            assert_int_equal(blank->position, places[b]);
            assert_int_equal(blank->count, TINY_VOCAB);
            expect(&t, &r.ids, places[b], wanted);
            for (int64_t i = 0; i < blank->count; i++) {
                const seo_fill_guess *guess = &blank->guesses[i];
                assert_false(seen[guess->id]);
                seen[guess->id] = true;
                sum += guess->probability;
                /* The logits are the same; only exp of the difference to the largest differs. */
                assert_true(fabs(guess->probability - wanted[guess->id]) < 1e-12);
                assert_true(i == 0 || guess->probability <= guess[-1].probability);
            }
            assert_true(fabs(sum - 1) < 1e-12);
        }
        seo_fill_free(&r);
        tiny_close(&t);
    }
    seo_tokenizer_free(tokenizer);
}

/* A few of the best are the first of all. */
static void keeps_the_best(void **state) {
    (void)state;
    tiny_model t;
    seo_fill_result all, few;
    seo_tokenizer *tokenizer = open_tokenizer();
    open_family(&t, SEO_FAMILY_BERT);
    ok(seo_fill(t.model, tokenizer, "[MASK]", TINY_VOCAB, &all));
    ok(seo_fill(t.model, tokenizer, "[MASK]", 4, &few));
    assert_int_equal(few.blanks[0].count, 4);
    for (int64_t i = 0; i < 4; i++) {
        assert_int_equal(few.blanks[0].guesses[i].id, all.blanks[0].guesses[i].id);
    }
    seo_fill_free(&all);
    seo_fill_free(&few);
    tiny_close(&t);
    seo_tokenizer_free(tokenizer);
}

static void refused(seo_model *model, const seo_tokenizer *tokenizer, const char *text,
                    const char *says) {
    seo_fill_result r;
    assert_int_equal(seo_fill(model, tokenizer, text, 3, &r), SEO_ERR_USAGE);
    if (!strstr(seo_err_detail(), says)) fail_msg("not '%s': %s", says, seo_err_detail());
    seo_fill_free(&r);
}

static void tells_what_is_wrong(void **state) {
    (void)state;
    tiny_model t;
    seo_tokenizer *tokenizer = open_tokenizer();
    open_family(&t, SEO_FAMILY_BERT);
    refused(t.model, tokenizer, "w9 w10", "write [MASK] for each token");
    refused(t.model, tokenizer, "", "write [MASK]");
    refused(t.model, tokenizer, "[MASK] w5 w5 w5 w5 w5 w5 w5 w5 w5 w5 w5 w5 w5 w5",
            "17 tokens with its beginning and end, and the model sees 16");
    tiny_close(&t);
    open_family(&t, SEO_FAMILY_GPT2);
    refused(t.model, tokenizer, "[MASK]", "seodang generate");
    tiny_close(&t);
    for (int64_t i = 0; i < TINY_CASES; i++) {
        if (!seo_family_is_encoder(tiny_cases[i].family) || tiny_cases[i].classes == 0) continue;
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0);
        tiny_open(&t, &config, SEO_MODEL_EVAL, 1);
        refused(t.model, tokenizer, "[MASK]", "no head for masked tokens");
        tiny_close(&t);
    }
    seo_tokenizer_free(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_every_mask),
        cmocka_unit_test(keeps_the_best),
        cmocka_unit_test(tells_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
