/* Golden files (scripts/make_golden.py): reading them, and comparing with them. */
#pragma once

#include <hdf5.h>
#include <stdint.h>

#include "train/models/model.h"

/* How far a number may be off, relative to the largest of its kind: it is a sum of about `terms`
 * products of order one, each rounded to f32. The factor 8 covers the depth: two or three blocks of
 * four matrix products, every one of which hands its error on. */
double golden_bound(double terms);

hid_t golden_file(const char *name); /* of tests/golden; H5Fclose */
int64_t golden_int(hid_t file, const char *name);
double golden_float(hid_t file, const char *name);
/* Whether the attribute is this text. */
int golden_is(hid_t file, const char *name, const char *text);
/* A dataset of `count` elements, malloc'ed. */
void *golden_set(hid_t file, const char *name, hid_t type, int64_t count);

/* Every parameter from /initial. */
void golden_load(hid_t file, seo_model *model);
/* Every gradient against /gradient. */
void golden_gradients(hid_t file, seo_model *model, double tolerance);
/* The largest |got - wanted| relative to the largest |wanted| is within `tolerance`. */
void golden_assert_close(const char *name, const float *got, const float *wanted, int64_t count,
                         double tolerance);
