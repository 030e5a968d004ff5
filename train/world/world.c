#include "train/world/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/text.h"
#include "train/world/meet.h"
#include "train/world/world_state.h"

enum { SHOWN_MAX = 120 };
static const double SILENT_MIN_S = 10.0;

/* ---- open and close ---- */

static seo_err check_args(const seo_world_args *args) {
    const seo_launch *launch = args->launch;
    if (args->mpi && seo_comm_size(args->mpi) != launch->size) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "the launcher says that the run has %d ranks and MPI found %d: this "
                        "program's MPI is not the launcher's (under srun try --mpi=pmix, or take "
                        "the mpirun of the MPI the program was built with)",
                        (int)launch->size, (int)seo_comm_size(args->mpi));
    }
    if (args->mpi && seo_comm_rank(args->mpi) != launch->rank) {
        return SEO_FAIL(SEO_ERR_USAGE, "the launcher calls this process rank %d and MPI rank %d",
                        (int)launch->rank, (int)seo_comm_rank(args->mpi));
    }
    if (!args->mpi && launch->master[0] == '\0' && !args->folder) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%d ranks have no way to find each other: set MASTER_ADDR and MASTER_PORT, "
                        "or start them with mpirun",
                        (int)launch->size);
    }
    return SEO_OK;
}

static seo_err open_line(seo_world *world, const seo_world_args *args) {
    seo_link *links = calloc((size_t)world->size, sizeof *links);
    if (!links) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the connections of %d ranks",
                        (int)world->size);
    }
    for (int32_t r = 0; r < world->size; r++) {
        links[r].fd = -1;
        snprintf(links[r].who, sizeof links[r].who, "rank %d", (int)r);
    }
    seo_err err = world->rank == 0 ? seo_meet_gather(args, links) : seo_meet_join(args, links);
    if (err != SEO_OK) {
        for (int32_t r = 0; r < world->size; r++) seo_link_free(&links[r]);
        free(links);
        return err;
    }
    const double silent_s = args->join_s > SILENT_MIN_S ? args->join_s : SILENT_MIN_S;
    return seo_line_open(world->rank, world->size, links, silent_s, &world->line);
}

seo_err seo_world_open(const seo_world_args *args, seo_world **out) {
    seo_err err = SEO_OK;
    char host[SEO_WIRE_HOST];
    *out = NULL;
    seo_world *world = calloc(1, sizeof *world);
    if (!world) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the world of ranks");
    world->rank = args->launch->rank;
    world->size = args->launch->size;
    world->local_rank = args->launch->local_rank;
    seo_meet_host(host);
    seo_meet_who(world->self, sizeof world->self, world->rank, host, getpid());
    if (world->size > 1) {
        SEO_TRY(check_args(args));
        SEO_TRY(open_line(world, args));
    }
    *out = world;
    return SEO_OK;
done:
    free(world);
    return err;
}

void seo_world_close(seo_world *world) {
    if (!world) return;
    seo_watch_stop(world);
    seo_line_close(world->line);
    seo_watch_free(world->watch);
    free(world);
}

int32_t seo_world_rank(const seo_world *world) {
    return world->rank;
}

int32_t seo_world_size(const seo_world *world) {
    return world->size;
}

const char *seo_world_who(const seo_world *world, int32_t rank) {
    SEO_ASSERT(rank >= 0 && rank < world->size);
    return rank == world->rank ? world->self : world->line->links[rank].who;
}

/* ---- gather and share ---- */

static seo_err copy_blob(const void *data, int64_t bytes, seo_blob *out) {
    *out = (seo_blob){.data = malloc((size_t)bytes + 1), .bytes = bytes};
    if (!out->data) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for %lld bytes of a message", (long long)bytes);
    }
    if (bytes > 0) memcpy(out->data, data, (size_t)bytes);
    return SEO_OK;
}

void seo_blobs_free(seo_blob *blobs, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        free(blobs[i].data);
        blobs[i] = (seo_blob){0};
    }
}

seo_err seo_world_gather(seo_world *world, seo_channel channel, const char *what, const void *mine,
                         int64_t bytes, seo_blob *all) {
    if (world->rank != 0) return seo_line_send(world->line, 0, 1, channel, what, mine, bytes);
    seo_err err = SEO_OK;
    for (int32_t r = 0; r < world->size; r++) all[r] = (seo_blob){0};
    SEO_TRY(copy_blob(mine, bytes, &all[0]));
    for (int32_t r = 1; r < world->size; r++) {
        SEO_TRY(seo_line_receive(world->line, r, channel, what, &all[r]));
    }
done:
    if (err != SEO_OK) seo_blobs_free(all, world->size);
    return err;
}

seo_err seo_world_share(seo_world *world, seo_channel channel, const char *what, const void *data,
                        int64_t bytes, seo_blob *out) {
    *out = (seo_blob){0};
    if (world->rank != 0) return seo_line_receive(world->line, 0, channel, what, out);
    seo_err err = copy_blob(data, bytes, out);
    if (err == SEO_OK && world->size > 1) {
        err = seo_line_send(world->line, 1, world->size, channel, what, data, bytes);
        if (err != SEO_OK) seo_blobs_free(out, 1);
    }
    return err;
}

/* ---- agree ---- */

/* A code in four bytes and its message. */
static void put_outcome(seo_buf *out, seo_err code, const char *message) {
    const uint32_t value = (uint32_t)code;
    for (int i = 0; i < 4; i++) {
        const char byte = (char)(value >> (8 * i));
        seo_buf_add(out, &byte, 1);
    }
    if (code != SEO_OK) seo_buf_text(out, message);
}

