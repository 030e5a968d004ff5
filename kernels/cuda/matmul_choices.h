/* Private to kernels/cuda: whose matrix product was chosen for each kind of product, kept in a text
 * file. Times differ from run to run, and with them a choice by time; the two ways differ in the
 * last bits. A run that goes on another day reads what it chose at first, and stays the same run.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_matmul_choices seo_matmul_choices;

/* Reads the file; one that is not there yet is empty. A line that is none of ours is
 * SEO_ERR_FORMAT. */
seo_err seo_matmul_choices_open(const char *path, seo_matmul_choices **out);
void seo_matmul_choices_close(seo_matmul_choices *choices); /* NULL is fine */

/* `kind` is one line of text without tabs that names the device and the product. False when nothing
 * was chosen for it; choices NULL: nothing ever was. */
bool seo_matmul_choices_find(const seo_matmul_choices *choices, const char *kind, bool *by_library);

/* Remembers a choice, in memory and in the file. */
seo_err seo_matmul_choices_add(seo_matmul_choices *choices, const char *kind, bool by_library);

#ifdef __cplusplus
}
#endif
