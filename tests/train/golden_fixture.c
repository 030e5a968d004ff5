#include "golden_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double golden_bound(double terms) {
    return 8.0 * FLT_EPSILON * sqrt(terms) * 4.0;
}

hid_t golden_file(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", SEO_SOURCE_DIR, name);
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

int golden_is(hid_t file, const char *name, const char *text) {
    char *value = NULL;
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT), type = H5Aget_type(attribute);
    assert_true(attribute >= 0 && H5Tis_variable_str(type) > 0);
    assert_true(H5Aread(attribute, type, (void *)&value) >= 0);
    const int same = strcmp(value, text) == 0;
    H5free_memory(value);
    H5Tclose(type);
    H5Aclose(attribute);
    return same;
}

int64_t golden_int(hid_t file, const char *name) {
    int64_t value = 0;
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    assert_true(attribute >= 0);
    assert_true(H5Aread(attribute, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(attribute);
    return value;
}

double golden_float(hid_t file, const char *name) {
    double value = 0;
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    assert_true(attribute >= 0);
    assert_true(H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) >= 0);
    H5Aclose(attribute);
    return value;
}

void *golden_set(hid_t file, const char *name, hid_t type, int64_t count) {
    const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    assert_true(set >= 0);
    const hid_t space = H5Dget_space(set);
    assert_int_equal(H5Sget_simple_extent_npoints(space), count);
    void *data = malloc((size_t)count * H5Tget_size(type));
    assert_non_null(data);
    assert_true(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Sclose(space);
    H5Dclose(set);
    return data;
}

void golden_load(hid_t file, seo_model *model) {
    const seo_params *table = seo_model_table(model);
    for (int64_t i = 0; i < table->count; i++) {
        char name[128];
        snprintf(name, sizeof name, "initial/%s", table->items[i].name);
        const int64_t count = seo_param_elements(&table->items[i]);
        float *values = golden_set(file, name, H5T_NATIVE_FLOAT, count);
        assert_int_equal(seo_model_set_param(model, table->items[i].name, values, count), SEO_OK);
        free(values);
    }
}

void golden_gradients(hid_t file, seo_model *model, double tolerance) {
    const seo_params *table = seo_model_table(model);
    for (int64_t i = 0; i < table->count; i++) {
        char name[128];
        snprintf(name, sizeof name, "gradient/%s", table->items[i].name);
        const int64_t count = seo_param_elements(&table->items[i]);
        float *wanted = golden_set(file, name, H5T_NATIVE_FLOAT, count);
        float *got = malloc((size_t)count * sizeof *got);
        assert_int_equal(seo_model_get_grad(model, table->items[i].name, got, count), SEO_OK);
        golden_assert_close(name, got, wanted, count, tolerance);
        free(got);
        free(wanted);
    }
}

void golden_assert_close(const char *name, const float *got, const float *wanted, int64_t count,
                         double tolerance) {
    double scale = 0, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const double off = fabs((double)got[i] - wanted[i]);
        scale = fmax(scale, fabs((double)wanted[i]));
        if (!(off <= worst)) at = i;
        worst = off > worst || isnan(off) ? off : worst;
    }
    if (worst <= tolerance * scale) return;
    fail_msg("%s[%lld]: %.9g, golden %.9g, off by %.3g of %.3g, allowed %.3g", name, (long long)at,
             (double)got[at], (double)wanted[at], worst, scale, tolerance * scale);
}
