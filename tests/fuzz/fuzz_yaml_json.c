/* Whatever bytes come, YAML and JSON are read or refused, and what was read can be walked. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t walk(const seo_yaml *doc, seo_yaml_node *node, seo_buf *out) {
    int64_t nodes = 1;
    seo_yaml_kind kind = seo_yaml_kind_of(node);
    if (seo_yaml_where(doc, node).line < 1 || seo_yaml_where(doc, node).column < 1) abort();
    if ((kind == SEO_YAML_SCALAR) != (seo_yaml_text(node) != NULL)) abort();
    for (int64_t i = 0; i < seo_yaml_count(node); i++) {
        if (kind == SEO_YAML_LIST) {
            nodes += walk(doc, seo_yaml_item(node, i), out);
        } else {
            if (seo_yaml_text(seo_yaml_key(node, i)) == NULL) abort();
            nodes += walk(doc, seo_yaml_value(node, i), out);
        }
    }
    /* One report in a while: each reads the text up to its line. */
    if (nodes % 7 == 1 && out->bytes < 20000) seo_yaml_report(doc, node, out, "%s", "here");
    return nodes;
}

static void read_yaml(const char *text, size_t size) {
    seo_yaml *doc = NULL;
    if (seo_yaml_parse("fuzz", text, size, &doc) != SEO_OK) {
        if (doc != NULL || seo_err_detail()[0] == '\0') abort();
        return;
    }
    seo_buf out = {0};
    if (seo_yaml_root(doc) != NULL) walk(doc, seo_yaml_root(doc), &out);
    seo_buf_free(&out);
    seo_yaml_free(doc);
}

static void read_json(const char *text, size_t size) {
    json_t *root = NULL;
    int64_t n = 0;
    if (seo_json_parse("fuzz", text, size, &root) != SEO_OK) {
        if (root != NULL) abort();
        return;
    }
    if (seo_json_int(root, "fuzz", "n", 0, 100, &n) == SEO_OK && (n < 0 || n > 100)) abort();
    json_decref(root);
}

/* The text as an amount and as a JSON string that must read back. */
static void read_text(const char *text, size_t size) {
    int64_t n = 0;
    double x = 0;
    char *copy = strndup(text, size);
    if (copy == NULL) return;
    (void)seo_parse_int(copy, &n);
    (void)seo_parse_bytes(copy, &n);
    (void)seo_parse_seconds(copy, &x);
    (void)seo_parse_float(copy, &x);
    free(copy);
    seo_buf quoted = {0};
    seo_buf_text(&quoted, "[");
    seo_buf_json_string(&quoted, text, size);
    seo_buf_text(&quoted, "]");
    json_t *back = json_loadb(quoted.data, quoted.bytes, JSON_ALLOW_NUL, NULL);
    if (back == NULL) abort();
    json_decref(back);
    seo_buf_free(&quoted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    read_yaml(text, size);
    read_json(text, size);
    read_text(text, size);
    return 0;
}
