/* Private to the MPI plug-in: what its thread does with the library. */
#pragma once

#include <mpi.h>

#include "kernels/comm/queue.h"

typedef struct seo_mpi {
    seo_comm_queue *queue;
    MPI_Comm world; /* our own copy of MPI_COMM_WORLD */
    bool ready;     /* initialised, and nothing has failed since */
    int64_t slice;  /* elements */
    /* Two halves, for two slices in hand: every rank's part, then what is sent rounded to bf16. */
    char *workspace;
    MPI_Request *requests; /* for each half: size receives, size sends */
    float *staging;        /* of a device that is not the CPU: size + 1 slices */
} seo_mpi;

/* A code of MPI's as an error; `what` stands in the message. */
seo_err seo_mpi_check(const seo_comm *comm, int code, const char *what);
/* One collective, on memory of the host. */
seo_err seo_mpi_run(seo_comm *comm, const seo_comm_request *request);
