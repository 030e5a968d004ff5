/* Who this process is among the ranks of a run, read from what its launcher left in the
 * environment: mpirun (Open MPI, MPICH), srun, or torchrun's RANK and WORLD_SIZE. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_launcher {
    SEO_LAUNCH_ALONE,
    SEO_LAUNCH_MPI,
    SEO_LAUNCH_SLURM,
    SEO_LAUNCH_TORCHRUN
} seo_launcher;

typedef struct seo_launch {
    seo_launcher launcher;
    int32_t rank, size;
    int32_t local_rank, local_size; /* among the ranks of this host; where the launcher does not
                                     * tell, all ranks are taken to be on one */
    bool mpi;                       /* an MPI launcher started it: MPI_Init will find its peers */
    char id[96];      /* the same on all ranks of this start, another one at every start, as far as
                       * the launcher tells: "slurm 123.0 restart 2", "mpirun 4711" */
    char master[256]; /* MASTER_ADDR, "" when not given */
    int32_t master_port;
} seo_launch;

/* MPI's variables count before Slurm's step variables, those before RANK and WORLD_SIZE. Two that
 * contradict each other are SEO_ERR_USAGE naming both, with the remedy; so is a rank outside its
 * world, or half of a pair. A launcher inside another one's job (mpirun in a batch script, torchrun
 * below srun) counts alone. A Slurm batch script that starts the program without srun is rank 0 of
 * SLURM_NTASKS whose peers never come: seo_world_open says so. A shell inside an allocation is
 * alone. Call it before MPI is initialised. */
seo_err seo_launch_find(seo_launch *out);

#ifdef __cplusplus
}
#endif
