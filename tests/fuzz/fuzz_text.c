/* Whatever bytes a text file holds, packed or not, its documents are read or the file is refused.
 * The first byte of the input picks the file's ending, the rest is its content. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const g_endings[] = {"txt",     "jsonl",    "txt.gz",
                                        "txt.zst", "jsonl.gz", "jsonl.zst"};
enum { ENDINGS = 6, PLAIN = 0 };

static char g_folder[64];

static void leave(void) {
    (void)seo_dir_remove(g_folder);
}

/* One folder a process, so that two runs do not meet. */
static void enter(void) {
    if (g_folder[0] != '\0') return;
    const char *home =
        access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "."; /* Memory is far quicker. */
    snprintf(g_folder, sizeof g_folder, "%s/seodang-fuzz-text.%ld", home, (long)getpid());
    if (seo_dir_make(g_folder) != SEO_OK) abort();
    atexit(leave);
}

static void write_plainly(const char *path, const uint8_t *data, size_t size) {
    FILE *file = fopen(path, "we");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
}

/* The documents as one hash and the error the reading ended with. */
static seo_err read_all(const char *path, int ending, char hex[SEO_SHA256_HEX]) {
    seo_text *text = NULL;
    seo_text_document document;
    seo_sha256 sum;
    int64_t count = 0, bytes = 0;
    seo_sha256_init(&sum);
    seo_err err = seo_text_open(&path, 1, NULL, &text);
    if (err != SEO_OK) return err;
    while ((err = seo_text_next(text, &document)) == SEO_OK && document.data != NULL) {
        if (document.bytes <= 0 || document.source != 0) abort();
        bool json = strncmp(g_endings[ending], "jsonl", 5) == 0;
        if (json &&
            (document.line < 1 || seo_utf8_first_bad(document.data, (size_t)document.bytes) >= 0))
            abort();
        seo_sha256_add(&sum, document.data, (size_t)document.bytes);
        count++;
        bytes += document.bytes;
    }
    seo_text_counters counters = seo_text_counters_get(text);
    if (counters.documents != count || counters.text_bytes != bytes) abort();
    if (err != SEO_OK && strstr(seo_err_detail(), path) == NULL) abort();
    seo_text_close(text);
    seo_sha256_end_hex(&sum, hex);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[SEO_PATH_MAX], first[SEO_SHA256_HEX] = "", again[SEO_SHA256_HEX] = "";
    if (size == 0) return 0;
    enter();
    int ending = data[0] % ENDINGS;
    snprintf(path, sizeof path, "%s/input.%s", g_folder, g_endings[ending]);
    write_plainly(path, data + 1, size - 1);
    seo_err err = read_all(path, ending, first);
    if (err != read_all(path, ending, again) || strcmp(first, again) != 0) abort();
    if (ending == PLAIN) {
        seo_sha256_hex(data + 1, size - 1, again);
        if (err != SEO_OK || strcmp(first, again) != 0) abort();
    }
    return 0;
}
