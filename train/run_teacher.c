/* A run that learns from a teacher (distill.teacher): finds it, holds it against what an earlier
 * attempt learned from, and begins as it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/run_state.h"

/* Another teacher in the middle of a run would be another run. That there is one or none is
 * compared with the configurations. */
static seo_err check_same(const seo_run *run, const char *hash) {
    const seo_ckpt_state *state = &run->state;
    if (!run->resumed_from || state->teacher_path[0] == '\0') return SEO_OK;
    if (strcmp(state->teacher_hash, hash) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s learned from another teacher (%s, manifest %.12s; distill.teacher has "
                    "%.12s): give that checkpoint as distill.teacher, or another --out for a new "
                    "run",
                    run->resumed_path, state->teacher_path, state->teacher_hash, hash);
}

static seo_err note_teacher(seo_run *run) {
    const char *path = seo_ckpt_path(run->teacher->ckpt), *hash = seo_ckpt_hash(run->teacher->ckpt);
    const seo_err err = check_same(run, hash);
    if (err != SEO_OK) return err;
    /* The folder from wherever the next attempt is started. */
    char *real = realpath(path, NULL);
    snprintf(run->state.teacher_path, sizeof run->state.teacher_path, "%s", real ? real : path);
    snprintf(run->state.teacher_hash, sizeof run->state.teacher_hash, "%s", hash);
    free(real);
    return SEO_OK;
}

seo_err seo_run_find_teacher(seo_run *run) {
    seo_world *world = run->world.size > 1 ? run->world.line : NULL;
    if (run->config.distill.teacher[0] == '\0') {
        run->state.teacher_path[0] = run->state.teacher_hash[0] = '\0';
        return SEO_OK;
    }
    seo_err err = seo_teacher_open(&run->config, world, &run->teacher);
    if (err == SEO_OK) err = note_teacher(run);
    return seo_run_agree(run, "distill.teacher", err);
}

seo_err seo_run_check_teacher(const seo_run *run) {
    if (!run->teacher) return SEO_OK;
    return seo_teacher_check_tokenizer(run->teacher, run->state.tokenizer_sha256,
                                       seo_run_speaks(run));
}

seo_err seo_run_open_distill(seo_run *run) {
    seo_err err = SEO_OK;
    const seo_config *c = &run->config;
    if (!run->teacher) return SEO_OK;
    SEO_TRY(seo_teacher_model(run->teacher, c, run->dev, run->storage, &run->teacher_model));
    SEO_TRY(seo_distill_open(&(seo_distill_args){.config = c,
                                                 .student = run->model,
                                                 .teacher = run->teacher_model,
                                                 .sequences = c->train.batch_tokens /
                                                              c->model.seq_len / run->world.size},
                             &run->distill));
done:
    return err;
}

seo_err seo_run_read_teacher(seo_run *run) {
    seo_err err = SEO_OK;
    const bool fresh = !run->resumed_from && run->config.checkpoint.init_from[0] == '\0';
    if (run->teacher && fresh) {
        err = seo_teacher_initial(run->teacher, &run->config, run->model, seo_run_speaks(run));
    }
    seo_teacher_close(run->teacher);
    run->teacher = NULL;
    return err;
}
