/* A table of environments, as launchers leave them, and what is read from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "train/world/launch.h"

/* A batch step of Slurm, and a task of srun in it. */
#define BATCH "SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 "
#define STEP(p)                                                                                    \
    "SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 SLURM_NTASKS=4 SLURM_PROCID=" p " "
#define SRUN_PMIX "PMIX_NAMESPACE=slurm.pmix.7.0 "
#define OMPI                                                                                       \
    "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=0 "                  \
    "OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_RANK=2 PMIX_NAMESPACE=4711 "
#define HYDRA "PMI_RANK=1 PMI_SIZE=2 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2 PMI_FD=6 "
#define TORCH                                                                                      \
    "RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=n1 MASTER_PORT=29500 "

typedef struct good {
    const char *environment;
    seo_launch want;
} good;

static const good k_good[] = {
    {"", {.size = 1, .local_size = 1}},
    {OMPI, {SEO_LAUNCH_MPI, 2, 4, 0, 2, true, "mpirun 4711", "", 0}},
    {HYDRA, {SEO_LAUNCH_MPI, 1, 2, 1, 2, true, "", "", 0}},
    /* srun, with and without its PMIx. */
    {STEP("3") SRUN_PMIX "PMIX_RANK=3 SLURM_LOCALID=1 SLURM_NODEID=1 "
                         "SLURM_STEP_TASKS_PER_NODE=2(x2)",
     {SEO_LAUNCH_SLURM, 3, 4, 1, 2, true, "slurm 7.0 restart 0", "", 0}},
    {STEP("3") "SLURM_LOCALID=0 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE=2,1(x2) "
               "SLURM_RESTART_COUNT=2",
     {SEO_LAUNCH_SLURM, 3, 4, 0, 1, false, "slurm 7.0 restart 2", "", 0}},
    /* srun with PMI-2, as MPICH wants it. */
    {STEP("1") "PMI_RANK=1 PMI_SIZE=4 PMI_JOBID=7.0 SLURM_LOCALID=1 SLURM_NODEID=0 "
               "SLURM_TASKS_PER_NODE=4",
     {SEO_LAUNCH_SLURM, 1, 4, 1, 4, true, "slurm 7.0 restart 0", "", 0}},
    /* A batch script that starts the program itself: peers that never come. */
    {BATCH "SLURM_NTASKS=4",
     {SEO_LAUNCH_SLURM, 0, 4, 0, 4, false, "slurm 7.batch restart 0", "", 0}},
    {BATCH "SLURM_NTASKS=1", {.size = 1, .local_size = 1}},
    {BATCH, {.size = 1, .local_size = 1}},
    /* A shell inside salloc; the same as a step of its own. */
    {"SLURM_JOB_ID=7 SLURM_NTASKS=4", {.size = 1, .local_size = 1}},
    {"SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_STEP_ID=4294967290",
     {.size = 1, .local_size = 1}},
    /* mpirun in a batch script, on the first host and below the srun that brings it to others. */
    {BATCH "SLURM_NTASKS=8 " OMPI, {SEO_LAUNCH_MPI, 2, 4, 0, 2, true, "mpirun 4711", "", 0}},
    {STEP("1") OMPI, {SEO_LAUNCH_MPI, 2, 4, 0, 2, true, "mpirun 4711", "", 0}},
    {STEP("0") HYDRA, {SEO_LAUNCH_MPI, 1, 2, 1, 2, true, "", "", 0}},
    /* torchrun; one below srun; a hand-made pair that says what the launcher says. */
    {TORCH "TORCHELASTIC_RUN_ID=ab TORCHELASTIC_RESTART_COUNT=1",
     {SEO_LAUNCH_TORCHRUN, 3, 4, 1, 2, false, "torchrun ab restart 1", "n1", 29500}},
    {STEP("1") TORCH "TORCHELASTIC_RUN_ID=ab",
     {SEO_LAUNCH_TORCHRUN, 3, 4, 1, 2, false, "torchrun ab restart 0", "n1", 29500}},
    {STEP("3") TORCH "SLURM_LOCALID=0",
     {SEO_LAUNCH_SLURM, 3, 4, 0, 4, false, "slurm 7.0 restart 0", "n1", 29500}},
    {"RANK=1 WORLD_SIZE=2", {SEO_LAUNCH_TORCHRUN, 1, 2, 1, 2, false, "", "", 0}},
    {OMPI "RANK=2 WORLD_SIZE=4", {SEO_LAUNCH_MPI, 2, 4, 0, 2, true, "mpirun 4711", "", 0}},
};

typedef struct bad {
    const char *environment;
    const char *names[2]; /* both stand in the message */
} bad;

