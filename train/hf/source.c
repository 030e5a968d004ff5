#include "train/hf/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/hf/model_json.h"
#include "train/models/model.h"

/* ---- names as files have them ---- */

static bool ends_with(const char *name, const char *tail) {
    const size_t length = strlen(name), tail_length = strlen(tail);
    return length >= tail_length && strcmp(name + length - tail_length, tail) == 0;
}

/* The tensor of a name; files of before 2019 call the weight and bias of a norm gamma and beta. */
static const seo_safetensor *find(const seo_hf_source *s, const char *name) {
    const char *root = seo_hf_root(s->config.family);
    const size_t length = strlen(root);
    if (s->bare && strncmp(name, root, length) == 0 && name[length] == '.') name += length + 1;
    const seo_safetensor *t = seo_safetensors_find(s->set, name);
    const bool weight = ends_with(name, "LayerNorm.weight");
    if (t || (!weight && !ends_with(name, "LayerNorm.bias"))) return t;
    char old[SEO_HF_NAME_MAX];
    const int kept = (int)(strlen(name) - strlen(weight ? "weight" : "bias"));
    snprintf(old, sizeof old, "%.*s%s", kept, name, weight ? "gamma" : "beta");
    return seo_safetensors_find(s->set, old);
}

/* ---- the table ---- */

