/* Runs one operator case on everything the program has (its targets) and in the case's storage
 * type, and compares: with the expected values, and bit for bit between runs that must agree. Also
 * the check of an explicit gradient against finite differences, both in double.
 *
 * How to add a case, for both storage types:
 *
 *     EACH_STORAGE(s) {                       f32; bf16 as well where a target has it
 *         fill_uniform(inp, n, -1, 1, 11);
 *         to_storage(inp, n, s);              S inputs must be numbers of the storage type
 *         ... want[i] from the formula in double, bound[i] from f32's rounding ...
 *         bound[i] = stored_bound(s, want[i], bound[i]);           out is an S tensor
 *         check_everywhere(&(op_case){"name", run, &args, n, want, bound, .storage = s});
 *     }
 *
 * where `run` puts what it is given on the device and calls the operator:
 *
 *     a.inp = to_device_s(on, a.inp);         an S tensor; to_device for f32 and i32 ones
 *     a.out = poisoned_s(on, a.out);          an output that is overwritten: NaN until then
 *     must(seo_gelu_fwd(on->dev, &a));
 *     to_host(on, &a.out, out);               as f32, whatever it was
 *
 * What an operator adds to (`+=`) goes through to_device, and the operator is called twice. Sizes
 * for which the emulation takes too long are left out by `if (!fits(work)) continue`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/tensor.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One run of a case; what it took on the device is freed behind it. */
enum { OP_RUN_TENSORS_MAX = 64 };
typedef struct op_run {
    seo_device *dev;
    seo_dtype storage; /* of S tensors */
    bool shifted;      /* tensors of f32 and bf16 start one row behind an aligned address */
    char note[96];     /* what else tells this run from others, for messages */
    void *taken[OP_RUN_TENSORS_MAX];
    int taken_count;
} op_run;

typedef struct op_case {
    const char *what; /* printed when it fails */
    /* Copies the inputs to the device, runs the operator, and copies all outputs into out, one
     * after the other. */
    void (*run)(op_run *on, const void *input, float *out);
    const void *input;
    int64_t count;              /* floats of out */
    const double *want, *bound; /* count each: |out - want| <= bound */
    seo_dtype storage;
    double work;        /* as of fits; 0: little */
    bool by_capability; /* there are kernels for some GPUs alone */
    /* Opt: sets expected values that depend on others as they were stored: it sees the outputs of
     * the first run on a kind of target, and copies of want and bound. */
    void (*settle)(const void *input, const float *got, double *want, double *bound);
} op_case;
void check_everywhere(const op_case *c);

/* What the cases of a program run on. A group is a kind of target; its runs must give the same bits
 * (another number of threads or multiprocessors, another schedule, once more). The CPU's list,
 * targets_cpu.c, is the default; a program linked with targets_simt.c or targets_cuda.c has that
 * one instead. */
typedef struct target_list {
    bool is_cpu;
    seo_dtype last_storage; /* BF16 where there is bf16 as well as f32 */
    int groups;
    seo_err (*present)(void); /* NULL: always; SEO_ERR_UNSUPPORTED where there is nothing to test */
    int (*runs)(int group, const op_case *c); /* 0: not for this case */
    /* Fills dev, shifted and note; false when this machine has not got the group. */
    bool (*open)(int group, int run, op_run *on);
    void (*close)(op_run *on);
    double (*work_max)(void);  /* NULL: there is no limit */
    bool (*fresh_seeds)(void); /* whether a second round with fresh inputs is worth its time */
} target_list;
extern const target_list g_targets;

#define EACH_STORAGE(s)                                                                            \
    for (seo_dtype s = SEO_DTYPE_F32; s <= g_targets.last_storage; s = (seo_dtype)(s + 1))

/* False when the targets would take too long. work: multiplications of matrix products; a CUDA
 * thread that does little counts as SEO_WORK_THREAD. */
enum { SEO_WORK_THREAD = 650 };
bool fits(double work);

/* Opens level and threads; NULL when this machine has not got the level. */
seo_device *open_device(seo_cpu_level level, int32_t threads);

/* A copy of `host` on the device; a tensor that is not given stays so. _s: an S tensor, of f32 on
 * the host, all of it numbers of the storage type. */
seo_tensor to_device(op_run *on, seo_tensor host);
seo_tensor to_device_s(op_run *on, seo_tensor host);
/* One of its shape filled with NaN; host.data is not looked at. */
seo_tensor poisoned(op_run *on, seo_tensor host);
seo_tensor poisoned_s(op_run *on, seo_tensor host);
/* Copies the tensor out, bf16 as f32; returns the place after it. */
float *to_host(op_run *on, const seo_tensor *t, float *out);

/* Prints the error record and fails the test when err is not SEO_OK. */
void must(seo_err err);
/* Fails the test unless err is `code` and the message contains `text`. */
void must_fail(seo_err err, seo_err code, const char *text);

/* Runs a program's tests, with the inputs of a fixed seed and then with those of a fresh one from
 * the clock; only once, with that of SEODANG_TEST_SEED, where it is set. A failure says which seed
 * it was. Returns what main returns: 77, after a line that says why, where there is no target. */
struct CMUnitTest;
int run_everywhere(const struct CMUnitTest *tests, int64_t count);
bool seed_is_fresh(void); /* true in the second of these rounds */

/* gradient[i] must be df/dx[i]: compared with (f(x + h) - f(x - h)) / 2h at a few dozen places. x
 * is changed and put back. */
void check_gradient(const char *what, double (*f)(const double *x, const void *context),
                    const void *context, double *x, const double *gradient, int64_t count);

#ifdef __cplusplus
}
#endif
