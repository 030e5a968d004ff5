/* Private to kernels/cuda: NCCL as a library that is opened at run time. */
#pragma once

#include <nccl.h>

#include "kernels/comm_backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The functions of the library that are used. */
#define SEO_NCCL_FUNCTIONS(X)                                                                      \
    X(GetVersion)                                                                                  \
    X(GetErrorString)                                                                              \
    X(GetLastError)                                                                                \
    X(GetUniqueId)                                                                                 \
    X(CommInitRank)                                                                                \
    X(CommDestroy)                                                                                 \
    X(CommAbort)                                                                                   \
    X(CommGetAsyncError)                                                                           \
    X(GroupStart)                                                                                  \
    X(GroupEnd)                                                                                    \
    X(Send)                                                                                        \
    X(Recv)                                                                                        \
    X(AllGather)                                                                                   \
    X(ReduceScatter)

typedef struct seo_nccl_library {
    int version; /* 22809 is 2.28.9 */
#define X(name) __typeof__(&nccl##name) name;
    SEO_NCCL_FUNCTIONS(X)
#undef X
} seo_nccl_library;

extern const seo_comm_backend seo_nccl_backend;

#ifdef __cplusplus
}
#endif
