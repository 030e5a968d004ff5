/* Checkpoints from outside: the manifest's text, with and without a right hash of its own, and a
 * whole checkpoint with bytes of one file changed.
 *
 * The first byte of the input chooses: '0' the rest is a manifest, sealed here, so that the parser
 * behind the hash is reached; '1' the rest is a manifest as it stands; else the rest is a list of
 * changes (file, place, bits) to a good checkpoint, which must then be refused. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "train/checkpoint.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES = 4, CHANGE_BYTES = 4, CHANGES_MAX = 16 };

static const char *const names[FILES] = {"part-0000-of-0002.h5", "part-0001-of-0002.h5",
                                         SEO_CKPT_CONFIG, SEO_CKPT_MANIFEST};

/* A good checkpoint of two parts, made at the first need. */
static struct {
    char above[SEO_PATH_MAX];
    char run[SEO_PATH_MAX];
    char paths[FILES][SEO_PATH_MAX];
    char *bytes[FILES];
    int64_t sizes[FILES];
} g_good;

static void remove_good(void) {
    seo_dir_remove(g_good.above);
    for (int i = 0; i < FILES; i++) free(g_good.bytes[i]);
}

static void make_good(void) {
    float values[6] = {1, 2, 3, 4, 5, 6};
    const seo_ckpt_tensor tensors[] = {
        {.name = "parameters/w", .rank = 2, .dims = {2, 3}, .data = values},
        {.name = "moment1/w", .rank = 2, .dims = {2, 3}, .data = values}};
    const seo_ckpt_snapshot snapshot = {
        .state = {.step = 1}, .tensors = tensors, .tensor_count = 2, .config_yaml = "a: 1\n"};
    char folder[SEO_PATH_MAX];
    const seo_log_options quiet = {.level = SEO_LOG_QUIET};
    seo_log_setup(&quiet);
    snprintf(g_good.above, sizeof g_good.above, "/dev/shm/seodang-fuzz-XXXXXX");
    if (!mkdtemp(g_good.above)) {
        snprintf(g_good.above, sizeof g_good.above, "/tmp/seodang-fuzz-XXXXXX");
        SEO_ASSERT(mkdtemp(g_good.above));
    }
    SEO_ASSERT(seo_path_join(g_good.run, g_good.above, "two") == SEO_OK);
    atexit(remove_good);
    SEO_ASSERT(seo_ckpt_save(g_good.above, 0, NULL, &snapshot) == SEO_OK);
    SEO_ASSERT(seo_ckpt_reshard(g_good.above, g_good.run, 2) == SEO_OK);
    SEO_ASSERT(seo_path_join(folder, g_good.run, SEO_CKPT_FOLDER "/step-00000001") == SEO_OK);
    for (int i = 0; i < FILES; i++) {
        SEO_ASSERT(seo_path_join(g_good.paths[i], folder, names[i]) == SEO_OK);
        SEO_ASSERT(seo_file_read(g_good.paths[i], 1 << 24, &g_good.bytes[i], &g_good.sizes[i]) ==
                   SEO_OK);
    }
}

static void parse(const void *text, size_t bytes) {
    seo_ckpt_manifest manifest;
    if (seo_ckpt_manifest_parse("fuzz", text, bytes, &manifest) == SEO_OK) {
        /* What it accepts, it writes and accepts again. */
        seo_buf again = {0};
        seo_ckpt_manifest twin;
        SEO_ASSERT(seo_ckpt_manifest_write(&manifest, &again) == SEO_OK);
        SEO_ASSERT(seo_ckpt_manifest_parse("twin", again.data, again.bytes, &twin) == SEO_OK);
        SEO_ASSERT(twin.entry_count == manifest.entry_count);
        seo_ckpt_manifest_free(&twin);
        seo_buf_free(&again);
    }
    seo_ckpt_manifest_free(&manifest);
}

static void parse_sealed(const uint8_t *data, size_t size) {
    seo_buf text = {0};
    seo_buf_add(&text, data, size);
    seo_ckpt_manifest_seal(&text);
    if (!text.failed) parse(text.data, text.bytes);
    seo_buf_free(&text);
}

static void write_at(const char *path, const void *data, size_t bytes, int64_t at) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    SEO_ASSERT(fd >= 0 && pwrite(fd, data, bytes, at) == (ssize_t)bytes);
    close(fd);
}

static void open_changed(const uint8_t *data, size_t size) {
    char *changed[FILES] = {0};
    bool differs = false;
    for (int i = 0; i < FILES; i++) {
        changed[i] = malloc((size_t)g_good.sizes[i]);
        SEO_ASSERT(changed[i]);
        memcpy(changed[i], g_good.bytes[i], (size_t)g_good.sizes[i]);
    }
    for (size_t i = 0; i + CHANGE_BYTES <= size && i < CHANGES_MAX * CHANGE_BYTES;
         i += CHANGE_BYTES) {
        int file = data[i] % FILES;
        changed[file][(data[i + 1] << 8 | data[i + 2]) % g_good.sizes[file]] ^= (char)data[i + 3];
    }
    for (int i = 0; i < FILES; i++) {
        differs |= memcmp(changed[i], g_good.bytes[i], (size_t)g_good.sizes[i]) != 0;
        write_at(g_good.paths[i], changed[i], (size_t)g_good.sizes[i], 0);
        free(changed[i]);
    }
    seo_ckpt *ckpt;
    seo_err err = seo_ckpt_open(g_good.run, NULL, &ckpt);
    SEO_ASSERT(err == (differs ? SEO_ERR_FORMAT : SEO_OK));
    seo_ckpt_close(ckpt);
    for (int i = 0; i < FILES; i++) {
        write_at(g_good.paths[i], g_good.bytes[i], (size_t)g_good.sizes[i], 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (g_good.run[0] == '\0') make_good();
    if (size == 0) return 0;
    if (data[0] == '0') {
        parse_sealed(data + 1, size - 1);
    } else if (data[0] == '1') {
        parse(data + 1, size - 1);
    } else {
        open_changed(data + 1, size - 1);
    }
    return 0;
}
