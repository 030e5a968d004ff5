#include "train/device.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"

enum { MESSAGE_BYTES = 2048 };

/* The same message under another code. */
static seo_err told_as(seo_err code) {
    char message[MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", seo_err_detail());
    return SEO_FAIL(code, "%s", message);
}

seo_err seo_device_too_small(seo_err err) {
    return err == SEO_ERR_MEMORY ? told_as(SEO_ERR_USAGE) : err;
}

static seo_err open_gpu(const seo_device_wish *wish, seo_device **out) {
    const seo_cuda_options options = {.ordinal = wish->local_rank,
                                      .around = true,
                                      .matmul = wish->matmul,
                                      .choices = wish->matmul_choices};
    return (wish->open_cuda ? wish->open_cuda : seo_device_open_cuda)(&options, out);
}

/* What the CPU cannot do is refused where the GPU was only hoped for; with device: cpu the
 * configuration's rules have said it already. */
static seo_err open_cpu(const seo_device_wish *wish, seo_device **out) {
    if (wish->precision == SEO_PRECISION_BF16) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "precision: bf16 needs a GPU, and there is none here: the CPU computes in "
                        "f32; use f32 or auto (device: cuda says what is missing)");
    }
    if (wish->matmul == SEO_MATMUL_CUBLASLT) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "kernels.matmul: cublaslt needs a GPU, and there is none here; use auto or "
                        "own (device: cuda says what is missing)");
    }
    return seo_device_open_cpu(
        &(seo_cpu_options){.threads = wish->threads, .sharers = wish->sharers}, out);
}

static seo_dtype storage_of(const seo_device_wish *wish, const seo_device *dev) {
    if (wish->precision == SEO_PRECISION_F32 || !seo_device_has_bf16(dev)) return SEO_DTYPE_F32;
    return SEO_DTYPE_BF16;
}

seo_err seo_device_open_wish(const seo_device_wish *wish, seo_device **out, seo_dtype *storage) {
    seo_err err = SEO_OK;
    *out = NULL;
    if (wish->device != SEO_DEVICE_CPU) {
        err = open_gpu(wish, out);
        const bool absent = err == SEO_ERR_UNSUPPORTED || err == SEO_ERR_MISSING;
        if (absent && wish->device == SEO_DEVICE_CUDA) return told_as(SEO_ERR_USAGE);
        if (err != SEO_OK && !absent) return err;
        if (err == SEO_ERR_UNSUPPORTED) seo_info("no GPU is used: %s", seo_err_detail());
    }
    if (!*out) SEO_TRY(open_cpu(wish, out));
    err = SEO_OK;
    *storage = storage_of(wish, *out);
done:
    return err;
}

seo_err seo_device_choice_parse(const char *word, seo_device_choice *out) {
    static const struct {
        const char *word;
        seo_device_choice choice;
    } words[] = {{"auto", SEO_DEVICE_AUTO}, {"cpu", SEO_DEVICE_CPU}, {"cuda", SEO_DEVICE_CUDA}};
    for (int64_t i = 0; i < SEO_COUNT_OF(words); i++) {
        if (strcmp(word, words[i].word) != 0) continue;
        *out = words[i].choice;
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_USAGE, "--device is auto, cpu or cuda, not '%s'", word);
}
