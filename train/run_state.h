/* Private to train/run*.c: what a run holds, and its parts: opening, resuming, reporting. */
#pragma once

#include "base/file.h"
#include "base/text.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/distill.h"
#include "train/eval.h"
#include "train/metrics.h"
#include "train/models/model.h"
#include "train/optim.h"
#include "train/parallel.h"
#include "train/restore.h"
#include "train/run.h"
#include "train/run_dir.h"
#include "train/run_world.h"
#include "train/spike.h"
#include "train/step.h"
#include "train/task.h"
#include "train/teacher.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is printed while a run goes on and at its end; never part of its result. */
typedef struct seo_run_clock {
    double start_s;          /* of this attempt's first step */
    double shown_s;          /* when the last plain line was printed */
    double saved_s;          /* when the last checkpoint was asked for */
    double fenced_s;         /* when the folder was last seen to be this attempt's */
    double step_s;           /* running mean of a step's time */
    int64_t step_tokens;     /* of the last step */
    double earlier_train_s;  /* of the attempts before this one */
    double train_s;          /* of this attempt's steps */
    double comm_s, waited_s; /* of these, in collectives, and waited for them */
    int64_t first_step;      /* of this attempt */
    int64_t next_shown;      /* the next step of the logarithmic series */
    double first_loss_mean;  /* after this attempt's first step */
} seo_run_clock;

/* A sequence of a step whose update was left out. */
enum { SEO_RUN_SUSPECTS = 16 };
typedef struct seo_run_suspect {
    int64_t step, sequence;
} seo_run_suspect;

struct seo_run {
    const seo_train_args *args;
    seo_config config;
    seo_buf config_yaml;
    seo_run_dir dir;
    bool dir_open, log_open;
    seo_run_world world;

    seo_dataset *datasets[SEO_CONFIG_MIX_MAX], *held_out[SEO_CONFIG_MIX_MAX];
    double weights[SEO_CONFIG_MIX_MAX];
    int64_t dataset_count, held_out_count;
    char tokenizer_path[SEO_PATH_MAX]; /* "": the dataset has none */
    seo_task *task;                    /* in place of datasets; NULL: pretraining */
    seo_tokenizer *tokenizer;          /* of an encoder; else NULL */

    seo_device *dev;
    seo_dtype storage; /* what passes compute in */
    seo_model *model;
    seo_parallel *parallel;
    seo_optim *optim;
    seo_ramp *ramp; /* how the batch grows, or that it does not */
    seo_loader *loader;
    seo_model *teacher_model; /* NULL, as distill: there is none */
    seo_distill *distill;
    seo_step *step;
    seo_metrics *metrics;
    seo_ckpt_writer *writer;
    seo_restore_list tensors; /* parameters and both moments */

    seo_ckpt *resumed_from; /* open until its tensors are read */
    char resumed_path[SEO_PATH_MAX];
    seo_ckpt *source;               /* checkpoint.init_from, likewise */
    seo_teacher *teacher;           /* distill.teacher, likewise */
    seo_ckpt_state state;           /* after the last whole step */
    int32_t stop_signal, stop_rank; /* who asked the run to stop */
    int64_t saved_step;             /* of the last checkpoint that was asked for; -1: none */
    seo_run_suspect suspects[SEO_RUN_SUSPECTS]; /* the first of those steps */
    int64_t suspect_count;                      /* of them all, also those not kept */
    seo_spike spike;                            /* what the last step's loss was found to be */
    seo_metrics_eval eval;                      /* the last one */
    int64_t eval_step;                          /* its step; 0: none */
    seo_run_clock clock;
};

/* run_open.c: everything up to the first step, in order of cost. *finished: there is nothing left
 * to do, and nothing but the folder was opened. Close also after an error. */
seo_err seo_run_open(seo_run *run, const seo_train_args *args, bool *finished);
void seo_run_close(seo_run *run);

/* run_resume.c: finds the newest checkpoint and compares it with this run's configuration and data
 * (SEO_ERR_USAGE with every difference); reads its tensors once the model is there. */
seo_err seo_run_find_checkpoint(seo_run *run);
seo_err seo_run_check_data(seo_run *run);
seo_err seo_run_load(seo_run *run);
/* Sets what an earlier run left in the folder aside. */
seo_err seo_run_set_aside(const seo_run *run);

/* run_source.c: of a run that begins from another's parameters, or trains adapters of them and
 * needs them at every start. Finds them; compares tokenizer and model with this run's
 * (SEO_ERR_USAGE naming what differs); reads them once the model is there. Each does nothing where
 * there is no such source. */
seo_err seo_run_find_source(seo_run *run);
seo_err seo_run_check_source(seo_run *run);
seo_err seo_run_read_source(seo_run *run);

/* run_teacher.c: of a run that learns from a teacher. Finds it, and sets what of the model follows
 * from it (SEO_ERR_USAGE when it does not fit, or is not the one that the checkpoint learned from);
 * compares its tokenizer with that of the data; takes its memory; reads what the student begins as.
 * Each does nothing where there is no teacher. */
seo_err seo_run_find_teacher(seo_run *run);
seo_err seo_run_check_teacher(const seo_run *run);
seo_err seo_run_open_distill(seo_run *run);
seo_err seo_run_read_teacher(seo_run *run);

/* run_task.c: of a run that learns a task, and nothing else calls these. What opening, comparing
 * with other ranks and with the checkpoint, evaluating and reporting are there. */
seo_err seo_run_open_task(seo_run *run);
seo_err seo_run_same_task(seo_run *run);
seo_err seo_run_check_task(seo_run *run);
seo_err seo_run_evaluate_task(seo_run *run);
void seo_run_task_banner(const seo_run *run);
void seo_run_task_summary(const seo_run *run);

/* run.c: what a step asks, see seo_step_args; the run is the context. */
bool seo_run_veto(void *context, double loss);
bool seo_run_save_due(void *context);

/* Whether this rank speaks for all: what all of them know is told once. */
static inline bool seo_run_speaks(const seo_run *run) {
    return run->world.rank == 0;
}

/* run_report.c */
void seo_run_banner(const seo_run *run);
void seo_run_show_step(seo_run *run, const seo_step_result *result);
void seo_run_show_eval(const seo_run *run, const seo_eval_result *result);
void seo_run_summary(const seo_run *run);
/* Seconds until the last step, at the running mean's pace. */
double seo_run_eta_s(const seo_run *run);
/* The most memory the process had so far; on a GPU what the run has taken there. */
int64_t seo_run_memory_bytes(const seo_run *run);

/* run_documents.c: which documents fed a step. */
void seo_run_show_bad_step(const seo_run *run, const seo_step_result *result);
void seo_run_show_spike(const seo_run *run, const seo_step_result *result);
/* Keeps the sequences of a step that have no finite loss, or else the one with the highest, for the
 * message that ends a run. */
void seo_run_note_suspects(seo_run *run, const seo_step_result *result);
/* Appends a line for each that was kept of the steps in a row up to this one. */
void seo_run_add_suspects(const seo_run *run, seo_buf *out);

#ifdef __cplusplus
}
#endif
