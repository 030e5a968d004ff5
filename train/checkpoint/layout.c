#include "train/checkpoint/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

void seo_ckpt_step_name(char out[SEO_CKPT_STEP_NAME_MAX], int64_t step) {
    snprintf(out, SEO_CKPT_STEP_NAME_MAX, "step-%08lld", (long long)step);
}

bool seo_ckpt_step_parse(const char *name, int64_t *step) {
    char again[SEO_CKPT_STEP_NAME_MAX];
    if (strncmp(name, "step-", 5) != 0) return false;
    *step = strtoll(name + 5, NULL, 10);
    seo_ckpt_step_name(again, *step);
    return *step >= 0 && strcmp(again, name) == 0;
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

seo_err seo_ckpt_list_steps(const char *folder, int64_t **steps, int64_t *count) {
    seo_names names = {0};
    *steps = NULL;
    *count = 0;
    seo_err err = seo_dir_list(folder, &names);
    if (err != SEO_OK) return err;
    int64_t *found = malloc(((size_t)names.count + 1) * sizeof *found);
    if (!found) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to list it", folder);
    } else {
        for (int64_t i = 0; i < names.count; i++) {
            if (seo_ckpt_step_parse(names.items[i], &found[*count])) (*count)++;
        }
        qsort(found, (size_t)*count, sizeof *found, newest_first);
        *steps = found;
    }
    seo_names_free(&names);
    return err;
}

/* "tmp.", digits, ".", digits. */
static bool is_leftover(const char *name) {
    static const char digits[] = "0123456789";
    if (strncmp(name, "tmp.", 4) != 0) return false;
    size_t step = strspn(name + 4, digits);
    const char *dot = name + 4 + step;
    return step > 0 && *dot == '.' && dot[1] != '\0' && dot[1 + strspn(dot + 1, digits)] == '\0';
}

void seo_ckpt_clean_leftovers(const char *folder) {
    seo_names names = {0};
    char path[SEO_PATH_MAX];
    if (seo_dir_list(folder, &names) != SEO_OK) {
        seo_warn("%s", seo_err_detail());
        return;
    }
    for (int64_t i = 0; i < names.count; i++) {
        if (!is_leftover(names.items[i])) continue;
        seo_err err = seo_path_join(path, folder, names.items[i]);
        if (err == SEO_OK) err = seo_dir_remove(path);
        if (err != SEO_OK) seo_warn("an unfinished save stays behind: %s", seo_err_detail());
    }
    seo_names_free(&names);
}

seo_err seo_ckpt_remove(const char *step_folder) {
    char manifest[SEO_PATH_MAX];
    seo_err err = seo_path_join(manifest, step_folder, SEO_CKPT_MANIFEST);
    if (err != SEO_OK) return err;
    if (unlink(manifest) != 0 && errno != ENOENT) {
        return SEO_FAIL(SEO_ERR_IO, "%s: cannot remove: %s", manifest, strerror(errno));
    }
    /* Made durable before the rest goes, or a power cut could bring the manifest back alone. */
    err = seo_dir_sync(step_folder);
    if (err == SEO_OK) err = seo_dir_remove(step_folder);
    return err;
}
