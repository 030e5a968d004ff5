/* The comm over an MPI library: opening it, its thread, and the way through host memory for a
 * device that is not the CPU. Compiled into the plug-in libseodang_mpi.so. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "kernels/comm/mpi_exchange.h"
#include "kernels/plugin.h"

/* "mpi (Open MPI 4.1.4)"; the library's own text runs over several lines. */
static void name_library(seo_comm *comm) {
    static const char *const before[] = {"Open MPI v", "MPICH Version:"};
    static const char *const names[] = {"Open MPI ", "MPICH "};
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    (void)MPI_Get_library_version(text, &length);
    const char *version = text, *name = "";
    for (int64_t i = 0; i < SEO_COUNT_OF(before); i++) {
        if (strncmp(text, before[i], strlen(before[i])) != 0) continue;
        version = text + strlen(before[i]);
        name = names[i];
    }
    version += strspn(version, " \t");
    snprintf(comm->name, sizeof comm->name, "mpi (%s%.*s)", name,
             (int)seo_min_i64((int64_t)strcspn(version, ",\n"), 60), version);
}

/* Open MPI's own plug-ins look for its symbols among those that everybody sees; ours was opened
 * with its symbols to itself. */
static void show_library(void) {
    Dl_info info;
    int (*function)(int *, char ***) = MPI_Init;
    void *address = NULL;
    memcpy(&address, &function, sizeof address);
    if (dladdr(address, &info) != 0 && info.dli_fname) {
        (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    }
}

static seo_err worker_begin(seo_comm *comm, const void *options) {
    seo_err err = SEO_OK;
    seo_mpi *mpi = comm->impl;
    const seo_comm_mpi_options *o = options;
    int provided = 0, rank = 0, size = 0;
    snprintf(comm->name, sizeof comm->name, "mpi");
    (void)prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul); /* short sleeps are short */
    show_library();
    SEO_TRY(seo_mpi_check(comm, MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided),
                          "MPI_Init_thread"));
    name_library(comm);
    if (provided < MPI_THREAD_FUNNELED) {
        SEO_TRY(SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: this MPI library was built without threads",
                         comm->name));
    }
    SEO_TRY(seo_mpi_check(comm, MPI_Comm_dup(MPI_COMM_WORLD, &mpi->world), "MPI_Comm_dup"));
    SEO_TRY(seo_mpi_check(comm, MPI_Comm_set_errhandler(mpi->world, MPI_ERRORS_RETURN),
                          "MPI_Comm_set_errhandler"));
    SEO_TRY(seo_mpi_check(comm, MPI_Comm_rank(mpi->world, &rank), "MPI_Comm_rank"));
    SEO_TRY(seo_mpi_check(comm, MPI_Comm_size(mpi->world, &size), "MPI_Comm_size"));
    comm->rank = rank;
    comm->size = size;
    mpi->slice = o->slice > 0 ? o->slice : seo_comm_slice(size);
    mpi->ready = true;
done:
    return err;
}

/* After an error MPI_Finalize could wait for a peer that is gone. */
static void worker_end(seo_comm *comm) {
    seo_mpi *mpi = comm->impl;
    if (!mpi->ready) return;
    (void)MPI_Comm_free(&mpi->world);
    (void)MPI_Finalize();
}

static seo_err mpi_open(seo_comm *comm, const void *options) {
    static const seo_comm_worker worker = {worker_begin, seo_mpi_run, worker_end};
    const seo_comm_mpi_options *o = options;
    if (o->slice < 0 || o->slice > INT32_MAX / 8) {
        return SEO_FAIL(SEO_ERR_ARG, "mpi: slices of %lld elements", (long long)o->slice);
    }
    seo_mpi *mpi = calloc(1, sizeof *mpi);
    if (!mpi) return SEO_FAIL(SEO_ERR_MEMORY, "mpi: no memory to open it");
    comm->impl = mpi;
    return seo_comm_queue_open(comm, &worker, options, &mpi->queue);
}

static seo_err mpi_attach(seo_comm *comm) {
    seo_mpi *mpi = comm->impl;
    const int64_t bytes = seo_comm_workspace_bytes(comm->size, mpi->slice);
    mpi->workspace = malloc((size_t)bytes);
    mpi->requests = malloc((size_t)comm->size * 4 * sizeof(MPI_Request));
    const bool staged = !seo_device_is_cpu(comm->dev);
    if (staged) mpi->staging = malloc((size_t)((comm->size + 1) * mpi->slice) * sizeof(float));
    if (!mpi->workspace || !mpi->requests || (staged && !mpi->staging)) {
        return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for the collectives of %d ranks: %lld bytes",
                        comm->name, (int)comm->size, (long long)bytes);
    }
    return SEO_OK;
}

static seo_err put_and_wait(seo_mpi *mpi, const seo_comm_request *request, int64_t *ticket) {
    const seo_err err = seo_comm_queue_put(mpi->queue, request, ticket);
    return err != SEO_OK ? err : seo_comm_queue_wait(mpi->queue, *ticket);
}

