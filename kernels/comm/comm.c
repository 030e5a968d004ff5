/* The collectives as their callers see them: arguments are checked here for all kinds of comm, and
 * what a comm does is told. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/comm_backend.h"

enum { COUNT_MULTIPLE = 128 };

seo_err seo_comm_open_backend(const seo_comm_backend *backend, const void *options,
                              seo_comm **out) {
    *out = NULL;
    seo_comm *comm = calloc(1, sizeof *comm);
    seo_comm_record *record = calloc(1, sizeof *record);
    if (!comm || !record) {
        free(comm);
        free(record);
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory to open the collectives");
    }
    pthread_mutex_init(&record->lock, NULL);
    comm->backend = backend;
    comm->record = record;
    const seo_err err = backend->open(comm, options);
    if (err == SEO_OK) {
        *out = comm;
    } else {
        seo_comm_close(comm);
    }
    return err;
}

void seo_comm_close(seo_comm *comm) {
    if (!comm) return;
    comm->backend->close(comm);
    pthread_mutex_destroy(&comm->record->lock);
    free(comm->record);
    free(comm);
}

seo_err seo_comm_attach(seo_comm *comm, seo_device *dev) {
    if (comm->dev == dev) return SEO_OK;
    if (comm->dev) {
        return SEO_FAIL(SEO_ERR_ARG, "%s: the collectives have a device already, %s", comm->name,
                        seo_device_name(comm->dev));
    }
    comm->dev = dev;
    const seo_err err = comm->backend->attach(comm);
    if (err != SEO_OK) comm->dev = NULL;
    return err;
}

int32_t seo_comm_rank(const seo_comm *comm) {
    return comm->rank;
}
int32_t seo_comm_size(const seo_comm *comm) {
    return comm->size;
}
const char *seo_comm_name(const seo_comm *comm) {
    return comm->name;
}

seo_comm_memory seo_comm_memory_of(seo_comm_kind kind, int32_t size, bool device_is_cpu) {
    const int64_t slice = seo_comm_slice(size);
    const int64_t workspace = seo_comm_workspace_bytes(size, slice);
    seo_comm_memory memory = {0, 0};
    switch (kind) {
    case SEO_COMM_SELF:
        if (!device_is_cpu) memory.device_bytes = seo_comm_slice(1) * (int64_t)sizeof(uint16_t);
        break;
    case SEO_COMM_NCCL: memory.device_bytes = workspace; break;
    case SEO_COMM_MPI:
        memory.host_bytes = workspace;
        /* What is brought from the device and what goes back to it. */
        if (!device_is_cpu) memory.host_bytes += (size + 1) * slice * (int64_t)sizeof(float);
        break;
    }
    return memory;
}

static seo_err check_ready(const seo_comm *comm, seo_comm_label label) {
    if (!label.name) return SEO_FAIL(SEO_ERR_ARG, "%s: a collective without a name", comm->name);
    if (!comm->dev) {
        return SEO_FAIL(SEO_ERR_ARG, "%s: %s: no device is attached (seo_comm_attach)", comm->name,
                        label.name);
    }
    return SEO_OK;
}

/* `part` (n elements) may be this rank's part of `whole` (size * n) itself, or lies outside. */
static seo_err check_parts(const seo_comm *comm, seo_comm_label label, const seo_tensor *whole,
                           const seo_tensor *part, bool may_be_part) {
    const int64_t n = seo_tensor_count(part), all = seo_tensor_count(whole);
    if (n < 1 || n % COUNT_MULTIPLE != 0 || all % comm->size != 0 || all / comm->size != n) {
        return SEO_FAIL(SEO_ERR_SHAPE,
                        "%s: %s: %" PRId64 " elements in all and %" PRId64
                        " a rank: with %d ranks these must be n * %d and n, n a multiple of %d",
                        comm->name, label.name, all, n, (int)comm->size, (int)comm->size,
                        COUNT_MULTIPLE);
    }
    if (!whole->data || !part->data) {
        return SEO_FAIL(SEO_ERR_ARG, "%s: %s: a tensor has no memory", comm->name, label.name);
    }
    const uintptr_t from = (uintptr_t)whole->data, at = (uintptr_t)part->data;
    const uintptr_t whole_bytes = (uintptr_t)seo_tensor_bytes(whole),
                    part_bytes = (uintptr_t)seo_tensor_bytes(part);
    const bool is_part = at == from + (uintptr_t)comm->rank * part_bytes;
    const bool apart = at + part_bytes <= from || from + whole_bytes <= at;
    if (!apart && !(is_part && may_be_part)) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "%s: %s: the tensors overlap in a way other than a rank's part of the "
                        "whole",
                        comm->name, label.name);
    }
    return SEO_OK;
}

