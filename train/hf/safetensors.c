/* The reader of safetensors: headers into a checked table of tensors. */
#include "train/hf/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/check.h"
#include "base/json.h"

enum { INDEX_BYTES_MAX = 64 << 20, FORMAT_MAX = 16, LENGTH_BYTES = 8 };

typedef struct file {
    char *path; /* as messages name it */
    seo_map map;
    bool mapped; /* else the map is borrowed memory */
} file;

struct seo_safetensors {
    file *files;
    int64_t file_count;
    seo_safetensor *tensors;
    int64_t count, capacity;
    char format[FORMAT_MAX];
};

static const struct {
    const char *name;
    int64_t bytes;
} k_dtypes[] = {{"F32", 4}, {"BF16", 2}, {"F16", 2},  {"F64", 8},     {"I64", 8},
                {"I32", 4}, {"I16", 2},  {"I8", 1},   {"U64", 8},     {"U32", 4},
                {"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

/* ---- one tensor of a header ---- */

static seo_err read_dtype(const json_t *entry, seo_safetensor *t, int64_t *bytes) {
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name) return SEO_FAIL(SEO_ERR_FORMAT, "no text \"dtype\"");
    for (int64_t i = 0; i < SEO_COUNT_OF(k_dtypes); i++) {
        if (strcmp(k_dtypes[i].name, name) != 0) continue;
        t->dtype = k_dtypes[i].name;
        *bytes = k_dtypes[i].bytes;
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "dtype '%.20s' is not known here: save the model as float32 or bfloat16", name);
}

static seo_err read_shape(const json_t *entry, seo_safetensor *t) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return SEO_FAIL(SEO_ERR_FORMAT, "no list \"shape\"");
    if (json_array_size(shape) > SEO_SAFETENSORS_RANK_MAX) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%zu dimensions, at most %d are read",
                        json_array_size(shape), (int)SEO_SAFETENSORS_RANK_MAX);
    }
    t->rank = (int32_t)json_array_size(shape);
    t->elements = 1;
    for (int32_t i = 0; i < t->rank; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        t->dims[i] = json_is_integer(size) ? (int64_t)json_integer_value(size) : -1;
        if (t->dims[i] < 0) return SEO_FAIL(SEO_ERR_FORMAT, "shape[%d] is no size", (int)i);
        if (!seo_mul_ok(t->elements, t->dims[i], &t->elements)) {
            return SEO_FAIL(SEO_ERR_FORMAT, "the shape has more elements than any file can hold");
        }
    }
    return SEO_OK;
}

static seo_err read_offsets(const json_t *entry, int64_t data_bytes, int64_t dtype_bytes,
                            seo_safetensor *t) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "\"data_offsets\" is not [begin, end]");
    }
    const int64_t begin = (int64_t)json_integer_value(first),
                  end = (int64_t)json_integer_value(last);
    if (begin < 0 || end < begin || end > data_bytes) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "data_offsets [%" PRId64 ", %" PRId64 "] do not lie in the %" PRId64
                        " bytes of data: the file is damaged, or was not copied whole",
                        begin, end, data_bytes);
    }
    int64_t bytes = 0;
    if (!seo_mul_ok(t->elements, dtype_bytes, &bytes) || bytes != end - begin) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%" PRId64 " elements of %s do not fill data_offsets [%" PRId64 ", %" PRId64
                        "]",
                        t->elements, t->dtype, begin, end);
    }
    t->begin = begin;
    t->bytes = bytes;
    return SEO_OK;
}

/* The room for one more tensor. */
static seo_err grow(seo_safetensors *set) {
    if (set->count < set->capacity) return SEO_OK;
    const int64_t capacity = set->capacity ? set->capacity * 2 : 256;
    seo_safetensor *tensors = realloc(set->tensors, (size_t)capacity * sizeof *tensors);
    if (!tensors) return SEO_FAIL(SEO_ERR_MEMORY, "a table of %" PRId64 " tensors", capacity);
    set->tensors = tensors;
    set->capacity = capacity;
    return SEO_OK;
}

static seo_err read_entry(seo_safetensors *set, const char *name, const json_t *entry,
                          int64_t data_bytes) {
    seo_err err = SEO_OK;
    seo_safetensor t = {.file = set->file_count - 1};
    int64_t dtype_bytes = 0;
    if (!json_is_object(entry) || json_object_size(entry) != 3) {
        return SEO_FAIL(SEO_ERR_FORMAT, "not {\"dtype\", \"shape\", \"data_offsets\"}");
    }
    SEO_TRY(read_dtype(entry, &t, &dtype_bytes));
    SEO_TRY(read_shape(entry, &t));
    SEO_TRY(read_offsets(entry, data_bytes, dtype_bytes, &t));
    SEO_TRY(grow(set));
    t.name = strdup(name);
    if (!t.name) return SEO_FAIL(SEO_ERR_MEMORY, "the name of a tensor");
    set->tensors[set->count++] = t;
done:
    return err;
}

