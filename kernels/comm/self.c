/* The comm of a run with one rank: nothing is sent, and a sum has one part. */
#include <string.h>

#include "kernels/comm/wire.h"
#include "kernels/comm_backend.h"
#include "kernels/fold.h"
#include "kernels/ops.h"

static seo_err self_open(seo_comm *comm, const void *options) {
    (void)options;
    comm->size = 1;
    snprintf(comm->name, sizeof comm->name, "self");
    return SEO_OK;
}

/* On a device that is not the CPU: room to round a slice to bf16. */
static seo_err self_attach(seo_comm *comm) {
    if (seo_device_is_cpu(comm->dev)) return SEO_OK;
    return seo_device_alloc(comm->dev, seo_comm_slice(1) * (int64_t)sizeof(uint16_t), &comm->impl);
}

static void sum_one_part(const seo_reduce_scatter_args *a) {
    enum { PIECE = 1024 };
    const int64_t n = seo_tensor_count(&a->out);
    const float *inp = a->inp.data;
    float *out = a->out.data;
    for (int64_t at = 0; at < n; at += PIECE) {
        float sent[PIECE];
        const int64_t count = seo_min_i64(PIECE, n - at);
        seo_wire_from_f32(sent, a->wire, inp + at, count);
        const seo_parts part = {
            .first = sent, .count = 1, .stride = count, .dtype = a->wire, .order = a->order};
        seo_parts_fold(&part, out + at, a->accumulate, 0, count);
    }
}

/* The same by the device's operators. */
static seo_err sum_on_device(seo_comm *comm, const seo_reduce_scatter_args *a) {
    seo_err err = SEO_OK;
    const int64_t n = seo_tensor_count(&a->out), slice = seo_comm_slice(1);
    float *inp = a->inp.data, *out = a->out.data;
    for (int64_t at = 0; at < n; at += slice) {
        const int64_t count = seo_min_i64(slice, n - at);
        seo_tensor part = seo_tensor_2d(inp + at, SEO_DTYPE_F32, 1, count);
        if (a->wire == SEO_DTYPE_BF16) {
            const seo_tensor from = part;
            part = seo_tensor_2d(comm->impl, SEO_DTYPE_BF16, 1, count);
            SEO_TRY(seo_cast(comm->dev, &(seo_cast_args){.out = part, .inp = from}));
        }
        SEO_TRY(seo_fold(comm->dev,
                         &(seo_fold_args){.out = seo_tensor_1d(out + at, SEO_DTYPE_F32, count),
                                          .inp = part,
                                          .order = a->order,
                                          .accumulate = a->accumulate}));
    }
done:
    return err;
}

static seo_err self_reduce_scatter(seo_comm *comm, const seo_reduce_scatter_args *args,
                                   int64_t *ticket) {
    seo_err err = SEO_OK;
    *ticket = comm->record->place.number + 1;
    seo_comm_enter(comm, args->label, 0);
    if (seo_device_is_cpu(comm->dev)) {
        sum_one_part(args);
    } else {
        err = sum_on_device(comm, args);
    }
    seo_comm_leave(comm);
    return err;
}

static seo_err self_all_gather(seo_comm *comm, const seo_all_gather_args *args, int64_t *ticket) {
    seo_err err = SEO_OK;
    *ticket = comm->record->place.number + 1;
    seo_comm_enter(comm, args->label, 0);
    if (args->whole.data != args->inp.data) {
        err = seo_device_copy(comm->dev, args->whole.data, args->inp.data,
                              seo_tensor_bytes(&args->inp));
    }
    seo_comm_leave(comm);
    return err;
}

static seo_err self_wait(seo_comm *comm, int64_t ticket) {
    (void)comm;
    (void)ticket;
    return SEO_OK;
}

static seo_err self_gather_host(seo_comm *comm, seo_comm_label label, const void *mine,
                                int64_t bytes, void *all) {
    seo_comm_enter(comm, label, 0);
    if (bytes > 0) memmove(all, mine, (size_t)bytes);
    seo_comm_leave(comm);
    return SEO_OK;
}

static void self_close(seo_comm *comm) {
    if (comm->impl) seo_device_free(comm->dev, comm->impl);
}

seo_err seo_comm_open_self(seo_comm **out) {
    static const seo_comm_backend self = {
        .open = self_open,
        .attach = self_attach,
        .reduce_scatter = self_reduce_scatter,
        .all_gather = self_all_gather,
        .wait = self_wait,
        .gather_host = self_gather_host,
        .close = self_close,
    };
    return seo_comm_open_backend(&self, NULL, out);
}
