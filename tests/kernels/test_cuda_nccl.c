/* Collectives between GPUs: the very nccl.c of the plug-in, with a library that stands in for NCCL
 * (tests/simt/nccl.c) and emulated GPUs. NVIDIA's own library was never called by these tests, and
 * on the machines that this was written on there was no GPU it could have run on.
 *
 * A rank is a process with an emulated GPU of its own. In the schedules with late streams work is
 * done only when somebody waits for it, so that a wait that is missing between the two streams
 * shows as a wrong sum. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <nccl.h>
#include <simt_options.h>

#include "base/check.h"
#include "kernels/backend.h"
#include "kernels/cuda/nccl.h"
#include "tests/kernels/comm_checks.h"
#include "tests/simt/device.h"
#include "tests/support/rank_processes.h"

typedef seo_err rank_body(seo_comm *comm, seo_device *dev, nccl_stand_in *nccl);
typedef struct ranks {
    int32_t size, schedule;
    rank_body *body;
    void (*before)(int32_t rank, nccl_stand_in *nccl); /* NULL: nothing */
    seo_err opens;                                     /* what opening gives; the body is for OK */
    const char *says;
} ranks;

static nccl_stand_in *stand_in(void) {
    void *library = dlopen(SEO_NCCL_DIR "/libnccl.so.99", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "nccl_stand_in_get") : NULL;
    nccl_stand_in *(*get)(void) = NULL;
    memcpy(&get, &symbol, sizeof get);
    SEO_ASSERT(get != NULL);
    nccl_stand_in *nccl = get();
    nccl->launch = cudaLaunchHostFunc;
    return nccl;
}

/* What a rank's process does. */
static seo_err run_rank(rank_process *self, const void *context) {
    seo_err err = SEO_OK;
    seo_device *dev = NULL;
    seo_comm *comm = NULL;
    const ranks *r = context;
    nccl_stand_in *nccl = stand_in();
    const seo_simt_options options = {.capability = 80, .multiprocessors = 4};
    simt_set_schedule((r->schedule + self->rank) % simt_schedule_count());
    SEO_TRY(seo_device_open_simt(&options, &dev));
    if (r->before) r->before(self->rank, nccl);
    const seo_comm_nccl_options o = {.dev = dev,
                                     .rank = self->rank,
                                     .size = r->size,
                                     .share = rank_process_share,
                                     .share_context = self};
    err = seo_comm_open_backend(&seo_nccl_backend, &o, &comm);
    if (r->opens != SEO_OK) {
        const bool as_wanted = err == r->opens && strstr(seo_err_detail(), r->says) != NULL;
        err = as_wanted ? SEO_OK : SEO_FAIL(SEO_ERR_ARG, "opening says: %s", seo_err_detail());
        goto done;
    }
    if (err == SEO_OK) err = r->body(comm, dev, nccl);
done:
    seo_comm_close(comm);
    seo_device_close(dev);
    return err;
}

static void run_ranks(const ranks *r) {
    if (rank_processes_run(r->size, run_rank, r) != 0) {
        fail_msg("%d ranks, schedule %d", (int)r->size, (int)r->schedule);
    }
}

/* ---- what every comm must do ---- */

static seo_err checks(seo_comm *comm, seo_device *dev, nccl_stand_in *nccl) {
    seo_err err = SEO_OK;
    if (strcmp(seo_comm_name(comm), "nccl 99.1.2") != 0) {
        SEO_TRY(SEO_FAIL(SEO_ERR_ARG, "the name is %s", seo_comm_name(comm)));
    }
    SEO_TRY(seo_comm_attach(comm, dev));
    SEO_TRY(comm_checks(NULL, comm, dev));
    /* Both ways were taken, and of the library's own sums only those of a free order. */
    const bool exchanged = nccl->groups > 0 || seo_comm_size(comm) == 1;
    if (!exchanged || nccl->reduce_scatters == 0 || nccl->all_gathers == 0) {
        SEO_TRY(SEO_FAIL(SEO_ERR_ARG, "%d groups, %d sums", nccl->groups, nccl->reduce_scatters));
    }
done:
    return err;
}

static void all_comms_checks(void **state) {
    (void)state;
    static const int32_t sizes[] = {1, 2, 4};
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        for (int32_t schedule = 0; schedule < 2 && schedule < simt_schedule_count(); schedule++) {
            run_ranks(&(ranks){.size = sizes[i], .schedule = schedule, .body = checks});
        }
    }
}

/* ---- errors ---- */

static seo_err fails(seo_err err, seo_err code, const char *says) {
    if (err == code && strstr(seo_err_detail(), says)) return SEO_OK;
    return SEO_FAIL(SEO_ERR_ARG, "not \"%s\" but: %s", says,
                    err == SEO_OK ? "success" : seo_err_detail());
}

static seo_err gather_rank(seo_comm *comm, const char *name) {
    int32_t mine = seo_comm_rank(comm), all[8];
    return seo_comm_gather_host(comm, (seo_comm_label){name, -1}, &mine, sizeof mine, all);
}

static void no_id(int32_t rank, nccl_stand_in *nccl) {
    if (rank == 0) nccl->fail_id = ncclSystemError;
}
static void no_start(int32_t rank, nccl_stand_in *nccl) {
    (void)rank;
    nccl->fail_init = ncclInvalidUsage;
}

