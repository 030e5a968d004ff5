/* safetensors: tensors by name in one file, or in several with an index, as Hugging Face keeps
 * them.
 *
 *   model.safetensors     u64 little-endian header length (at most 100,000,000); the header, a JSON
 *                         object padded with spaces: {"__metadata__": {text: text, ...}, NAME:
 *                         {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...};
 *                         then the data, little-endian and row-major, without holes
 *   model-00001-of-00003.safetensors ... with model.safetensors.index.json:
 *                         {"metadata": {"total_size": N}, "weight_map": {NAME: FILE, ...}}
 *
 * A reader trusts nothing: lengths, names, shapes and offsets are checked against each other and
 * against the file before a value is looked at, and files that an index names lie beside it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_SAFETENSORS_HEADER_MAX = 100000000, SEO_SAFETENSORS_RANK_MAX = 8 };

/* A tensor of an opened set. */
typedef struct seo_safetensor {
    char *name;
    const char *dtype; /* "F32", "BF16", "I64" ...: as the header has it */
    int32_t rank;      /* 0: one value */
    int64_t dims[SEO_SAFETENSORS_RANK_MAX];
    int64_t elements;
    const unsigned char *data; /* elements of the dtype, in the mapped file */
    int64_t begin, bytes;      /* where in the file's data */
    int64_t file;              /* which of the set's files */
} seo_safetensor;

typedef struct seo_safetensors seo_safetensors;

/* DIR/model.safetensors, or the files that DIR/model.safetensors.index.json names. SEO_ERR_MISSING:
 * neither is there. SEO_ERR_FORMAT: a damaged, cut or contradictory file, a shard that is missing
 * or has other tensors than the index says; SEO_ERR_UNSUPPORTED: a dtype that this reader does not
 * know. Everything is mapped, not read. */
seo_err seo_safetensors_open(const char *dir, seo_safetensors **out);
/* One file's bytes, which are borrowed; `name` stands in messages for the path. */
seo_err seo_safetensors_parse(const char *name, const void *data, int64_t bytes,
                              seo_safetensors **out);
void seo_safetensors_close(seo_safetensors *set); /* NULL is fine */

/* "pt", "tf", "flax": what the files' metadata say wrote them; "" when they say nothing. */
const char *seo_safetensors_format(const seo_safetensors *set);
/* The tensors, sorted by name. */
int64_t seo_safetensors_count(const seo_safetensors *set);
const seo_safetensor *seo_safetensors_at(const seo_safetensors *set, int64_t index);
const seo_safetensor *seo_safetensors_find(const seo_safetensors *set, const char *name);
/* The file that the tensor lies in. */
const char *seo_safetensors_path(const seo_safetensors *set, const seo_safetensor *tensor);
/* The values as f32, `tensor->elements` of them. F32, BF16 and F16 are exact in f32 and are read;
 * any other dtype is SEO_ERR_UNSUPPORTED: rounding is for whoever made the file to do. */
seo_err seo_safetensors_read(const seo_safetensors *set, const seo_safetensor *tensor, float *out);

/* ---- writing ---- */

typedef struct seo_safetensors_row {
    const char *name;
    int32_t rank; /* 1 or 2 */
    int64_t dims[2];
} seo_safetensors_row;

/* Puts the values of row `index` into out. */
typedef seo_err seo_safetensors_fetch(void *context, int64_t index, float *out);

typedef struct seo_safetensors_out {
    const char *dir; /* exists, and has no such files yet */
    const seo_safetensors_row *rows;
    int64_t count;
    seo_dtype dtype;     /* f32, or bf16: rounded to nearest, ties to even */
    int64_t shard_bytes; /* most data in one file; a larger tensor has a file to itself */
    seo_safetensors_fetch *fetch;
    void *context;
} seo_safetensors_out;

/* Writes and syncs the files, in the rows' order, one tensor in memory at a time; with
 * "__metadata__": {"format": "pt"}, which readers ask for. *files: how many hold data. A failure
 * leaves what was written so far. */
seo_err seo_safetensors_write(const seo_safetensors_out *out, int64_t *files);

#ifdef __cplusplus
}
#endif