/* What another rank sent: an unknown code is still an error. */
static seo_err get_outcome(const seo_blob *blob, const char **message) {
    const unsigned char *p = blob->data;
    if (blob->bytes < 4) {
        *message = "an answer that is too short";
        return SEO_ERR_LOST;
    }
    /* A received blob has one byte past its end. */
    ((char *)blob->data)[blob->bytes] = '\0';
    const uint32_t value = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    *message = (const char *)blob->data + 4;
    return value <= SEO_ERR_LOST ? (seo_err)value : SEO_ERR_ARG;
}

/* Rank 0's verdict over what all handed in. */
static seo_err judge(const seo_world *world, const seo_blob *all, seo_buf *out) {
    seo_err verdict = SEO_OK;
    const char *message = "", *text = "";
    int32_t first = 0, failed = 0;
    for (int32_t r = 0; r < world->size; r++) {
        const seo_err err = get_outcome(&all[r], &text);
        if (err == SEO_OK) continue;
        if (failed++ > 0) continue;
        verdict = err;
        message = text;
        first = r;
    }
    seo_buf full = {0};
    if (failed > 0) seo_buf_format(&full, "%s: %s", seo_world_who(world, first), message);
    if (failed > 1) {
        seo_buf_format(&full, " (and %d more rank%s)", (int)failed - 1, failed > 2 ? "s" : "");
    }
    put_outcome(out, verdict, full.data ? full.data : "");
    if (full.failed) out->failed = true;
    seo_buf_free(&full);
    return seo_buf_check(out);
}

/* Rank 0 cannot tell how it went for all: those that are left must not wait for its word. */
static seo_err tell_failure(seo_world *world, seo_channel channel, const char *what, seo_err err) {
    seo_buf verdict = {0};
    put_outcome(&verdict, err, seo_err_detail());
    for (int32_t r = 1; r < world->size && !verdict.failed; r++) {
        (void)seo_line_send(world->line, r, r + 1, channel, what, verdict.data,
                            (int64_t)verdict.bytes);
    }
    if (!verdict.failed) {
        const seo_blob blob = {verdict.data, (int64_t)verdict.bytes};
        const char *message;
        err = get_outcome(&blob, &message);
        err = SEO_FAIL(err, "%s", message);
    }
    seo_buf_free(&verdict);
    return err;
}

static seo_err raise_verdict(const seo_blob *verdict) {
    const char *message;
    const seo_err err = get_outcome(verdict, &message);
    return err == SEO_OK ? SEO_OK : SEO_FAIL(err, "%s", message);
}

seo_err seo_world_agree(seo_world *world, seo_channel channel, const char *what, seo_err mine) {
    if (world->size == 1) return mine;
    seo_err err = SEO_OK;
    seo_buf outcome = {0}, verdict = {0};
    seo_blob answer = {0};
    seo_blob *all = world->rank == 0 ? calloc((size_t)world->size, sizeof *all) : NULL;
    put_outcome(&outcome, mine, seo_err_detail());
    if (outcome.failed || (world->rank == 0 && !all)) {
        SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "no memory to agree about %s", what));
    }
    err = seo_world_gather(world, channel, what, outcome.data, (int64_t)outcome.bytes, all);
    if (err != SEO_OK && world->rank == 0) err = tell_failure(world, channel, what, err);
    if (err != SEO_OK) goto done;
    if (world->rank == 0) SEO_TRY(judge(world, all, &verdict));
    SEO_TRY(seo_world_share(world, channel, what, verdict.data, (int64_t)verdict.bytes, &answer));
    err = raise_verdict(&answer);
done:
    seo_blobs_free(&answer, 1);
    if (all) seo_blobs_free(all, world->size);
    free(all);
    seo_buf_free(&outcome);
    seo_buf_free(&verdict);
    return err;
}

/* ---- same ---- */

static seo_err differs(const char *what, const char *mine, const char *theirs) {
    int64_t number = 1;
    for (;;) {
        const size_t a = strcspn(mine, "\n"), b = strcspn(theirs, "\n");
        if (a != b || memcmp(mine, theirs, a) != 0 || mine[a] != theirs[b]) {
            return SEO_FAIL(SEO_ERR_USAGE,
                            "%s is another one than rank 0's, from line %lld on: \"%.*s\" here, "
                            "\"%.*s\" at rank 0. All ranks of a run need the same",
                            what, (long long)number, (int)seo_min_i64((int64_t)a, SHOWN_MAX), mine,
                            (int)seo_min_i64((int64_t)b, SHOWN_MAX), theirs);
        }
        mine += a + 1;
        theirs += b + 1;
        number++;
    }
}

seo_err seo_world_same(seo_world *world, const char *what, const char *text) {
    if (world->size == 1) return SEO_OK;
    seo_blob first = {0};
    seo_err err =
        seo_world_share(world, SEO_CHANNEL_RUN, what, text, (int64_t)strlen(text), &first);
    if (err == SEO_ERR_LOST) return err;
    if (err == SEO_OK) {
        ((char *)first.data)[first.bytes] = '\0';
        if (strcmp(text, first.data) != 0) err = differs(what, text, first.data);
    }
    seo_blobs_free(&first, 1);
    return seo_world_agree(world, SEO_CHANNEL_RUN, what, err);
}