/* ---- one file ---- */

static int by_place(const void *a, const void *b) {
    const seo_safetensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const seo_safetensor *)a)->name, ((const seo_safetensor *)b)->name);
}

/* The tensors from `first` on follow each other from the first byte of the data to the last. */
static seo_err check_places(seo_safetensors *set, int64_t first, int64_t data_bytes) {
    seo_safetensor *t = set->tensors + first;
    const int64_t count = set->count - first;
    int64_t at = 0;
    if (count > 0) qsort(t, (size_t)count, sizeof *t, by_place);
    for (int64_t i = 0; i < count; i++) {
        if (t[i].begin != at) {
            return SEO_FAIL(SEO_ERR_FORMAT, "\"%.100s\": its data begin at %" PRId64 ", %s",
                            t[i].name, t[i].begin,
                            t[i].begin < at ? "inside another tensor's" : "after a hole");
        }
        at += t[i].bytes;
    }
    if (at == data_bytes) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "the tensors take %" PRId64 " bytes and the file has %" PRId64
                    " of data: it is damaged, or something was put behind it",
                    at, data_bytes);
}

static seo_err read_metadata(seo_safetensors *set, const json_t *metadata) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "\"__metadata__\" is not an object");
    }
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
        const char *text = json_string_value(value);
        if (!text) {
            return SEO_FAIL(SEO_ERR_FORMAT, "\"__metadata__\": \"%.60s\" is no text", key);
        }
        if (strcmp(key, "format") == 0) snprintf(set->format, sizeof set->format, "%s", text);
    }
    return SEO_OK;
}

static seo_err read_header(seo_safetensors *set, const json_t *header, int64_t data_bytes) {
    const char *name;
    json_t *entry;
    if (!json_is_object(header)) return SEO_FAIL(SEO_ERR_FORMAT, "the header is no JSON object");
    json_object_foreach((json_t *)(uintptr_t)header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            const seo_err err = read_metadata(set, entry);
            if (err != SEO_OK) return err;
            continue;
        }
        const seo_err err = read_entry(set, name, entry, data_bytes);
        if (err != SEO_OK) return seo_err_context(err, "tensor \"%.100s\"", name);
    }
    return SEO_OK;
}

/* The header's length, checked against the file's. */
static seo_err read_length(const seo_map *map, int64_t *length) {
    uint64_t value = 0;
    if (map->bytes < LENGTH_BYTES) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%" PRId64 " bytes are no safetensors file: get it again",
                        map->bytes);
    }
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) value = value << 8 | map->data[i];
    if (value > SEO_SAFETENSORS_HEADER_MAX) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "the header says it has %" PRIu64
                        " bytes, at most %d are allowed: not a safetensors file, or damaged",
                        value, (int)SEO_SAFETENSORS_HEADER_MAX);
    }
    if ((int64_t)value > map->bytes - LENGTH_BYTES) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "the header says it has %" PRIu64 " bytes and the file has %" PRId64
                        ": it was cut, get it again",
                        value, map->bytes);
    }
    if (value == 0 || map->data[LENGTH_BYTES] != '{') {
        return SEO_FAIL(SEO_ERR_FORMAT, "no JSON object stands at byte 8: not a safetensors file");
    }
    *length = (int64_t)value;
    return SEO_OK;
}

/* Reads the header of the last of the set's files. */
static seo_err read_file(seo_safetensors *set) {
    seo_err err = SEO_OK;
    const file *f = &set->files[set->file_count - 1];
    const int64_t first = set->count;
    json_t *header = NULL;
    int64_t length = 0;
    SEO_TRY(read_length(&f->map, &length));
    const unsigned char *data = f->map.data + LENGTH_BYTES + length;
    const int64_t data_bytes = f->map.bytes - LENGTH_BYTES - length;
    SEO_TRY(seo_json_parse("header", (const char *)f->map.data + LENGTH_BYTES, (size_t)length,
                           &header));
    SEO_TRY(read_header(set, header, data_bytes));
    SEO_TRY(check_places(set, first, data_bytes));
    for (int64_t i = first; i < set->count; i++) {
        set->tensors[i].data = data + set->tensors[i].begin;
    }
done:
    json_decref(header);
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "%s", f->path);
}

