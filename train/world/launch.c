#include "train/world/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a launcher leaves rank and size. */
typedef struct claim_names {
    const char *launcher, *rank, *size, *local_rank, *local_size;
} claim_names;

typedef struct claim {
    const claim_names *names;
    bool found;
    int32_t rank, size, local_rank, local_size; /* local ones -1: not told */
} claim;

static const claim_names k_open_mpi = {"Open MPI's mpirun", "OMPI_COMM_WORLD_RANK",
                                       "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                                       "OMPI_COMM_WORLD_LOCAL_SIZE"};
static const claim_names k_pmi = {"MPICH's mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID",
                                  "MPI_LOCALNRANKS"};
/* A step's own number of tasks; SLURM_NTASKS may still be the allocation's. */
static const claim_names k_slurm_step = {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS",
                                         "SLURM_LOCALID", NULL};
static const claim_names k_slurm = {"Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", NULL};
static const claim_names k_torchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK",
                                       "LOCAL_WORLD_SIZE"};

static const char *text_of(const char *name) {
    const char *text = name ? getenv(name) : NULL;
    return text && text[0] != '\0' ? text : NULL;
}

/* A whole number of 0 to 2^31 - 2, else -1. */
static int32_t number_in(const char *text) {
    if (!text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 10) return -1;
    const long long value = strtoll(text, NULL, 10);
    return value < INT32_MAX ? (int32_t)value : -1;
}

static seo_err read_number(const char *name, int32_t least, int32_t *out) {
    *out = number_in(text_of(name));
    if (*out >= least) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "the environment variable %s=%s is no whole number of at least %d", name,
                    getenv(name), (int)least);
}

static seo_err read_local(const char *name, int32_t least, int32_t *out) {
    *out = -1;
    return text_of(name) ? read_number(name, least, out) : SEO_OK;
}

/* What a launcher left; nothing at all is no claim, half of it is an error. */
static seo_err read_claim(const claim_names *names, claim *out) {
    *out = (claim){.names = names, .local_rank = -1, .local_size = -1};
    const char *rank = text_of(names->rank), *size = text_of(names->size);
    if (!rank && !size) return SEO_OK;
    if (!rank || !size) {
        const char *there = rank ? names->rank : names->size;
        const char *missing = rank ? names->size : names->rank;
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s=%s is set in the environment and %s is not: set both for a run of many "
                        "ranks, or unset %s for a run of one",
                        there, rank ? rank : size, missing, there);
    }
    seo_err err = read_number(names->rank, 0, &out->rank);
    if (err == SEO_OK) err = read_number(names->size, 1, &out->size);
    if (err == SEO_OK) err = read_local(names->local_rank, 0, &out->local_rank);
    if (err == SEO_OK) err = read_local(names->local_size, 1, &out->local_size);
    if (err != SEO_OK) return err;
    if (out->rank >= out->size) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s=%d is outside of the world: with %s=%d ranks are 0 to %d", names->rank,
                        (int)out->rank, names->size, (int)out->size, (int)out->size - 1);
    }
    if (out->local_rank >= 0 && out->local_size > 0 && out->local_rank >= out->local_size) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s=%d is outside of this host's ranks: %s=%d",
                        names->local_rank, (int)out->local_rank, names->local_size,
                        (int)out->local_size);
    }
    out->found = true;
    return SEO_OK;
}

static seo_err contradiction(const char *a, int32_t a_value, const char *b, int32_t b_value) {
    return SEO_FAIL(SEO_ERR_USAGE,
                    "the environment contradicts itself: %s=%d and %s=%d. One of them is left from "
                    "another launcher: unset it, or start all ranks with one launcher",
                    a, (int)a_value, b, (int)b_value);
}

static seo_err must_agree(const claim *a, const claim *b) {
    if (!a->found || !b->found) return SEO_OK;
    if (a->size != b->size) {
        return contradiction(a->names->size, a->size, b->names->size, b->size);
    }
    if (a->rank != b->rank) {
        return contradiction(a->names->rank, a->rank, b->names->rank, b->rank);
    }
    return SEO_OK;
}

/* ---- Slurm ---- */

typedef enum slurm_place { SLURM_NONE, SLURM_BATCH, SLURM_STEP } slurm_place;

/* Slurm numbers the steps that are not srun's from 0xfffffffa up: the batch script, the shell of
 * an interactive allocation, and the like. Their variables describe the allocation. */
static bool is_step_of_srun(void) {
    const char *text = text_of("SLURM_STEP_ID");
    if (!text) text = text_of("SLURM_STEPID");
    if (!text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 10) return false;
    return strtoll(text, NULL, 10) < 0xfffffff0LL;
}

