/* A run and its other ranks: how they find each other, what they must have in common, and what is
 * divided among them. */
#include "train/run_world.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "train/run_state.h"

/* ---- joining ---- */

/* An MPI launcher's ranks find each other through MPI. A program that was built without it may
 * still meet over the network, which is enough for GPUs. */
static seo_err open_mpi(seo_run_world *w) {
    const seo_err err = seo_comm_open_mpi(&(seo_comm_mpi_options){0}, &w->mpi);
    if (err != SEO_ERR_MISSING && err != SEO_ERR_UNSUPPORTED) return err;
    snprintf(w->no_mpi, sizeof w->no_mpi, "%s", seo_err_detail());
    return SEO_OK;
}

static seo_err speak_by_rank(const seo_run *run) {
    char name[64], path[SEO_PATH_MAX];
    const seo_run_world *w = &run->world;
    if (w->rank == 0) return SEO_OK;
    snprintf(name, sizeof name, "log.rank-%04d.txt", (int)w->rank);
    const seo_err err = seo_path_join(path, run->args->run_dir, name);
    if (err == SEO_OK) seo_log_second(seo_world_who(w->line, w->rank), path);
    return err;
}

/* What decides who shares cores. */
typedef struct cores {
    char host[64];
    cpu_set_t mask;
} cores;

static int32_t count_sharers(const seo_blob *all, int32_t size, int32_t rank) {
    int32_t sharers = 0;
    const cores *mine = all[rank].data;
    for (int32_t r = 0; r < size; r++) {
        const cores *other = all[r].data;
        cpu_set_t both;
        CPU_AND(&both, &mine->mask, &other->mask);
        sharers += r == rank || (memcmp(mine->host, other->host, sizeof mine->host) == 0 &&
                                 CPU_COUNT(&both) > 0);
    }
    return sharers;
}

/* Ranks that their launcher has not bound to cores of their own divide those they share. */
static seo_err find_sharers(seo_run_world *w) {
    seo_err err = SEO_OK;
    cores mine = {0};
    seo_blob answer = {0};
    seo_blob *all = calloc((size_t)w->size, sizeof *all);
    int32_t *sharers = calloc((size_t)w->size, sizeof *sharers);
    if (!all || !sharers) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "the cores of %d ranks", (int)w->size));
    gethostname(mine.host, sizeof mine.host - 1);
    if (sched_getaffinity(0, sizeof mine.mask, &mine.mask) != 0) CPU_ZERO(&mine.mask);
    SEO_TRY(seo_world_gather(w->line, SEO_CHANNEL_RUN, "cores", &mine, sizeof mine, all));
    for (int32_t r = 0; w->rank == 0 && r < w->size; r++) {
        SEO_ASSERT(all[r].bytes == (int64_t)sizeof mine);
        sharers[r] = count_sharers(all, w->size, r);
    }
    SEO_TRY(seo_world_share(w->line, SEO_CHANNEL_RUN, "cores", sharers,
                            w->size * (int64_t)sizeof *sharers, &answer));
    if (answer.bytes == w->size * (int64_t)sizeof *sharers) {
        w->sharers = ((const int32_t *)answer.data)[w->rank];
    }
done:
    seo_blobs_free(&answer, 1);
    if (all && w->rank == 0) seo_blobs_free(all, w->size);
    free(all);
    free(sharers);
    return err;
}

seo_err seo_run_join(seo_run *run, double join_s) {
    seo_err err = SEO_OK;
    seo_run_world *w = &run->world;
    pthread_mutex_init(&w->place_lock, NULL);
    pthread_mutex_init(&w->whole_lock, NULL);
    SEO_TRY(seo_launch_find(&w->launch));
    w->rank = w->launch.rank;
    w->size = w->launch.size;
    w->sharers = 1;
    if (w->size > 1 && w->launch.mpi) SEO_TRY(open_mpi(w));
    SEO_TRY(seo_world_open(
        &(seo_world_args){
            .launch = &w->launch, .mpi = w->mpi, .folder = run->args->run_dir, .join_s = join_s},
        &w->line));
    if (w->size == 1) goto done;
    SEO_TRY(speak_by_rank(run));
    SEO_TRY(find_sharers(w));
done:
    return err;
}

void seo_run_leave(seo_run *run) {
    seo_run_world *w = &run->world;
    if (w->comm && w->comm != w->mpi) seo_comm_close(w->comm);
    seo_comm_close(w->mpi);
    seo_world_close(w->line);
    pthread_mutex_destroy(&w->place_lock);
    pthread_mutex_destroy(&w->whole_lock);
    *w = (seo_run_world){0};
}

/* ---- in common ---- */

seo_err seo_run_agree(seo_run *run, const char *stage, seo_err mine) {
    return seo_world_agree(run->world.line, SEO_CHANNEL_RUN, stage, mine);
}