static seo_err check_reduce_scatter(const seo_comm *comm, const seo_reduce_scatter_args *a) {
    const seo_err err = check_ready(comm, a->label);
    if (err != SEO_OK) return err;
    if (a->out.dtype != SEO_DTYPE_F32 || a->inp.dtype != SEO_DTYPE_F32) {
        return SEO_FAIL(SEO_ERR_SHAPE, "%s: %s: sums over ranks are of f32", comm->name,
                        a->label.name);
    }
    if (a->wire != SEO_DTYPE_F32 && a->wire != SEO_DTYPE_BF16) {
        return SEO_FAIL(SEO_ERR_ARG, "%s: %s: what is sent is f32 or bf16", comm->name,
                        a->label.name);
    }
    const bool power = (comm->size & (comm->size - 1)) == 0;
    if (a->order != SEO_SUM_SEQUENCE && a->order != SEO_SUM_TREE) {
        return SEO_FAIL(SEO_ERR_ARG, "%s: %s: there is no order %d", comm->name, a->label.name,
                        (int)a->order);
    }
    if (a->order == SEO_SUM_TREE && (!power || comm->size > SEO_SUM_TREE_MAX)) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "%s: %s: a balanced tree needs a power of two of ranks, up to %d; there "
                        "are %d",
                        comm->name, a->label.name, SEO_SUM_TREE_MAX, (int)comm->size);
    }
    return check_parts(comm, a->label, &a->inp, &a->out, !a->accumulate);
}

seo_err seo_comm_reduce_scatter(seo_comm *comm, const seo_reduce_scatter_args *args,
                                int64_t *ticket) {
    *ticket = 0;
    const seo_err err = check_reduce_scatter(comm, args);
    return err != SEO_OK ? err : comm->backend->reduce_scatter(comm, args, ticket);
}

seo_err seo_comm_all_gather(seo_comm *comm, const seo_all_gather_args *args, int64_t *ticket) {
    *ticket = 0;
    seo_err err = check_ready(comm, args->label);
    if (err == SEO_OK && args->whole.dtype != args->inp.dtype) {
        err = SEO_FAIL(SEO_ERR_SHAPE, "%s: %s: the parts are of another type than the whole",
                       comm->name, args->label.name);
    }
    if (err == SEO_OK) err = check_parts(comm, args->label, &args->whole, &args->inp, true);
    return err != SEO_OK ? err : comm->backend->all_gather(comm, args, ticket);
}

seo_err seo_comm_wait(seo_comm *comm, int64_t ticket) {
    return comm->backend->wait(comm, ticket);
}

seo_err seo_comm_gather_host(seo_comm *comm, seo_comm_label label, const void *mine, int64_t bytes,
                             void *all) {
    if (!label.name || bytes < 0 || bytes > SEO_COMM_HOST_BYTES_MAX) {
        return SEO_FAIL(SEO_ERR_ARG, "%s: %s: %" PRId64 " bytes, where 0 to %d can be gathered",
                        comm->name, label.name ? label.name : "without a name", bytes,
                        SEO_COMM_HOST_BYTES_MAX);
    }
    return comm->backend->gather_host(comm, label, mine, bytes, all);
}

/* The record's holder stays the same: what is refreshed lies behind pointers. */
static void refresh(const seo_comm *comm) {
    seo_comm same = *comm;
    if (comm->backend->refresh) comm->backend->refresh(&same);
}

void seo_comm_place_of(const seo_comm *comm, seo_comm_place *out) {
    refresh(comm);
    pthread_mutex_lock(&comm->record->lock);
    *out = comm->record->place;
    pthread_mutex_unlock(&comm->record->lock);
}

void seo_comm_times_of(const seo_comm *comm, seo_comm_times *out) {
    refresh(comm);
    pthread_mutex_lock(&comm->record->lock);
    *out = comm->record->times;
    pthread_mutex_unlock(&comm->record->lock);
}
