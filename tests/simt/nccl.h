/* The subset of NCCL that the project calls, for a library that stands in for it in tests (nccl.c).
 * Names and values are NVIDIA's; the major version is nobody's, so that neither is ever taken for
 * the other. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NCCL_MAJOR 99

typedef struct ncclComm *ncclComm_t;
typedef struct ncclUniqueId {
    char internal[128];
} ncclUniqueId;
typedef enum ncclResult {
    ncclSuccess = 0,
    ncclUnhandledCudaError = 1,
    ncclSystemError = 2,
    ncclInternalError = 3,
    ncclInvalidArgument = 4,
    ncclInvalidUsage = 5,
    ncclRemoteError = 6
} ncclResult_t;
typedef enum ncclRedOp { ncclSum = 0 } ncclRedOp_t;
typedef enum ncclDataType { ncclUint8 = 1, ncclFloat32 = 7, ncclBfloat16 = 9 } ncclDataType_t;

ncclResult_t ncclGetVersion(int *version);
const char *ncclGetErrorString(ncclResult_t result);
const char *ncclGetLastError(ncclComm_t comm);
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommAbort(ncclComm_t comm);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error);
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclAllGather(const void *part, void *whole, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclReduceScatter(const void *whole, void *part, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream);

/* What a test sets and reads; ranks are processes, each of which has its own. */
typedef struct nccl_stand_in {
    /* Of the emulated runtime: cudaLaunchHostFunc. To be set first. */
    cudaError_t (*launch)(cudaStream_t stream, cudaHostFn_t function, void *data);
    ncclResult_t fail_id, fail_init, fail_call; /* what these calls give instead of success */
    ncclResult_t fail_later;                    /* what a comm's state is from now on */
    int destroyed, aborted, groups, reduce_scatters, all_gathers;
} nccl_stand_in;
nccl_stand_in *nccl_stand_in_get(void);

#ifdef __cplusplus
}
#endif