/* A shell inside an allocation (salloc) has SLURM_NTASKS and no SLURM_PROCID, or is a step of its
 * own with one of those high numbers: what is started in it is alone. */
static slurm_place find_slurm(void) {
    if (!text_of("SLURM_JOB_ID") && !text_of("SLURM_JOBID")) return SLURM_NONE;
    if (!text_of("SLURM_PROCID")) return SLURM_NONE;
    if (is_step_of_srun()) return SLURM_STEP;
    const bool interactive = text_of("SLURM_STEP_ID") != NULL || text_of("SLURM_STEPID") != NULL;
    return interactive || !text_of("SLURM_NTASKS") ? SLURM_NONE : SLURM_BATCH;
}

/* How many tasks run on this host: "2(x3),1" is 2 on each of the first three nodes, 1 on the
 * fourth. -1: not told. */
static int32_t tasks_of_node(const char *text, int32_t node) {
    if (!text || node < 0) return -1;
    int64_t first = 0;
    while (*text != '\0') {
        char *end;
        const long long tasks = strtoll(text, &end, 10);
        long long nodes = 1;
        if (end == text || tasks < 1 || tasks > INT32_MAX) return -1;
        if (end[0] == '(' && end[1] == 'x') nodes = strtoll(end + 2, &end, 10);
        if (*end == ')') end++;
        if (nodes < 1 || (*end != ',' && *end != '\0')) return -1;
        if (node < first + nodes) return (int32_t)tasks;
        first += nodes;
        text = *end == ',' ? end + 1 : end;
    }
    return -1;
}

static seo_err read_slurm(slurm_place place, claim *out) {
    *out = (claim){0};
    if (place == SLURM_NONE) return SEO_OK;
    const bool step = place == SLURM_STEP && text_of("SLURM_STEP_NUM_TASKS") != NULL;
    seo_err err = read_claim(step ? &k_slurm_step : &k_slurm, out);
    if (err != SEO_OK) return err;
    if (place == SLURM_STEP) {
        const char *tasks = text_of("SLURM_STEP_TASKS_PER_NODE");
        if (!tasks) tasks = text_of("SLURM_TASKS_PER_NODE");
        out->local_size = tasks_of_node(tasks, number_in(text_of("SLURM_NODEID")));
    }
    /* One task asked for: a run of one, whoever started it. */
    if (place == SLURM_BATCH && out->size == 1) out->found = false;
    return SEO_OK;
}

/* ---- the name of this start ---- */

static void name_slurm(char *out, size_t bytes) {
    const char *job = text_of("SLURM_JOB_ID"), *step = text_of("SLURM_STEP_ID");
    const char *again = text_of("SLURM_RESTART_COUNT");
    if (!job) job = text_of("SLURM_JOBID");
    if (!step) step = text_of("SLURM_STEPID");
    snprintf(out, bytes, "slurm %.40s.%.20s restart %.15s", job ? job : "?", step ? step : "batch",
             again ? again : "0");
}

/* The launcher's own name for the job where it has one: mpirun's namespace, PMI's job. */
static void name_mpi(char *out, size_t bytes) {
    const char *name = text_of("PMIX_NAMESPACE");
    if (!name) name = text_of("OMPI_MCA_ess_base_jobid");
    if (!name) name = text_of("PMI_JOBID");
    out[0] = '\0';
    if (name) snprintf(out, bytes, "mpirun %.80s", name);
}

static void name_torchrun(char *out, size_t bytes) {
    const char *run = text_of("TORCHELASTIC_RUN_ID"), *again;
    again = text_of("TORCHELASTIC_RESTART_COUNT");
    out[0] = '\0';
    if (run) snprintf(out, bytes, "torchrun %.60s restart %.15s", run, again ? again : "0");
}

/* ---- all of it ---- */

/* PMIx names the rank alone: mpirun's beside its own variables, srun's beside the step's. */
static seo_err check_pmix(const claim *ours) {
    if (!ours->found || !text_of("PMIX_RANK")) return SEO_OK;
    int32_t rank;
    seo_err err = read_number("PMIX_RANK", 0, &rank);
    if (err != SEO_OK || rank == ours->rank) return err;
    return contradiction("PMIX_RANK", rank, ours->names->rank, ours->rank);
}

static bool pmix_is_slurm(void) {
    const char *name = text_of("PMIX_NAMESPACE");
    return text_of("PMIX_RANK") && name && strncmp(name, "slurm.pmix", 10) == 0;
}

