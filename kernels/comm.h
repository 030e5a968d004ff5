/* Collectives between the ranks of a run, on device memory. A rank is a process with one device;
 * all ranks make the same calls with the same sizes in the same order.
 *
 * A call queues its collective behind the work the device was given before it, and returns with a
 * ticket. Collectives run one after the other beside the work the device is given later;
 * seo_comm_wait puts the device's later work behind a collective and all before it. Until then its
 * tensors may not be touched. (On the CPU a thread of the comm's own does them and wait blocks; on
 * NCCL they are on a stream of their own and wait queues an event.)
 *
 * Sums are made of f32 (or, with a bf16 wire, of every rank's addend rounded to bf16 once, one's
 * own included) in f32, element by element in one of two orders: SEO_SUM_SEQUENCE  ((part 0 + part
 * 1) + part 2) + ...        of ranks: deterministic for a fixed world size SEO_SUM_TREE      a
 * balanced binary tree, (0+1)+(2+3) ...   parts must be a power of two so the bits depend on
 * neither message sizes nor algorithms of a library. (Only NCCL's own reduce- scatter, for
 * SEQUENCE, has the order that NCCL chooses: the same for the same topology.)
 *
 * A peer that is lost blocks a collective for ever: ending the run is the watchdog's business
 * (train/world). What a comm does is told to it by seo_comm_place, from any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/tensor.h"
#include "kernels/device.h"
#include "kernels/sum_order.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_comm seo_comm;

/* One rank, no library. */
seo_err seo_comm_open_self(seo_comm **out);

/* MPI, through the plug-in libseodang_mpi.so (NULL: beside the program). The library is
 * initialised, rank and size are known, seo_comm_gather_host works; device collectives from
 * seo_comm_attach on. All MPI calls are made by one thread of the comm's. SEO_ERR_MISSING: no
 * plug-in was built; SEO_ERR_UNSUPPORTED: no MPI library. */
typedef struct seo_comm_mpi_options {
    const char *plugin;
    int64_t slice; /* elements a rank sends to each other one at a time; 0: chosen by the number of
                    * ranks. The bits do not depend on it. */
} seo_comm_mpi_options;
seo_err seo_comm_open_mpi(const seo_comm_mpi_options *options, seo_comm **out);

/* The device whose memory the collectives are on; borrowed, closed after the comm. On a GPU an MPI
 * comm goes through host memory: a path for tests, without overlap. Takes the workspace. */
seo_err seo_comm_attach(seo_comm *comm, seo_device *dev);

/* NCCL, on a CUDA device. `share` brings rank 0's bytes to all ranks (0 fills `data` itself). */
typedef seo_err seo_comm_share(void *context, void *data, int64_t bytes);
typedef struct seo_comm_nccl_options {
    seo_device *dev;
    int32_t rank, size;
    seo_comm_share *share;
    void *share_context;
} seo_comm_nccl_options;
seo_err seo_comm_open_nccl(const seo_comm_nccl_options *options, seo_comm **out);
/* Whether this rank could open one: SEO_ERR_MISSING in a build without NCCL, SEO_ERR_UNSUPPORTED on
 * a device that is no GPU, or without the library; each with what to do. For the ranks to agree on
 * before they open: one that fails alone leaves the others waiting for it. */
seo_err seo_comm_find_nccl(const seo_device *dev);

/* Waits for what is queued. After an error, or when a peer is gone, the process should rather end.
 */
void seo_comm_close(seo_comm *comm); /* NULL is fine */

int32_t seo_comm_rank(const seo_comm *comm);
int32_t seo_comm_size(const seo_comm *comm);
const char *seo_comm_name(const seo_comm *comm); /* "self", "mpi (Open MPI 4.1.4)", "nccl 2.27" */

/* Memory of a comm besides the tensors of its calls, on the device and on the host; it does not
 * grow with them. For the plan: what a comm of this kind and size will take. */
typedef enum seo_comm_kind { SEO_COMM_SELF, SEO_COMM_MPI, SEO_COMM_NCCL } seo_comm_kind;
typedef struct seo_comm_memory {
    int64_t device_bytes, host_bytes;
} seo_comm_memory;
seo_comm_memory seo_comm_memory_of(seo_comm_kind kind, int32_t size, bool device_is_cpu);

/* What a collective is called in reports: "gather parameters of block 3". The text must stay. */
typedef struct seo_comm_label {
    const char *name;
    int64_t index; /* -1: none */
} seo_comm_label;

/* out[i] (= or +=) sum over ranks r of r's inp[rank * n + i]. out may be that part of inp itself
 * (without accumulate); the rest of inp is left as it was. n: a multiple of 128. */
typedef struct seo_reduce_scatter_args {
    seo_tensor out; /* = or += (n) f32 */
    seo_tensor inp; /*    (size * n) f32 */
    seo_dtype wire; /*    f32 or bf16: what is sent */
    seo_sum_order order;
    bool accumulate;
    seo_comm_label label;
} seo_reduce_scatter_args;
seo_err seo_comm_reduce_scatter(seo_comm *comm, const seo_reduce_scatter_args *args,
                                int64_t *ticket);

/* whole[r * n + i] = rank r's inp[i]; inp may be this rank's part of whole. */
typedef struct seo_all_gather_args {
    seo_tensor whole; /* = (size * n) any dtype */
    seo_tensor inp;   /*   (n) same dtype */
    seo_comm_label label;
} seo_all_gather_args;
seo_err seo_comm_all_gather(seo_comm *comm, const seo_all_gather_args *args, int64_t *ticket);

seo_err seo_comm_wait(seo_comm *comm, int64_t ticket);

/* all[r * bytes ..] = rank r's mine, host memory, bytes the same everywhere and at most
 * SEO_COMM_HOST_BYTES_MAX; waits for it (not for the device). Behind all that is queued. */
enum { SEO_COMM_HOST_BYTES_MAX = 1 << 20 };
seo_err seo_comm_gather_host(seo_comm *comm, seo_comm_label label, const void *mine, int64_t bytes,
                             void *all);

/* The last collective this rank entered. From any thread; times are seo_clock_s(). */
typedef struct seo_comm_place {
    int64_t number;           /* 1 for the first; 0: none yet */
    char name[64];            /* of the label, with its index */
    int64_t bytes;            /* that this rank sends */
    double entered_s, left_s; /* left_s 0: it is still in it */
} seo_comm_place;
void seo_comm_place_of(const seo_comm *comm, seo_comm_place *out);

/* For metrics and benchmarks: since open, seconds in collectives, seconds the caller was kept
 * waiting for them, and bytes sent. (NCCL: seconds are 0 where they are not measured.) */
typedef struct seo_comm_times {
    double busy_s, waited_s;
    int64_t sent_bytes;
} seo_comm_times;
void seo_comm_times_of(const seo_comm *comm, seo_comm_times *out);

#ifdef __cplusplus
}
#endif