static seo_err find_links(seo_hf_source *s) {
    s->links = calloc((size_t)s->params.count + 1, sizeof *s->links);
    if (!s->links) return SEO_FAIL(SEO_ERR_MEMORY, "a table of names");
    for (int64_t i = 0; i < s->params.count; i++) {
        const seo_err err = seo_hf_link_of(&s->config, &s->params.items[i], &s->links[i]);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* The shape of each of a link's tensors. */
static void shape_of(const seo_param *param, const seo_hf_link *link, int64_t dims[2]) {
    dims[0] = param->dims[0] / link->parts;
    dims[1] = param->rank == 2 ? param->dims[1] : 0;
    if (!link->transposed) return;
    const int64_t out = dims[0];
    dims[0] = dims[1];
    dims[1] = out;
}

static void spell_shape(const int64_t *dims, int32_t rank, char *out, size_t size) {
    size_t used = 0;
    for (int32_t i = 0; i < rank && used < size; i++) {
        used +=
            (size_t)snprintf(out + used, size - used, i > 0 ? ", %" PRId64 : "%" PRId64, dims[i]);
    }
    if (rank == 0) snprintf(out, size, "one value");
}

static seo_err check_tensor(const seo_hf_source *s, const seo_param *param, const seo_hf_link *link,
                            const char *name, const char *architecture) {
    const seo_safetensor *t = find(s, name);
    int64_t dims[2];
    char want[64], got[256];
    if (!t) {
        return SEO_FAIL(
            SEO_ERR_FORMAT,
            "%s has no tensor \"%s\", which a %s has (its config.json calls it %s): the "
            "files are incomplete, or of a class that is not read here",
            s->dir, name, seo_hf_architecture(&s->config),
            architecture[0] ? architecture : "nothing");
    }
    shape_of(param, link, dims);
    if (t->rank == param->rank && t->dims[0] == dims[0] &&
        (t->rank == 1 || t->dims[1] == dims[1])) {
        return SEO_OK;
    }
    spell_shape(dims, param->rank, want, sizeof want);
    spell_shape(t->dims, t->rank, got, sizeof got);
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s: tensor \"%s\" is (%s), by config.json it would be (%s): the files are not "
                    "of one model",
                    seo_safetensors_path(s->set, t), t->name, got, want);
}

static seo_err check_tensors(const seo_hf_source *s, const char *architecture) {
    for (int64_t i = 0; i < s->params.count; i++) {
        const seo_hf_link *link = &s->links[i];
        for (int32_t p = 0; p < link->parts; p++) {
            const seo_err err =
                check_tensor(s, &s->params.items[i], link, link->names[p], architecture);
            if (err != SEO_OK) return err;
        }
    }
    return SEO_OK;
}

/* Which tensors of the set are parameters: used[i]. */
static void mark_used(const seo_hf_source *s, bool *used) {
    const seo_safetensor *first = seo_safetensors_at(s->set, 0);
    for (int64_t i = 0; i < s->params.count; i++) {
        for (int32_t p = 0; p < s->links[i].parts; p++) {
            used[find(s, s->links[i].names[p]) - first] = true;
        }
    }
}

/* The name with its root, as the table has it. */
static const char *whole_name(const seo_hf_source *s, const char *name, char out[SEO_HF_NAME_MAX]) {
    snprintf(out, SEO_HF_NAME_MAX, "%s.%s", seo_hf_root(s->config.family), name);
    return s->bare ? out : name;
}

static seo_hf_extra extra_of(const seo_hf_source *s, const char *name, const char **ours) {
    char whole[SEO_HF_NAME_MAX];
    const seo_hf_extra extra = seo_hf_extra_of(s->config.family, name, ours);
    if (extra != SEO_HF_EXTRA_UNKNOWN) return extra;
    return seo_hf_extra_of(s->config.family, whole_name(s, name, whole), ours);
}

static seo_err check_surplus(const seo_hf_source *s) {
    seo_err err = SEO_OK;
    const int64_t count = seo_safetensors_count(s->set);
    bool *used = calloc((size_t)count + 1, sizeof *used);
    if (!used) return SEO_FAIL(SEO_ERR_MEMORY, "a table of names");
    mark_used(s, used);
    for (int64_t i = 0; i < count && err == SEO_OK; i++) {
        const seo_safetensor *t = seo_safetensors_at(s->set, i);
        const char *ours = NULL;
        if (used[i] || extra_of(s, t->name, &ours) != SEO_HF_EXTRA_UNKNOWN) continue;
        err = SEO_FAIL(SEO_ERR_UNSUPPORTED,
                       "%s: tensor \"%.100s\" belongs to nothing in a %s with %" PRId64
                       " layers: the files are of another class or size than is read here",
                       seo_safetensors_path(s->set, t), t->name, seo_hf_architecture(&s->config),
                       s->config.num_layers);
    }
    free(used);
    return err;
}

seo_err seo_hf_source_open(const char *dir, seo_hf_source *out) {
    seo_err err = SEO_OK;
    seo_hf_model model;
    *out = (seo_hf_source){0};
    snprintf(out->dir, sizeof out->dir, "%s", dir);
    SEO_TRY(seo_hf_model_read(dir, &model));
    out->config = model.config;
    memcpy(out->labels, model.labels, sizeof out->labels);
    SEO_TRY(seo_safetensors_open(dir, &out->set));
    const char *format = seo_safetensors_format(out->set);
    if (format[0] != '\0' && strcmp(format, "pt") != 0) {
        err = SEO_FAIL(SEO_ERR_UNSUPPORTED,
                       "%s: its tensors are laid out for '%s'; save the model from PyTorch", dir,
                       format);
        goto done;
    }
    seo_model_config *c = &out->config;
    c->next_sentence = c->family == SEO_FAMILY_BERT && c->classes == 0 &&
                       seo_safetensors_find(out->set, "cls.seq_relationship.weight");
    c->picks = seo_family_is_encoder(c->family) && c->classes == 0 ? 1 : 0;
    SEO_TRY(seo_model_params(c, &out->params));
    SEO_TRY(find_links(out));
    out->bare = !find(out, out->links[0].names[0]);
    SEO_TRY(check_tensors(out, model.architecture));
    SEO_TRY(check_surplus(out));
done:
    return err;
}

void seo_hf_source_close(seo_hf_source *source) {
    seo_safetensors_close(source->set);
    seo_params_free(&source->params);
    free(source->links);
    source->set = NULL;
    source->links = NULL;
}

/* ---- values ---- */

void seo_hf_transpose(const float *from, int64_t rows, int64_t cols, float *to) {
    enum { TILE = 16 };
    for (int64_t r0 = 0; r0 < rows; r0 += TILE) {
        for (int64_t c = 0; c < cols; c++) {
            const int64_t end = seo_min_i64(r0 + TILE, rows);
            for (int64_t r = r0; r < end; r++) to[c * rows + r] = from[r * cols + c];
        }
    }
}

static seo_err read_transposed(const seo_hf_source *s, const seo_safetensor *t, float *out) {
    float *theirs = malloc((size_t)t->elements * sizeof *theirs);
    if (!theirs) return SEO_FAIL(SEO_ERR_MEMORY, "tensor \"%.100s\"", t->name);
    const seo_err err = seo_safetensors_read(s->set, t, theirs);
    if (err == SEO_OK) seo_hf_transpose(theirs, t->dims[0], t->dims[1], out);
    free(theirs);
    return err;
}

seo_err seo_hf_source_read(const seo_hf_source *source, int64_t row, float *out) {
    const seo_hf_link *link = &source->links[row];
    for (int32_t p = 0; p < link->parts; p++) {
        const seo_safetensor *t = find(source, link->names[p]);
        SEO_ASSERT(t);
        const seo_err err = link->transposed ? read_transposed(source, t, out)
                                             : seo_safetensors_read(source->set, t, out);
        if (err != SEO_OK) return err;
        out += t->elements;
    }
    return SEO_OK;
}

static seo_err check_copy(const seo_hf_source *s, const seo_safetensor *t, const char *ours) {
    seo_err err = SEO_OK;
    const int64_t row = seo_params_find(&s->params, ours);
    SEO_ASSERT(row >= 0);
    const int64_t elements = seo_param_elements(&s->params.items[row]);
    float *copy = malloc((size_t)t->elements * sizeof *copy + 1);
    float *original = malloc((size_t)elements * sizeof *original);
    if (!copy || !original) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "tensor \"%.100s\"", t->name);
        goto done;
    }
    SEO_TRY(seo_safetensors_read(s->set, t, copy));
    SEO_TRY(seo_hf_source_read(s, row, original));
    if (t->elements != elements || memcmp(copy, original, (size_t)elements * sizeof *copy) != 0) {
        err = SEO_FAIL(SEO_ERR_UNSUPPORTED,
                       "%s: tensor \"%s\" is not equal to \"%s\": input and output embedding of "
                       "this model are not tied, which they always are here",
                       seo_safetensors_path(s->set, t), t->name, s->links[row].names[0]);
    }
done:
    free(copy);
    free(original);
    return err;
}

seo_err seo_hf_source_check_copies(const seo_hf_source *source) {
    for (int64_t i = 0; i < seo_safetensors_count(source->set); i++) {
        const seo_safetensor *t = seo_safetensors_at(source->set, i);
        const char *ours = NULL;
        if (extra_of(source, t->name, &ours) != SEO_HF_EXTRA_COPY) continue;
        const seo_err err = check_copy(source, t, ours);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}