static void take(seo_launch *out, seo_launcher launcher, const claim *c) {
    out->launcher = launcher;
    out->rank = c->rank;
    out->size = c->size;
    out->local_rank = c->local_rank >= 0 ? c->local_rank : c->rank;
    out->local_size = c->local_size > 0 ? c->local_size : c->size;
    /* A launcher may tell one of the two alone. */
    if (out->local_rank >= out->local_size) out->local_size = out->local_rank + 1;
}

static seo_err read_master(seo_launch *out) {
    const char *address = text_of("MASTER_ADDR");
    if (!address) return SEO_OK;
    if (strlen(address) >= sizeof out->master) {
        return SEO_FAIL(SEO_ERR_USAGE, "the environment variable MASTER_ADDR is longer than %zu",
                        sizeof out->master - 1);
    }
    if (!text_of("MASTER_PORT")) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "MASTER_ADDR=%s is set in the environment and MASTER_PORT "
                        "is not: set both, or neither",
                        address);
    }
    snprintf(out->master, sizeof out->master, "%s", address);
    seo_err err = read_number("MASTER_PORT", 1, &out->master_port);
    if (err != SEO_OK || out->master_port <= UINT16_MAX) return err;
    return SEO_FAIL(SEO_ERR_USAGE, "MASTER_PORT=%d is no port", (int)out->master_port);
}

typedef struct claims {
    claim mpi, pmi, slurm, torchrun;
    slurm_place place;
    bool mpi_is_srun; /* PMI or PMIx variables are srun's own */
} claims;

static seo_err read_claims(claims *c) {
    seo_err err = SEO_OK;
    c->place = find_slurm();
    SEO_TRY(read_claim(&k_open_mpi, &c->mpi));
    SEO_TRY(read_claim(&k_pmi, &c->pmi));
    SEO_TRY(read_slurm(c->place, &c->slurm));
    SEO_TRY(read_claim(&k_torchrun, &c->torchrun));
    /* Hydra, which MPICH's mpiexec puts below srun on other hosts, counts the ranks of a host. */
    const bool pmi = c->pmi.found && !text_of("MPI_LOCALRANKID");
    c->mpi_is_srun = c->place == SLURM_STEP && (pmix_is_slurm() || pmi);
done:
    return err;
}

/* mpirun inside a job and torchrun inside a step start processes of their own: Slurm's variables
 * then are those of the launcher, and may say something else. What two launchers of the same
 * processes say must be the same. */
static seo_err check_claims(const claims *c) {
    seo_err err = SEO_OK;
    const bool nested_torchrun = text_of("TORCHELASTIC_RUN_ID") != NULL;
    const claim *mpi = c->mpi.found ? &c->mpi : &c->pmi;
    SEO_TRY(must_agree(&c->mpi, &c->pmi));
    if (c->mpi_is_srun) SEO_TRY(must_agree(mpi, &c->slurm));
    if (mpi->found || c->mpi_is_srun) SEO_TRY(check_pmix(mpi->found ? mpi : &c->slurm));
    SEO_TRY(must_agree(mpi, &c->torchrun));
    if (c->place == SLURM_STEP && (c->mpi_is_srun || (!mpi->found && !nested_torchrun))) {
        SEO_TRY(must_agree(&c->slurm, &c->torchrun));
    }
done:
    return err;
}

seo_err seo_launch_find(seo_launch *out) {
    claims c = {0};
    seo_err err = SEO_OK;
    *out = (seo_launch){.size = 1, .local_size = 1};
    SEO_TRY(read_claims(&c));
    SEO_TRY(check_claims(&c));
    SEO_TRY(read_master(out));
    const bool nested_torchrun = text_of("TORCHELASTIC_RUN_ID") && c.torchrun.found;
    const bool step = c.slurm.found && c.place == SLURM_STEP;
    if (!c.mpi_is_srun && (c.mpi.found || c.pmi.found)) {
        take(out, SEO_LAUNCH_MPI, c.mpi.found ? &c.mpi : &c.pmi);
        out->mpi = true;
        name_mpi(out->id, sizeof out->id);
    } else if (c.torchrun.found && (nested_torchrun || !step)) {
        take(out, SEO_LAUNCH_TORCHRUN, &c.torchrun);
        name_torchrun(out->id, sizeof out->id);
    } else if (c.slurm.found) {
        take(out, SEO_LAUNCH_SLURM, &c.slurm);
        out->mpi = c.mpi_is_srun;
        name_slurm(out->id, sizeof out->id);
    }
done:
    return err;
}
