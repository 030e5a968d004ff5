/* Files and folders, and above all what is told apart when something is wrong with them. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

static const char *const HOME = "test_file.dir";

static int set_up(void **state) {
    (void)state;
    return seo_dir_remove(HOME) != SEO_OK || seo_dir_make(HOME) != SEO_OK;
}

static int tear_down(void **state) {
    (void)state;
    return seo_dir_remove(HOME) != SEO_OK;
}

/* HOME/name, in one of a few buffers. */
static const char *at(char out[SEO_PATH_MAX], const char *name) {
    assert_int_equal(seo_path_join(out, HOME, name), SEO_OK);
    return out;
}

static void put(const char *path, const char *text) {
    assert_int_equal(seo_file_write_atomic(path, text, (int64_t)strlen(text)), SEO_OK);
}

static void written_files_read_back(void **state) {
    (void)state;
    char path[SEO_PATH_MAX], *data = NULL;
    int64_t bytes = 0;
    at(path, "a");
    put(path, "first");
    put(path, "second!");
    assert_int_equal(seo_file_read(path, 7, &data, &bytes), SEO_OK);
    assert_int_equal(bytes, 7);
    assert_string_equal(data, "second!");
    free(data);
    assert_int_equal(seo_file_bytes(path, &bytes), SEO_OK);
    assert_int_equal(bytes, 7);
    put(path, "");
    assert_int_equal(seo_file_read(path, 0, &data, &bytes), SEO_OK);
    assert_int_equal(bytes, 0);
    assert_string_equal(data, "");
    free(data);
    seo_names names;
    assert_int_equal(seo_dir_list(HOME, &names), SEO_OK);
    assert_int_equal(names.count, 1); /* No temporary file is left. */
    seo_names_free(&names);
}

static void a_file_over_the_limit_is_refused(void **state) {
    (void)state;
    char path[SEO_PATH_MAX], *data = NULL;
    int64_t bytes = 0;
    put(at(path, "a"), "12345678");
    assert_int_equal(seo_file_read(path, 7, &data, &bytes), SEO_ERR_FORMAT);
    assert_null(data);
    assert_non_null(strstr(seo_err_detail(), path));
}

static void missing_and_unreadable_are_told_apart(void **state) {
    (void)state;
    char path[SEO_PATH_MAX], inner[SEO_PATH_MAX], loop[SEO_PATH_MAX], *data = NULL;
    int64_t bytes = 0;
    seo_map map;
    seo_path_kind kind;
    at(path, "none");
    assert_int_equal(seo_file_read(path, 9, &data, &bytes), SEO_ERR_MISSING);
    assert_int_equal(seo_map_open(path, &map), SEO_ERR_MISSING);
    assert_int_equal(seo_file_bytes(path, &bytes), SEO_ERR_MISSING);
    assert_int_equal(seo_path_look(path, &kind), SEO_OK);
    assert_int_equal(kind, SEO_PATH_NONE);
    put(at(path, "file"), "x");
    at(inner, "file/below");
    assert_int_equal(seo_file_read(inner, 9, &data, &bytes), SEO_ERR_IO);
    assert_int_equal(seo_path_look(inner, &kind), SEO_ERR_IO);
    assert_int_equal(symlink("loop", at(loop, "loop")), 0);
    assert_int_equal(seo_file_read(loop, 9, &data, &bytes), SEO_ERR_IO);
    assert_int_equal(seo_path_look(loop, &kind), SEO_ERR_IO);
    assert_int_equal(seo_file_read(HOME, 9, &data, &bytes), SEO_ERR_IO);
    assert_int_equal(seo_file_bytes(HOME, &bytes), SEO_ERR_IO);
    assert_int_equal(seo_path_look(HOME, &kind), SEO_OK);
    assert_int_equal(kind, SEO_PATH_DIR);
}

