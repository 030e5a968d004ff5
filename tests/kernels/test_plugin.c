/* What stands where a plug-in is looked for and is none: told, and never handed to the dynamic
 * loader, which a file that was cut short would kill with SIGBUS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/file.h"
#include "kernels/plugin.h"

static char g_folder[] = "/tmp/seodang-plugin-XXXXXX";
static char g_path[sizeof g_folder + 16];

static seo_err open_mpi(const char *path) {
    seo_comm *comm = NULL;
    const seo_err err = seo_comm_open_mpi(&(seo_comm_mpi_options){.plugin = path}, &comm);
    assert_null(comm);
    return err;
}

static void put(const void *data, int64_t bytes) {
    FILE *file = fopen(g_path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, (size_t)bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void refused_as_no_plugin(const char *path) {
    assert_int_equal(open_mpi(path), SEO_ERR_UNSUPPORTED);
    assert_non_null(strstr(seo_err_detail(), path));
    assert_non_null(strstr(seo_err_detail(), "not a shared object"));
}

static void refused_as_damaged(void) {
    assert_int_equal(open_mpi(g_path), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), g_path));
    assert_non_null(strstr(seo_err_detail(), "copied only in part"));
}

static void nothing_there(void **state) {
    (void)state;
    assert_int_equal(open_mpi("/no/such/plug-in.so"), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "configure and build again"));
    refused_as_no_plugin(g_folder);
}

/* This program is a whole shared object, though nobody's plug-in: cut anywhere it is refused before
 * it is loaded, whole it comes to the loader. */
static void cut_short(void **state) {
    (void)state;
    char *data = NULL;
    int64_t bytes = 0;
    assert_int_equal(seo_file_read("/proc/self/exe", INT64_C(1) << 30, &data, &bytes), SEO_OK);
    for (int64_t cut = 0; cut < bytes; cut += 1 + bytes / 97) {
        put(data, cut);
        refused_as_damaged();
    }
    put(data, bytes - 1);
    refused_as_damaged();
    put(data, bytes);
    assert_int_equal(open_mpi(g_path), SEO_ERR_UNSUPPORTED);
    free(data);
}

/* Headers that point outside, with numbers that overflow when they are added. */
static void bad_headers(void **state) {
    (void)state;
    char *data = NULL;
    int64_t bytes = 0;
    assert_int_equal(seo_file_read("/proc/self/exe", INT64_C(1) << 30, &data, &bytes), SEO_OK);
    /* Of an ELF64 header: where parts and sections are listed. */
    static const int64_t places[] = {32, 40};
    for (int64_t i = 0; i < SEO_COUNT_OF(places); i++) {
        uint64_t before;
        const uint64_t beyond = UINT64_MAX - 8;
        memcpy(&before, data + places[i], sizeof before);
        memcpy(data + places[i], &beyond, sizeof beyond);
        put(data, bytes);
        refused_as_damaged();
        memcpy(data + places[i], &before, sizeof before);
    }
    put("not a program\n", 14);
    refused_as_no_plugin(g_path);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_there),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(bad_headers),
    };
    if (!mkdtemp(g_folder)) return 1;
    snprintf(g_path, sizeof g_path, "%s/plug-in.so", g_folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(g_path);
    rmdir(g_folder);
    return failed;
}