static void openings_that_fail(void **state) {
    (void)state;
    run_ranks(&(ranks){.size = 1, .before = no_id, .opens = SEO_ERR_LOST, .says = "meeting place"});
    run_ranks(&(ranks){.size = 2, .before = no_id, .opens = SEO_ERR_LOST, .says = "meeting place"});
    run_ranks(&(ranks){.size = 2,
                       .before = no_start,
                       .opens = SEO_ERR_DEVICE,
                       .says = "nccl: the meeting of the ranks: the stand-in refuses"});
}

/* What comes to light later is told at the next call, and again at all that follow; nothing more is
 * asked of the library but to abort. */
static seo_err fails_later(seo_comm *comm, seo_device *dev, nccl_stand_in *nccl) {
    (void)dev;
    seo_err err = SEO_OK;
    SEO_TRY(gather_rank(comm, "first"));
    nccl->fail_later = ncclRemoteError;
    SEO_TRY(fails(gather_rank(comm, "second"), SEO_ERR_LOST, "nccl: second: remote process"));
    nccl->fail_later = ncclSuccess;
    const int gathers = nccl->all_gathers;
    SEO_TRY(fails(gather_rank(comm, "third"), SEO_ERR_LOST, "nccl: second: remote process"));
    SEO_TRY(fails(seo_comm_wait(comm, 0), SEO_ERR_LOST, "nccl: second: remote process"));
    if (nccl->all_gathers != gathers) err = SEO_FAIL(SEO_ERR_ARG, "the library was asked again");
done:
    return err;
}

/* A call that the library refuses, within a group. */
static seo_err fails_at_once(seo_comm *comm, seo_device *dev, nccl_stand_in *nccl) {
    seo_err err = SEO_OK;
    void *memory = NULL;
    int64_t ticket = 0;
    SEO_TRY(seo_device_alloc(dev, 3 * 128 * 4, &memory));
    nccl->fail_call = ncclInvalidUsage;
    const seo_reduce_scatter_args sum = {
        .out = seo_tensor_1d((float *)memory + 256, SEO_DTYPE_F32, 128),
        .inp = seo_tensor_1d(memory, SEO_DTYPE_F32, 256),
        .order = SEO_SUM_TREE,
        .label = {"gradients of block", 3}};
    SEO_TRY(fails(seo_comm_reduce_scatter(comm, &sum, &ticket), SEO_ERR_DEVICE,
                  "nccl: gradients of block: the stand-in refuses"));
done:
    return err;
}

/* Rank 1 leaves without a word; rank 0 is told as soon as the library knows. */
static seo_err peer_is_gone(seo_comm *comm, seo_device *dev, nccl_stand_in *nccl) {
    (void)dev;
    seo_err err = SEO_OK;
    SEO_TRY(gather_rank(comm, "first"));
    if (seo_comm_rank(comm) == 1) {
        nccl->fail_later = ncclSystemError; /* so that close aborts */
        SEO_TRY(fails(gather_rank(comm, "second"), SEO_ERR_LOST, "unhandled system error"));
    } else {
        SEO_TRY(fails(gather_rank(comm, "second"), SEO_ERR_LOST, "nccl: second: remote process"));
        seo_comm_place place;
        seo_comm_place_of(comm, &place);
        if (place.number != 2 || strcmp(place.name, "second") != 0) {
            err = SEO_FAIL(SEO_ERR_ARG, "the record is at %s", place.name);
        }
    }
done:
    return err;
}

static seo_err not_in_a_graph(seo_comm *comm, seo_device *dev, nccl_stand_in *nccl) {
    (void)nccl;
    seo_err err = SEO_OK;
    seo_graph *graph = NULL;
    SEO_TRY(seo_device_capture_begin(dev));
    SEO_TRY(fails(gather_rank(comm, "losses"), SEO_ERR_ARG, "cannot be part of a graph"));
    SEO_TRY(seo_device_capture_end(dev, &graph));
    SEO_TRY(gather_rank(comm, "losses"));
done:
    seo_graph_close(graph);
    return err;
}

static void errors(void **state) {
    (void)state;
    rank_body *const bodies[] = {fails_later, fails_at_once, peer_is_gone, not_in_a_graph};
    for (int64_t i = 0; i < SEO_COUNT_OF(bodies); i++) {
        run_ranks(&(ranks){.size = 2, .body = bodies[i]});
    }
}

/* ---- finding it ---- */

static void finds_the_library(void **state) {
    (void)state;
    assert_int_equal(seo_nccl_backend.find(), SEO_OK);
}

/* A CPU, and a GPU whose plug-in was built without. */
static void tells_what_is_missing(void **state) {
    (void)state;
    seo_device *cpu = NULL, *gpu = NULL;
    seo_comm *comm = NULL;
    assert_int_equal(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &cpu), SEO_OK);
    assert_int_equal(seo_device_open_simt(NULL, &gpu), SEO_OK);
    assert_int_equal(seo_comm_find_nccl(cpu), SEO_ERR_UNSUPPORTED);
    assert_non_null(strstr(seo_err_detail(), "parallel.backend: mpi"));
    assert_int_equal(seo_comm_find_nccl(gpu), SEO_ERR_MISSING);
    const seo_comm_nccl_options o = {.dev = gpu, .size = 1, .share = rank_process_share};
    assert_int_equal(seo_comm_open_nccl(&o, &comm), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "libnccl-dev"));
    assert_null(comm);
    seo_device_close(gpu);
    seo_device_close(cpu);
}

int main(void) {
    /* The last one opens devices, which no process may inherit. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_comms_checks), cmocka_unit_test(openings_that_fail),
        cmocka_unit_test(errors), cmocka_unit_test(finds_the_library),
        cmocka_unit_test(tells_what_is_missing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
