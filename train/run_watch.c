/* The watch over the ranks of a run: where each is, and what is saved when the job cannot go on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "train/run_state.h"

/* How long a rescue waits for a state that is just being changed. */
enum { CHANGE_WAIT_S = 5 };

static void tell_place(void *context, seo_watch_place *out) {
    seo_run *run = context;
    seo_run_world *w = &run->world;
    pthread_mutex_lock(&w->place_lock);
    *out = w->place;
    if (w->comm_known) seo_comm_place_of(w->comm, &out->comm);
    pthread_mutex_unlock(&w->place_lock);
}

static bool take_state(seo_run_world *w) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CHANGE_WAIT_S;
    return pthread_mutex_timedlock(&w->whole_lock, &until) == 0;
}

/* The highest step that a rank has done. */
static seo_err furthest_step(seo_run *run, int64_t *out) {
    seo_err err = SEO_OK;
    seo_world *line = run->world.line;
    const int32_t size = run->world.size;
    static const char what[] = "the step that is saved";
    seo_blob shared = {0};
    int64_t step = run->state.step;
    seo_blob *all = calloc((size_t)size, sizeof *all);
    if (!all) return SEO_FAIL(SEO_ERR_MEMORY, "the steps of %d ranks", size);
    SEO_TRY(seo_world_gather(line, SEO_CHANNEL_SAVE, what, &step, (int64_t)sizeof step, all));
    for (int32_t r = 0; r < size && run->world.rank == 0; r++) {
        int64_t other = 0;
        if (all[r].bytes == (int64_t)sizeof other) memcpy(&other, all[r].data, sizeof other);
        step = seo_max_i64(step, other);
    }
    SEO_TRY(seo_world_share(line, SEO_CHANNEL_SAVE, what, &step, (int64_t)sizeof step, &shared));
    if (shared.bytes == (int64_t)sizeof *out) memcpy(out, shared.data, sizeof *out);
done:
    seo_blobs_free(&shared, 1);
    seo_blobs_free(all, size);
    free(all);
    return err;
}

/* All ranks' states are of one step; else their parts make no whole. A rank that was about to end
 * the step that others have ended does so first: it waits for nobody. Called and left with the
 * lock. */
static seo_err same_step(seo_run *run) {
    static const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    seo_run_world *w = &run->world;
    int64_t step = 0;
    seo_err err = furthest_step(run, &step);
    if (err != SEO_OK) return err;
    const double until = seo_clock_s() + CHANGE_WAIT_S;
    while (run->state.step < step && seo_clock_s() < until) {
        pthread_mutex_unlock(&w->whole_lock);
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&w->whole_lock);
    }
    if (run->state.step != step) {
        err = SEO_FAIL(SEO_ERR_LOST, "this rank has done step %lld, others step %lld",
                       (long long)run->state.step, (long long)step);
    }
    return seo_world_agree(w->line, SEO_CHANNEL_SAVE, "the step that is saved", err);
}

/* Every rank its part, or this one everything. Values lie in host memory: it is a CPU's. */
static seo_err save_now(seo_run *run, bool alone) {
    seo_err err = SEO_OK;
    const seo_restore_list *list = &run->tensors;
    const int64_t count = alone ? list->count : list->saved_count;
    seo_ckpt_range *ranges = calloc((size_t)seo_max_i64(count, 1), sizeof *ranges);
    if (!ranges) return SEO_FAIL(SEO_ERR_MEMORY, "%lld ranges", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        ranges[i] = alone ? list->read[i] : list->saved[i];
        ranges[i].data = alone ? list->read_to[i].data : list->saved_at[i].data;
    }
    err = seo_ckpt_save(run->dir.path, run->dir.attempt, alone ? NULL : run->world.line,
                        &(seo_ckpt_snapshot){.state = run->state,
                                             .tensors = list->tensors,
                                             .tensor_count = list->count,
                                             .ranges = ranges,
                                             .range_count = count,
                                             .config_yaml = run->config_yaml.data,
                                             .tokenizer_path = run->tokenizer_path[0] != '\0'
                                                                   ? run->tokenizer_path
                                                                   : NULL});
    free(ranges);
    return err;
}

/* What the job leaves when a rank is lost: a checkpoint of the last whole step, where all ranks can
 * still write their parts or one of them has everything. The state stays locked: the process is
 * about to end. */
static seo_err rescue(void *context, seo_watch_loss loss) {
    seo_err err = SEO_OK;
    seo_run *run = context;
    seo_run_world *w = &run->world;
    const bool alone = loss == SEO_WATCH_SOME_LOST;
    if (!take_state(w)) return SEO_FAIL(SEO_ERR_LOST, "this rank was in the middle of an update");
    if (!w->whole_known) return SEO_FAIL(SEO_ERR_MISSING, "no step was done: nothing to save");
    if (!seo_device_is_cpu(run->dev)) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED, "a GPU that waits for a lost rank gives nothing out");
    }
    if (alone && (w->rank != 0 || seo_model_shards(run->model)->zero > 0)) {
        return SEO_FAIL(SEO_ERR_LOST, "a part of the state is on the lost rank");
    }
    if (!alone) {
        SEO_TRY(seo_ckpt_writer_wait(run->writer));
        SEO_TRY(same_step(run));
    }
    err = save_now(run, alone);
done:
    return err;
}

seo_err seo_run_watch(seo_run *run) {
    seo_run_world *w = &run->world;
    const double timeout_s = run->config.parallel.timeout_s;
    if (w->size == 1) return SEO_OK;
    const seo_err err = seo_world_watch(w->line, &(seo_watch_args){.timeout_s = timeout_s,
                                                                   .place = tell_place,
                                                                   .rescue = rescue,
                                                                   .rescue_s = timeout_s,
                                                                   .context = run});
    w->watched = err == SEO_OK;
    return err;
}

void seo_run_doing(seo_run *run, const char *what, bool paused) {
    seo_run_world *w = &run->world;
    if (w->size == 1) return;
    pthread_mutex_lock(&w->place_lock);
    w->place.step = run->state.step;
    snprintf(w->place.doing, sizeof w->place.doing, "%s", what);
    pthread_mutex_unlock(&w->place_lock);
    if (w->watched) seo_world_watch_pause(w->line, paused);
}

void seo_run_retire(seo_run *run) {
    seo_run_world *w = &run->world;
    if (w->size <= 1) return;
    pthread_mutex_lock(&w->whole_lock);
    w->whole_known = false;
    pthread_mutex_unlock(&w->whole_lock);
    pthread_mutex_lock(&w->place_lock);
    w->comm_known = false;
    snprintf(w->place.doing, sizeof w->place.doing, "closing");
    pthread_mutex_unlock(&w->place_lock);
    if (w->watched) seo_world_watch_pause(w->line, true);
}

void seo_run_change_begin(seo_run *run) {
    seo_run_world *w = &run->world;
    if (w->size == 1 || w->whole_held) return;
    pthread_mutex_lock(&w->whole_lock);
    w->whole_held = true;
}

void seo_run_change_end(seo_run *run) {
    seo_run_world *w = &run->world;
    if (!w->whole_held) return;
    w->whole_held = false;
    w->whole_known = true;
    pthread_mutex_unlock(&w->whole_lock);
}