/* Slice by slice: every rank's part of it comes to the host, its sum goes back. */
static seo_err staged_sum(seo_comm *comm, const seo_reduce_scatter_args *a, int64_t *ticket) {
    seo_err err = SEO_OK;
    seo_mpi *mpi = comm->impl;
    const int64_t n = seo_tensor_count(&a->out);
    const float *inp = a->inp.data;
    float *out = a->out.data, *sum = mpi->staging + comm->size * mpi->slice;
    for (int64_t at = 0; at < n; at += mpi->slice) {
        const int64_t count = seo_min_i64(mpi->slice, n - at), bytes = count * (int64_t)sizeof *sum;
        for (int32_t r = 0; r < comm->size; r++) {
            SEO_TRY(
                seo_device_copy_out(comm->dev, mpi->staging + r * count, inp + r * n + at, bytes));
        }
        if (a->accumulate) SEO_TRY(seo_device_copy_out(comm->dev, sum, out + at, bytes));
        seo_comm_request request = {.call = SEO_COMM_REDUCE_SCATTER, .inner = true, .reduce = *a};
        request.reduce.out = seo_tensor_1d(sum, SEO_DTYPE_F32, count);
        request.reduce.inp = seo_tensor_1d(mpi->staging, SEO_DTYPE_F32, comm->size * count);
        SEO_TRY(put_and_wait(mpi, &request, ticket));
        SEO_TRY(seo_device_copy_in(comm->dev, out + at, sum, bytes));
    }
done:
    return err;
}

static seo_err staged_gather(seo_comm *comm, const seo_all_gather_args *a, int64_t *ticket) {
    seo_err err = SEO_OK;
    seo_mpi *mpi = comm->impl;
    const int64_t n = seo_tensor_count(&a->inp), element = seo_dtype_bytes(a->inp.dtype);
    char *whole = a->whole.data;
    const char *inp = a->inp.data;
    float *mine = mpi->staging + comm->size * mpi->slice;
    for (int64_t at = 0; at < n; at += mpi->slice) {
        const int64_t count = seo_min_i64(mpi->slice, n - at), bytes = count * element;
        SEO_TRY(seo_device_copy_out(comm->dev, mine, inp + at * element, bytes));
        seo_comm_request request = {.call = SEO_COMM_ALL_GATHER, .inner = true, .gather = *a};
        request.gather.whole = seo_tensor_1d(mpi->staging, a->inp.dtype, comm->size * count);
        request.gather.inp = seo_tensor_1d(mine, a->inp.dtype, count);
        SEO_TRY(put_and_wait(mpi, &request, ticket));
        for (int32_t r = 0; r < comm->size; r++) {
            SEO_TRY(seo_device_copy_in(comm->dev, whole + (r * n + at) * element,
                                       (char *)mpi->staging + r * bytes, bytes));
        }
    }
done:
    return err;
}

static seo_err mpi_reduce_scatter(seo_comm *comm, const seo_reduce_scatter_args *args,
                                  int64_t *ticket) {
    const seo_mpi *mpi = comm->impl;
    const seo_comm_request request = {.call = SEO_COMM_REDUCE_SCATTER, .reduce = *args};
    if (seo_device_is_cpu(comm->dev)) return seo_comm_queue_put(mpi->queue, &request, ticket);
    seo_comm_enter(comm, args->label,
                   (comm->size - 1) * seo_tensor_count(&args->out) * seo_dtype_bytes(args->wire));
    const seo_err err = staged_sum(comm, args, ticket);
    if (err == SEO_OK) seo_comm_leave(comm);
    return err;
}

static seo_err mpi_all_gather(seo_comm *comm, const seo_all_gather_args *args, int64_t *ticket) {
    const seo_mpi *mpi = comm->impl;
    const seo_comm_request request = {.call = SEO_COMM_ALL_GATHER, .gather = *args};
    if (seo_device_is_cpu(comm->dev)) return seo_comm_queue_put(mpi->queue, &request, ticket);
    seo_comm_enter(comm, args->label, (comm->size - 1) * seo_tensor_bytes(&args->inp));
    const seo_err err = staged_gather(comm, args, ticket);
    if (err == SEO_OK) seo_comm_leave(comm);
    return err;
}

static seo_err mpi_wait(seo_comm *comm, int64_t ticket) {
    return seo_comm_queue_wait(((seo_mpi *)comm->impl)->queue, ticket);
}

static seo_err mpi_gather_host(seo_comm *comm, seo_comm_label label, const void *mine,
                               int64_t bytes, void *all) {
    const seo_comm_request request = {.call = SEO_COMM_GATHER_HOST,
                                      .host = {label, mine, all, bytes}};
    int64_t ticket = 0;
    return put_and_wait(comm->impl, &request, &ticket);
}

static void mpi_close(seo_comm *comm) {
    seo_mpi *mpi = comm->impl;
    if (!mpi) return;
    seo_comm_queue_close(mpi->queue);
    free(mpi->workspace);
    free(mpi->requests);
    free(mpi->staging);
    free(mpi);
}

__attribute__((visibility("default"))) const void *seo_mpi_plugin(const seo_plugin_host *host);

const void *seo_mpi_plugin(const seo_plugin_host *host) {
    static const seo_comm_backend backend = {
        .open = mpi_open,
        .attach = mpi_attach,
        .reduce_scatter = mpi_reduce_scatter,
        .all_gather = mpi_all_gather,
        .wait = mpi_wait,
        .gather_host = mpi_gather_host,
        .close = mpi_close,
    };
    return seo_plugin_accept(host) ? &backend : NULL;
}