static void a_pipe_is_refused_and_not_waited_for(void **state) {
    (void)state;
    char path[SEO_PATH_MAX], *data = NULL;
    int64_t bytes = 0;
    assert_int_equal(mkfifo(at(path, "pipe"), 0600), 0);
    assert_int_equal(seo_file_read(path, 9, &data, &bytes), SEO_ERR_IO);
}

/* The superuser may do everything, so these run as nobody. */
static void permissions_are_io_errors(void **state) {
    (void)state;
    char path[SEO_PATH_MAX], folder[SEO_PATH_MAX], *data = NULL;
    int64_t bytes = 0;
    seo_path_kind kind;
    seo_names names;
    put(at(path, "secret"), "x");
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(seo_dir_make(at(folder, "closed")), SEO_OK);
    assert_int_equal(chmod(folder, 0), 0);
    bool superuser = geteuid() == 0;
    if (superuser) {
        enum { NOBODY = 65534 };
        assert_int_equal(seteuid(NOBODY), 0);
    }
    seo_err read = seo_file_read(path, 9, &data, &bytes);
    seo_err list = seo_dir_list(folder, &names);
    seo_err make = seo_dir_make("test_file.dir/closed/more");
    seo_err look = seo_path_look("test_file.dir/closed/more", &kind);
    seo_err write = seo_file_write_atomic("test_file.dir/closed/new", "x", 1);
    if (superuser) assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(read, SEO_ERR_IO);
    assert_int_equal(list, SEO_ERR_IO);
    assert_int_equal(make, SEO_ERR_IO);
    assert_int_equal(look, SEO_ERR_IO);
    assert_int_equal(write, SEO_ERR_IO);
}

static void a_failed_write_leaves_the_old_file(void **state) {
    (void)state;
    char path[SEO_PATH_MAX];
    int64_t bytes = 0;
    assert_int_equal(seo_dir_make(at(path, "taken")), SEO_OK);
    assert_int_equal(seo_file_write_atomic(path, "x", 1), SEO_ERR_IO); /* A folder stands there. */
    seo_names names;
    assert_int_equal(seo_dir_list(HOME, &names), SEO_OK);
    assert_int_equal(names.count, 1);
    seo_names_free(&names);
    assert_int_equal(seo_file_write_atomic(at(path, "no/such"), "x", 1), SEO_ERR_MISSING);
    assert_int_equal(seo_file_bytes(path, &bytes), SEO_ERR_MISSING);
}

/* A file size limit stands for the full disk: write() fails in the middle. */
static void a_write_that_stops_half_way_leaves_the_old_file(void **state) {
    (void)state;
    char path[SEO_PATH_MAX], *data = NULL;
    static char big[100000];
    int64_t bytes = 0;
    struct rlimit before, small;
    put(at(path, "a"), "old");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    seo_err err = seo_file_write_atomic(path, big, sizeof big);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(err, SEO_ERR_IO);
    assert_int_equal(seo_file_read(path, 9, &data, &bytes), SEO_OK);
    assert_string_equal(data, "old");
    free(data);
    seo_names names;
    assert_int_equal(seo_dir_list(HOME, &names), SEO_OK);
    assert_int_equal(names.count, 1);
    seo_names_free(&names);
}

static void folders_list_sorted_by_bytes(void **state) {
    (void)state;
    static const char *const expected[] = {".hidden", "A", "a", "a.b", "b", "\xed\x95\x9c"};
    static const char *const order[] = {"b", "\xed\x95\x9c", "a", "A", ".hidden", "a.b"};
    char path[SEO_PATH_MAX];
    seo_names names;
    for (int i = 0; i < 6; i++) put(at(path, order[i]), "x");
    assert_int_equal(seo_dir_list(HOME, &names), SEO_OK);
    assert_int_equal(names.count, 6);
    for (int i = 0; i < 6; i++) assert_string_equal(names.items[i], expected[i]);
    seo_names_free(&names);
    assert_int_equal(seo_dir_list(at(path, "none"), &names), SEO_ERR_MISSING);
    assert_int_equal(seo_dir_list(at(path, "a"), &names), SEO_ERR_IO);
}

