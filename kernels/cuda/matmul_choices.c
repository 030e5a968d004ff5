#include "kernels/cuda/matmul_choices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

enum { LINE_BYTES = 512, PATH_BYTES = 4096 };

static const char k_library[] = "cublaslt", k_own[] = "own";

typedef struct choice {
    char *kind;
    bool by_library;
} choice;

struct seo_matmul_choices {
    char *path;
    choice *items;
    int64_t count, capacity;
};

static seo_err remember(seo_matmul_choices *c, const char *kind, bool by_library) {
    if (c->count == c->capacity) {
        const int64_t capacity = seo_max_i64(32, 2 * c->capacity);
        choice *items = realloc(c->items, (size_t)capacity * sizeof *items);
        if (!items) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its lines", c->path);
        c->items = items;
        c->capacity = capacity;
    }
    char *copy = strdup(kind);
    if (!copy) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its lines", c->path);
    c->items[c->count++] = (choice){.kind = copy, .by_library = by_library};
    return SEO_OK;
}

/* "kind<tab>own" or "kind<tab>cublaslt", with its end of line. */
static seo_err read_line(seo_matmul_choices *c, char *line, int64_t number) {
    char *tab = strchr(line, '\t'), *end = strchr(line, '\n');
    if (end) *end = '\0';
    const bool own = tab && strcmp(tab + 1, k_own) == 0;
    const bool library = tab && strcmp(tab + 1, k_library) == 0;
    if (!end || tab == line || (!own && !library)) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s:%lld: not a choice of a matrix product; with the line removed it is "
                        "chosen anew, and what follows may differ in the last bits",
                        c->path, (long long)number);
    }
    *tab = '\0';
    return remember(c, line, library);
}

static seo_err read_lines(seo_matmul_choices *c, FILE *file) {
    char line[LINE_BYTES];
    seo_err err = SEO_OK;
    for (int64_t n = 1; err == SEO_OK && fgets(line, sizeof line, file); n++) {
        err = read_line(c, line, n);
    }
    if (err == SEO_OK && ferror(file)) err = SEO_FAIL(SEO_ERR_IO, "%s: cannot be read", c->path);
    return err;
}

seo_err seo_matmul_choices_open(const char *path, seo_matmul_choices **out) {
    seo_err err = SEO_OK;
    FILE *file = NULL;
    *out = NULL;
    seo_matmul_choices *c = calloc(1, sizeof *c);
    if (c) c->path = strdup(path);
    if (!c || !c->path) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its lines", path);
        goto done;
    }
    file = fopen(path, "r");
    if (file) {
        SEO_TRY(read_lines(c, file));
    } else if (errno != ENOENT) {
        err = SEO_FAIL(SEO_ERR_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    *out = c;
    c = NULL;
done:
    if (file) (void)fclose(file);
    seo_matmul_choices_close(c);
    return err;
}

void seo_matmul_choices_close(seo_matmul_choices *c) {
    if (!c) return;
    for (int64_t i = 0; i < c->count; i++) free(c->items[i].kind);
    free(c->items);
    free(c->path);
    free(c);
}

bool seo_matmul_choices_find(const seo_matmul_choices *c, const char *kind, bool *by_library) {
    for (int64_t i = 0; c && i < c->count; i++) {
        if (strcmp(c->items[i].kind, kind) != 0) continue;
        *by_library = c->items[i].by_library;
        return true;
    }
    return false;
}

/* All lines to a temporary file that then takes the place of the old one: a process that is killed
 * on the way leaves either whole. */
static bool write_lines(const seo_matmul_choices *c) {
    char temporary[PATH_BYTES];
    const int length = snprintf(temporary, sizeof temporary, "%s.tmp", c->path);
    if (length < 0 || (size_t)length >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return false;
    }
    FILE *file = fopen(temporary, "w");
    if (!file) return false;
    bool written = true;
    for (int64_t i = 0; i < c->count; i++) {
        const char *whose = c->items[i].by_library ? k_library : k_own;
        written = fprintf(file, "%s\t%s\n", c->items[i].kind, whose) > 0 && written;
    }
    written = fflush(file) == 0 && fsync(fileno(file)) == 0 && written;
    written = fclose(file) == 0 && written;
    return written && rename(temporary, c->path) == 0;
}

seo_err seo_matmul_choices_add(seo_matmul_choices *c, const char *kind, bool by_library) {
    SEO_ASSERT(kind[0] != '\0' && !strpbrk(kind, "\t\n") && strlen(kind) + 16 < LINE_BYTES);
    const seo_err err = remember(c, kind, by_library);
    if (err != SEO_OK || write_lines(c)) return err;
    return SEO_FAIL(SEO_ERR_IO, "%s: %s", c->path, strerror(errno));
}
