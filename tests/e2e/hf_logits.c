/* The logits of a checkpoint for given ids, for the comparison with transformers:
 *   hf_logits RUN ID... > LOGITS     f32: of each position all ids', then the label's if there is
 * one Where there are token types the second half of the ids is of type 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/checkpoint.h"
#include "train/hf/probe.h"
#include "train/models/model.h"

static seo_err from_checkpoint(void *context, const seo_param *param, int64_t row, float *out) {
    (void)row;
    seo_ckpt_tensor tensor = {.rank = param->rank, .data = out};
    snprintf(tensor.name, sizeof tensor.name, "parameters/%s", param->name);
    for (int32_t d = 0; d < param->rank; d++) tensor.dims[d] = param->dims[d];
    return seo_ckpt_read(context, &tensor, 1);
}

int main(int argc, char **argv) {
    seo_err err = SEO_OK;
    seo_ckpt *ckpt = NULL;
    char path[SEO_PATH_MAX];
    seo_config config;
    seo_hf_logits logits = {0};
    int32_t *ids = calloc((size_t)argc, sizeof *ids);
    if (argc < 3 || !ids) return 2;
    for (int i = 2; i < argc; i++) ids[i - 2] = (int32_t)strtol(argv[i], NULL, 10);
    SEO_TRY(seo_ckpt_open(argv[1], NULL, &ckpt));
    SEO_TRY(seo_path_join(path, seo_ckpt_path(ckpt), "config.yaml"));
    SEO_TRY(seo_config_load_resolved(path, &config));
    const seo_hf_probe_args args = {.config = &config.model,
                                    .ids = ids,
                                    .count = argc - 2,
                                    .values = from_checkpoint,
                                    .context = ckpt};
    SEO_TRY(seo_hf_probe(&args, &logits));
    const size_t count = (size_t)logits.count;
    if (fwrite(logits.items, sizeof *logits.items, count, stdout) != count) err = SEO_ERR_IO;
done:
    if (err != SEO_OK) fprintf(stderr, "hf_logits: %s\n", seo_err_detail());
    seo_hf_logits_free(&logits);
    seo_ckpt_close(ckpt);
    free(ids);
    return err == SEO_OK ? 0 : 1;
}