static void folders_are_made_with_parents_and_removed_whole(void **state) {
    (void)state;
    char deep[SEO_PATH_MAX], top[SEO_PATH_MAX], link[SEO_PATH_MAX], kept[SEO_PATH_MAX];
    seo_path_kind kind;
    assert_int_equal(seo_dir_make(at(deep, "x//y/z/")), SEO_OK);
    assert_int_equal(seo_dir_make(deep), SEO_OK);
    assert_int_equal(seo_dir_make(at(top, "kept")), SEO_OK);
    put(at(kept, "kept/file"), "x");
    assert_int_equal(seo_dir_make("test_file.dir/kept/file/under"), SEO_ERR_IO);
    assert_int_equal(symlink("../../kept", at(link, "x/y/link")), 0);
    assert_int_equal(seo_dir_remove(link), SEO_ERR_IO);
    assert_int_equal(seo_dir_remove(at(top, "x")), SEO_OK);
    assert_int_equal(seo_path_look(top, &kind), SEO_OK);
    assert_int_equal(kind, SEO_PATH_NONE);
    assert_int_equal(seo_path_look(kept, &kind), SEO_OK);
    assert_int_equal(kind, SEO_PATH_FILE);
    assert_int_equal(seo_dir_remove(top), SEO_OK);
    assert_int_equal(seo_dir_remove(kept), SEO_ERR_IO);
    assert_int_not_equal(seo_dir_make(""), SEO_OK);
}

static void maps_show_the_bytes(void **state) {
    (void)state;
    char path[SEO_PATH_MAX];
    seo_map map;
    put(at(path, "a"), "hello");
    assert_int_equal(seo_map_open(path, &map), SEO_OK);
    assert_int_equal(map.bytes, 5);
    assert_memory_equal(map.data, "hello", 5);
    seo_map_close(&map);
    assert_null(map.data);
    put(path, "");
    assert_int_equal(seo_map_open(path, &map), SEO_OK);
    assert_null(map.data);
    assert_int_equal(map.bytes, 0);
    seo_map_close(&map);
    assert_int_equal(seo_map_open(HOME, &map), SEO_ERR_IO);
}

static void paths_join_once(void **state) {
    (void)state;
    char out[SEO_PATH_MAX], longest[SEO_PATH_MAX];
    assert_int_equal(seo_path_join(out, "a", "b"), SEO_OK);
    assert_string_equal(out, "a/b");
    assert_int_equal(seo_path_join(out, "/", "b"), SEO_OK);
    assert_string_equal(out, "/b");
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_not_equal(seo_path_join(out, longest, "b"), SEO_OK);
}

static void syncing_and_renaming_name_the_path(void **state) {
    (void)state;
    char from[SEO_PATH_MAX], to[SEO_PATH_MAX];
    put(at(from, "from"), "x");
    assert_int_equal(seo_file_sync(from), SEO_OK);
    assert_int_equal(seo_dir_sync(HOME), SEO_OK);
    assert_int_equal(seo_dir_sync(from), SEO_ERR_IO);
    assert_int_equal(seo_rename(from, at(to, "to")), SEO_OK);
    assert_int_equal(seo_file_sync(from), SEO_ERR_MISSING);
    assert_int_not_equal(seo_rename(from, to), SEO_OK);
    assert_non_null(strstr(seo_err_detail(), from));
}

#define in_home(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        in_home(written_files_read_back),
        in_home(a_file_over_the_limit_is_refused),
        in_home(missing_and_unreadable_are_told_apart),
        in_home(a_pipe_is_refused_and_not_waited_for),
        in_home(permissions_are_io_errors),
        in_home(a_failed_write_leaves_the_old_file),
        in_home(a_write_that_stops_half_way_leaves_the_old_file),
        in_home(folders_list_sorted_by_bytes),
        in_home(folders_are_made_with_parents_and_removed_whole),
        in_home(maps_show_the_bytes),
        in_home(paths_join_once),
        in_home(syncing_and_renaming_name_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