seo_err seo_run_share(seo_run *run, const char *what, void *data, int64_t bytes) {
    seo_blob blob = {0};
    if (run->world.size == 1) return SEO_OK;
    const seo_err err = seo_world_share(run->world.line, SEO_CHANNEL_RUN, what, data, bytes, &blob);
    if (err != SEO_OK) return err;
    SEO_ASSERT(blob.bytes == bytes);
    memcpy(data, blob.data, (size_t)bytes);
    seo_blobs_free(&blob, 1);
    return SEO_OK;
}

/* ---- the batch ---- */

/* "2 and 4", the numbers nearest to `wish` that divide n. */
static const char *near_divisors(char out[2 * SEO_SHORT_TEXT], int64_t n, int64_t wish) {
    int64_t below = seo_min_i64(wish, n), above = wish;
    while (n % below != 0) below--;
    while (above < n && n % above != 0) above++;
    if (above > n || n % above != 0 || above == below) {
        snprintf(out, 2 * SEO_SHORT_TEXT, "%lld", (long long)below);
    } else {
        snprintf(out, 2 * SEO_SHORT_TEXT, "%lld and %lld", (long long)below, (long long)above);
    }
    return out;
}

seo_err seo_run_divide(seo_run *run) {
    char near[2 * SEO_SHORT_TEXT];
    seo_config *c = &run->config;
    const int64_t ranks = run->world.size;
    const int64_t sequences = c->train.batch_tokens / c->model.seq_len;
    if (c->parallel.invariant && c->parallel.slots % ranks != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%lld ranks cannot take the %lld slots of parallel.invariant in equal "
                        "numbers; the nearest that can: %s ranks",
                        (long long)ranks, (long long)c->parallel.slots,
                        near_divisors(near, c->parallel.slots, ranks));
    }
    if (sequences % ranks != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "the batch of %lld sequences (train.batch_tokens / model.seq_len) cannot "
                        "be divided among %lld ranks; the nearest that can: %s ranks; or take a "
                        "train.batch_tokens that is a multiple of %lld",
                        (long long)sequences, (long long)ranks,
                        near_divisors(near, sequences, ranks),
                        (long long)(ranks * c->model.seq_len));
    }
    const int64_t share = sequences / ranks;
    while (share % c->train.micro_batch != 0) c->train.micro_batch--;
    return SEO_OK;
}

/* ---- the collectives ---- */

static seo_err share_address(void *context, void *data, int64_t bytes) {
    return seo_run_share(context, "NCCL's address", data, bytes);
}

static seo_err connect_mpi(seo_run *run) {
    seo_run_world *w = &run->world;
    if (!w->mpi) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%d ranks on %s exchange their data through MPI, and %s; start them with "
                        "mpirun, or with srun --mpi=pmix",
                        (int)w->size, seo_device_is_cpu(run->dev) ? "CPUs" : "GPUs",
                        w->no_mpi[0] != '\0' ? w->no_mpi : "no MPI launcher has started them");
    }
    w->comm = w->mpi;
    return seo_comm_attach(w->mpi, run->dev);
}

static seo_err connect_nccl(seo_run *run) {
    seo_run_world *w = &run->world;
    return seo_comm_open_nccl(&(seo_comm_nccl_options){.dev = run->dev,
                                                       .rank = w->rank,
                                                       .size = w->size,
                                                       .share = share_address,
                                                       .share_context = run},
                              &w->comm);
}

/* Kind of device, and whatever else of it shows in the last digits. */
static seo_err same_device(seo_run *run) {
    char text[256];
    if (seo_device_is_cpu(run->dev)) {
        snprintf(text, sizeof text, "cpu of level %d, %s", (int)seo_device_cpu_level(run->dev),
                 seo_storage_name(run->storage));
    } else {
        snprintf(text, sizeof text, "%s, %s", seo_device_name(run->dev),
                 seo_storage_name(run->storage));
    }
    return seo_world_same(run->world.line, "the device", text);
}

seo_err seo_run_connect(seo_run *run) {
    seo_err err = SEO_OK;
    seo_run_world *w = &run->world;
    if (w->size == 1) return SEO_OK;
    SEO_TRY(same_device(run));
    const bool mpi =
        seo_device_is_cpu(run->dev) || run->config.parallel.backend == SEO_COMM_CHOICE_MPI;
    /* A rank without the library would keep the others waiting inside it. */
    if (!mpi) SEO_TRY(seo_run_agree(run, "NCCL", seo_comm_find_nccl(run->dev)));
    SEO_TRY(seo_run_agree(run, "the collectives", mpi ? connect_mpi(run) : connect_nccl(run)));
    pthread_mutex_lock(&w->place_lock);
    w->comm_known = true;
    pthread_mutex_unlock(&w->place_lock);
done:
    return err;
}

seo_err seo_run_fail(seo_run *run, seo_err err) {
    if (run->world.size == 1 || !run->world.watched) return err;
    return seo_world_fail(run->world.line, err);
}