/* Takes the path of one more file. */
static seo_err add_file(seo_safetensors *set, const char *path) {
    file *files = realloc(set->files, (size_t)(set->file_count + 1) * sizeof *files);
    if (files) set->files = files;
    char *copy = files ? strdup(path) : NULL;
    if (!copy) return SEO_FAIL(SEO_ERR_MEMORY, "a list of files");
    set->files[set->file_count++] = (file){.path = copy};
    return SEO_OK;
}

static seo_err map_file(seo_safetensors *set, const char *path) {
    seo_err err = SEO_OK;
    SEO_TRY(add_file(set, path));
    file *f = &set->files[set->file_count - 1];
    SEO_TRY(seo_map_open(path, &f->map));
    f->mapped = true;
    SEO_TRY(read_file(set));
done:
    return err;
}

/* ---- several files ---- */

static int64_t find_file(const seo_safetensors *set, const char *path) {
    for (int64_t i = 0; i < set->file_count; i++) {
        if (strcmp(set->files[i].path, path) == 0) return i;
    }
    return -1;
}

/* A name that an index gives must be a file beside it: an index may come from anywhere. */
static seo_err check_shard_name(const char *tensor, const json_t *value) {
    static const char suffix[] = ".safetensors";
    const char *name = json_string_value(value);
    const size_t length = name ? strlen(name) : 0, tail = sizeof suffix - 1;
    if (length > tail && length < 256 && !strchr(name, '/') &&
        strcmp(name + length - tail, suffix) == 0) {
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "weight_map[\"%.100s\"] is not the name of a .safetensors file beside it",
                    tensor);
}

static seo_err open_shards(seo_safetensors *set, const char *dir, const json_t *map) {
    seo_err err = SEO_OK;
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        char path[SEO_PATH_MAX];
        SEO_TRY(check_shard_name(tensor, value));
        SEO_TRY(seo_path_join(path, dir, json_string_value(value)));
        if (find_file(set, path) >= 0) continue;
        err = map_file(set, path);
        if (err == SEO_ERR_MISSING) {
            err = SEO_FAIL(SEO_ERR_FORMAT,
                           "it names %s, which is not there: the model is incomplete, get that "
                           "file as well",
                           json_string_value(value));
        }
        if (err != SEO_OK) goto done;
    }
done:
    return err;
}

/* What the index says and what the files hold is the same. */
static seo_err compare_index(const seo_safetensors *set, const char *dir, const json_t *map) {
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        char path[SEO_PATH_MAX];
        const seo_err err = seo_path_join(path, dir, json_string_value(value));
        if (err != SEO_OK) return err;
        const seo_safetensor *t = seo_safetensors_find(set, tensor);
        if (t && strcmp(seo_safetensors_path(set, t), path) == 0) continue;
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "it says \"%.100s\" lies in %s, which has no such tensor: index and files "
                        "are not of one model",
                        tensor, json_string_value(value));
    }
    for (int64_t i = 0; i < set->count; i++) {
        if (json_object_get(map, set->tensors[i].name)) continue;
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s has a tensor \"%.100s\" that it does not name: index and files are not "
                        "of one model",
                        seo_safetensors_path(set, &set->tensors[i]), set->tensors[i].name);
    }
    return SEO_OK;
}

static seo_err check_names(const seo_safetensors *set) {
    for (int64_t i = 1; i < set->count; i++) {
        const seo_safetensor *a = &set->tensors[i - 1], *b = &set->tensors[i];
        if (strcmp(a->name, b->name) != 0) continue;
        return SEO_FAIL(SEO_ERR_FORMAT, "tensor \"%.100s\" is in %s and in %s", a->name,
                        seo_safetensors_path(set, a), seo_safetensors_path(set, b));
    }
    return SEO_OK;
}

static void sort_names(seo_safetensors *set) {
    if (set->count > 0) qsort(set->tensors, (size_t)set->count, sizeof *set->tensors, by_name);
}

static seo_err open_index(seo_safetensors *set, const char *dir, const char *path) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    const json_t *map = NULL;
    SEO_TRY(seo_json_load(path, INDEX_BYTES_MAX, &root));
    SEO_TRY(seo_json_object(root, path, "weight_map", &map));
    err = open_shards(set, dir, map);
    sort_names(set);
    if (err == SEO_OK) err = check_names(set);
    if (err == SEO_OK) err = compare_index(set, dir, map);
    if (err != SEO_OK) seo_err_context(err, "%s", path);
done:
    json_decref(root);
    return err;
}

/* ---- the set ---- */

static seo_err make(seo_safetensors **out) {
    *out = calloc(1, sizeof **out);
    return *out ? SEO_OK : SEO_FAIL(SEO_ERR_MEMORY, "no memory for a list of tensors");
}

