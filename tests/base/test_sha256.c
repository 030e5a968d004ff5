/* SHA-256: the standard's examples, and the processor's instructions against the portable way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"

/* The hash of data, in pieces of `piece` bytes. */
static void hash(const void *data, size_t bytes, size_t piece, bool portable, char *out) {
    seo_sha256 s;
    seo_sha256_init(&s);
    if (portable) s.hardware = false;
    for (size_t at = 0; at < bytes; at += piece) {
        seo_sha256_add(&s, (const char *)data + at, bytes - at < piece ? bytes - at : piece);
    }
    seo_sha256_end_hex(&s, out);
}

static void examples_of_the_standard(void **state) {
    (void)state;
    char hex[SEO_SHA256_HEX];
    for (int portable = 0; portable < 2; portable++) {
        hash("", 0, 1, portable, hex);
        assert_string_equal(hex,
                            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        hash("abc", 3, 3, portable, hex);
        assert_string_equal(hex,
                            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 56, portable, hex);
        assert_string_equal(hex,
                            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    }
}

static void a_million_letters(void **state) {
    (void)state;
    char hex[SEO_SHA256_HEX];
    char *letters = malloc(1000000);
    assert_non_null(letters);
    memset(letters, 'a', 1000000);
    for (int portable = 0; portable < 2; portable++) {
        hash(letters, 1000000, 1000000, portable, hex);
        assert_string_equal(hex,
                            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
    free(letters);
}

static void both_ways_and_all_pieces_agree(void **state) {
    (void)state;
    unsigned char data[300];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 37 + 11);
    for (size_t bytes = 0; bytes <= sizeof data; bytes++) {
        char portable[SEO_SHA256_HEX], pieces[SEO_SHA256_HEX], whole[SEO_SHA256_HEX];
        hash(data, bytes, bytes + 1, true, portable);
        hash(data, bytes, 1 + bytes % 67, false, pieces);
        seo_sha256_hex(data, bytes, whole);
        assert_string_equal(portable, pieces);
        assert_string_equal(portable, whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_standard),
        cmocka_unit_test(a_million_letters),
        cmocka_unit_test(both_ways_and_all_pieces_agree),
    };
    return cmocka_run_group_tests_name("base.sha256", tests, NULL, NULL);
}