static const bad k_bad[] = {
    {"RANK=1", {"RANK=1", "WORLD_SIZE is not"}},
    {"WORLD_SIZE=4", {"WORLD_SIZE=4", "RANK is not"}},
    {"RANK=2 WORLD_SIZE=2", {"RANK=2", "WORLD_SIZE=2"}},
    {"RANK=-1 WORLD_SIZE=2", {"RANK=-1", "whole number"}},
    {"RANK=0 WORLD_SIZE=0", {"WORLD_SIZE=0", "at least 1"}},
    {"RANK=0 WORLD_SIZE=99999999999", {"WORLD_SIZE=99999999999", "whole number"}},
    {"RANK=0 WORLD_SIZE=2x", {"WORLD_SIZE=2x", "whole number"}},
    {"RANK=0 WORLD_SIZE=4 LOCAL_RANK=2 LOCAL_WORLD_SIZE=2", {"LOCAL_RANK=2", "LOCAL_WORLD_SIZE=2"}},
    {"RANK=0 WORLD_SIZE=2 MASTER_ADDR=n1", {"MASTER_ADDR=n1", "MASTER_PORT"}},
    {"RANK=0 WORLD_SIZE=2 MASTER_ADDR=n1 MASTER_PORT=70000", {"MASTER_PORT=70000", "no port"}},
    {OMPI "RANK=2 WORLD_SIZE=8", {"OMPI_COMM_WORLD_SIZE=4", "WORLD_SIZE=8"}},
    {OMPI "RANK=1 WORLD_SIZE=4", {"OMPI_COMM_WORLD_RANK=2", " RANK=1"}},
    {OMPI "PMI_RANK=0 PMI_SIZE=2", {"OMPI_COMM_WORLD_SIZE=4", "PMI_SIZE=2"}},
    {"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4 PMIX_RANK=2",
     {"PMIX_RANK=2", "OMPI_COMM_WORLD_RANK=1"}},
    {STEP("1") SRUN_PMIX "PMIX_RANK=2", {"PMIX_RANK=2", "SLURM_PROCID=1"}},
    {STEP("1") "RANK=1 WORLD_SIZE=2", {"SLURM_STEP_NUM_TASKS=4", "WORLD_SIZE=2"}},
    {STEP("1") "PMI_RANK=0 PMI_SIZE=4", {"PMI_RANK=0", "SLURM_PROCID=1"}},
    {STEP("4"), {"SLURM_PROCID=4", "SLURM_STEP_NUM_TASKS=4"}},
};

static void set_environment(const char *text) {
    char copy[1024], *save = NULL;
    assert_true(strlen(text) < sizeof copy);
    memcpy(copy, text, strlen(text) + 1);
    assert_int_equal(clearenv(), 0);
    for (char *item = strtok_r(copy, " ", &save); item; item = strtok_r(NULL, " ", &save)) {
        char *value = strchr(item, '=');
        assert_non_null(value);
        *value = '\0';
        assert_int_equal(setenv(item, value + 1, 1), 0);
    }
}

static void launchers_are_understood(void **state) {
    (void)state;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_good); i++) {
        const seo_launch *want = &k_good[i].want;
        seo_launch got;
        set_environment(k_good[i].environment);
        if (seo_launch_find(&got) != SEO_OK) {
            fail_msg("%s\n%s", k_good[i].environment, seo_err_detail());
        }
        if (got.launcher != want->launcher || got.rank != want->rank || got.size != want->size ||
            got.local_rank != want->local_rank || got.local_size != want->local_size ||
            got.mpi != want->mpi || strcmp(got.id, want->id) != 0 ||
            strcmp(got.master, want->master) != 0 || got.master_port != want->master_port) {
            fail_msg("%s\nlauncher %d rank %d of %d, local %d of %d, mpi %d, id \"%s\", at %s:%d",
                     k_good[i].environment, got.launcher, got.rank, got.size, got.local_rank,
                     got.local_size, got.mpi, got.id, got.master, got.master_port);
        }
    }
}

static void contradictions_are_refused(void **state) {
    (void)state;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_bad); i++) {
        seo_launch got;
        set_environment(k_bad[i].environment);
        const seo_err err = seo_launch_find(&got);
        if (err != SEO_ERR_USAGE || !strstr(seo_err_detail(), k_bad[i].names[0]) ||
            !strstr(seo_err_detail(), k_bad[i].names[1])) {
            fail_msg("%s\n%s: %s", k_bad[i].environment, seo_err_text(err), seo_err_detail());
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launchers_are_understood),
        cmocka_unit_test(contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