static seo_err open_any(seo_safetensors *set, const char *dir) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX], index[SEO_PATH_MAX];
    seo_path_kind kind, index_kind;
    SEO_TRY(seo_path_join(path, dir, "model.safetensors"));
    SEO_TRY(seo_path_join(index, dir, "model.safetensors.index.json"));
    SEO_TRY(seo_path_look(path, &kind));
    SEO_TRY(seo_path_look(index, &index_kind));
    if (kind != SEO_PATH_NONE && index_kind != SEO_PATH_NONE) {
        err = SEO_FAIL(SEO_ERR_FORMAT,
                       "%s has both model.safetensors and model.safetensors.index.json: remove the "
                       "one that is not the model",
                       dir);
    } else if (kind != SEO_PATH_NONE) {
        err = map_file(set, path);
        sort_names(set);
    } else if (index_kind != SEO_PATH_NONE) {
        err = open_index(set, dir, index);
    } else {
        err = SEO_FAIL(SEO_ERR_MISSING,
                       "%s has neither model.safetensors nor model.safetensors.index.json (files "
                       "like pytorch_model.bin are not read: load the model with transformers and "
                       "save_pretrained it)",
                       dir);
    }
done:
    return err;
}

seo_err seo_safetensors_open(const char *dir, seo_safetensors **out) {
    seo_safetensors *set = NULL;
    seo_err err = make(&set);
    if (err == SEO_OK) err = open_any(set, dir);
    if (err != SEO_OK) {
        seo_safetensors_close(set);
        set = NULL;
    }
    *out = set;
    return err;
}

seo_err seo_safetensors_parse(const char *name, const void *data, int64_t bytes,
                              seo_safetensors **out) {
    seo_safetensors *set = NULL;
    seo_err err = make(&set);
    if (err == SEO_OK) err = add_file(set, name);
    if (err == SEO_OK) {
        set->files[0].map = (seo_map){.data = data, .bytes = bytes};
        err = read_file(set);
    }
    if (err != SEO_OK) {
        seo_safetensors_close(set);
        set = NULL;
    } else {
        sort_names(set);
    }
    *out = set;
    return err;
}

void seo_safetensors_close(seo_safetensors *set) {
    if (!set) return;
    for (int64_t i = 0; i < set->file_count; i++) {
        if (set->files[i].mapped) seo_map_close(&set->files[i].map);
        free(set->files[i].path);
    }
    for (int64_t i = 0; i < set->count; i++) free(set->tensors[i].name);
    free(set->files);
    free(set->tensors);
    free(set);
}

const char *seo_safetensors_format(const seo_safetensors *set) {
    return set->format;
}

int64_t seo_safetensors_count(const seo_safetensors *set) {
    return set->count;
}

const seo_safetensor *seo_safetensors_at(const seo_safetensors *set, int64_t index) {
    SEO_ASSERT(index >= 0 && index < set->count);
    return &set->tensors[index];
}

const seo_safetensor *seo_safetensors_find(const seo_safetensors *set, const char *name) {
    int64_t low = 0, high = set->count;
    while (low < high) {
        const int64_t mid = low + (high - low) / 2;
        const int order = strcmp(set->tensors[mid].name, name);
        if (order == 0) return &set->tensors[mid];
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

const char *seo_safetensors_path(const seo_safetensors *set, const seo_safetensor *tensor) {
    return set->files[tensor->file].path;
}

/* ---- values ---- */

/* IEEE 754 binary16: exact in f32. */
static float f32_from_f16(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000u | fraction << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else if (fraction == 0) {
        bits = sign;
    } else {
        exponent = 113;
        for (; !(fraction & 0x400u); fraction <<= 1) exponent--;
        bits = sign | exponent << 23 | (fraction & 0x3ffu) << 13;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The data begin where the header ends, which need not be aligned. */
static uint16_t load16(const unsigned char *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

seo_err seo_safetensors_read(const seo_safetensors *set, const seo_safetensor *tensor, float *out) {
    if (strcmp(tensor->dtype, "F32") == 0) {
        if (tensor->bytes > 0) memcpy(out, tensor->data, (size_t)tensor->bytes);
    } else if (strcmp(tensor->dtype, "BF16") == 0) {
        for (int64_t i = 0; i < tensor->elements; i++) {
            out[i] = seo_f32_from_bf16(load16(tensor->data + 2 * i));
        }
    } else if (strcmp(tensor->dtype, "F16") == 0) {
        for (int64_t i = 0; i < tensor->elements; i++) {
            out[i] = f32_from_f16(load16(tensor->data + 2 * i));
        }
    } else {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "%s: tensor \"%.100s\" is of dtype %s: F32, BF16 and F16 are read; save "
                        "the model as float32",
                        seo_safetensors_path(set, tensor), tensor->name, tensor->dtype);
    }
    return SEO_OK;
}
